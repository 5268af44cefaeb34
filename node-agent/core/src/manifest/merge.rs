//! YAML's merge keys: `<<: *base` gives a mapping what it does not say itself.

use serde_yaml_ng::{Mapping, Value};

const KEY: &str = "<<";

/// The same without merge keys. Of several mappings the first that has a field gives it; what a mapping was merged from itself
/// is its own (which the library's `apply_merge` leaves as a `<<` in the result).
pub(super) fn merged(value: Value) -> Result<Value, String> {
    match value {
        Value::Mapping(mut mapping) => {
            let base = mapping.shift_remove(KEY);
            let own = mapping.into_iter().map(|(key, value)| Ok((key, merged(value)?)));
            let mut own = own.collect::<Result<Mapping, String>>()?;
            for (key, value) in bases(base)?.into_iter().flatten() {
                own.entry(key).or_insert(value);
            }
            Ok(Value::Mapping(own))
        }
        Value::Sequence(items) => items.into_iter().map(merged).collect::<Result<_, _>>().map(Value::Sequence),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Tagged(_)) => Ok(scalar),
    }
}

fn bases(base: Option<Value>) -> Result<Vec<Mapping>, String> {
    let all = match base {
        None => Vec::new(),
        Some(Value::Sequence(several)) => several,
        Some(one) => vec![one],
    };
    let each = all.into_iter().map(|base| {
        let Value::Mapping(mapping) = merged(base)? else {
            return Err(format!("{KEY} takes a mapping, or a list of them"));
        };
        Ok(mapping)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_says_itself_what_its_bases_say_too_and_the_first_base_is_before_the_next() {
        for (text, expected) in [
            ("{<<: {a: 1, b: 2}, b: 3}", "{a: 1, b: 3}"),
            ("{b: 3, <<: {a: 1, b: 2}}", "{a: 1, b: 3}"),
            ("{<<: [{a: 1, b: 1}, {b: 2, c: 2}]}", "{a: 1, b: 1, c: 2}"),
            ("{<<: [{<<: {a: 1}}, {a: 2}]}", "{a: 1}"),
            ("[{x: {<<: {<<: {a: {<<: {b: 1}}}}}}]", "[{x: {a: {b: 1}}}]"),
            ("{p: &p {a: 1}, q: &q {<<: *p, b: 2}, r: {<<: *q}}", "{p: {a: 1}, q: {a: 1, b: 2}, r: {a: 1, b: 2}}"),
            ("{<<: []}", "{}"),
        ] {
            let read = |text: &str| serde_yaml_ng::from_str::<Value>(text).unwrap();
            assert_eq!(merged(read(text)), Ok(read(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_mapping_cannot_be_merged() {
        for text in ["{<<: a}", "{<<: }", "{<<: [{}, 1]}", "{x: [{<<: [[{}]]}]}"] {
            let error = merged(serde_yaml_ng::from_str(text).unwrap()).unwrap_err();
            assert_eq!(error, "<< takes a mapping, or a list of them", "{text}");
        }
    }
}
