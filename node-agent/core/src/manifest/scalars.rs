//! Octal numbers and spelt-out booleans. Kubernetes reads manifests as YAML 1.1, where `0400` is a number and `yes` is true; our parser
//! reads 1.2, where both are text. So text of that form is taken where the type of a field asks for a number or a boolean, and stays
//! text where it asks for text.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// A manifest's value, to be read into a type.
pub(super) struct Scalars(pub(super) Value);

impl<'de> Deserializer<'de> for Scalars {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(fields) => {
                visitor.visit_map(MapDeserializer::new(fields.into_iter().map(|(name, value)| (name, Self(value)))))
            }
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Self))),
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                scalar.deserialize_any(visitor)
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.as_str().and_then(boolean) {
            Some(value) => visitor.visit_bool(value),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.as_str().and_then(octal) {
            Some(value) => visitor.visit_i64(value),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    // The types of these objects have no other numbers, and no enums.
    forward_to_deserialize_any! {
        i8 i16 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct enum
        identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Scalars {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Those of YAML 1.1 that 1.2 has no longer, but `y` and `n`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn octal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('0').filter(|digits| digits.bytes().all(|byte| matches!(byte, b'0'..=b'7')))?;
    i64::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, String> {
        T::deserialize(Scalars(value)).map_err(|error| error.to_string())
    }

    #[test]
    fn text_is_a_number_or_a_boolean_where_one_is_asked_for() {
        for (text, number) in [("0400", Some(0o400)), ("00", Some(0)), ("07", Some(7))] {
            assert_eq!(read::<Option<i32>>(json!(text)), Ok(number), "{text}");
        }
        for text in ["400", "0", "08", "0x1f", "-0400", "0+7", "0 7", "", "07777777777777", "yes"] {
            assert!(read::<i32>(json!(text)).is_err(), "{text}");
        }
        assert_eq!(read(json!("07777777777777")), Ok(0o7_777_777_777_777_i64));
        assert!(read::<i64>(json!("07777777777777777777777777")).is_err());
        for (text, truth) in [("yes", true), ("On", true), ("NO", false), ("off", false)] {
            let inside = vec![BTreeMap::from([("a".to_owned(), truth)])];
            assert_eq!(read(json!([{ "a": text }])), Ok(inside));
            assert_eq!(read(json!(text)), Ok(text.to_owned()));
        }
        for text in ["yEs", "y", "true", "1", ""] {
            assert!(read::<bool>(json!(text)).is_err(), "{text}");
        }
        assert_eq!(read(json!({ "a": ["0400", 1, null, true] })), Ok(json!({ "a": ["0400", 1, null, true] })));
    }
}
