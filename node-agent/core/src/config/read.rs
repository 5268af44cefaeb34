//! One mapping of the file, read field by field; what nobody asked for is left over and told.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ConfigError;
use crate::quantity::Amount;
use crate::resources::ResourceList;

/// A mapping, by its path in the file.
pub(super) struct Section {
    path: String,
    fields: Map<String, Value>,
    /// Paths of fields that belong to no one.
    left_over: Vec<String>,
}

impl Section {
    /// The whole file.
    pub(super) fn document(text: &str) -> Result<Self, ConfigError> {
        let error = |reason: String| ConfigError { field: "(document)".to_owned(), reason };
        // By way of YAML's own value, which refuses a field that is there twice.
        let yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|cause| error(cause.to_string()))?;
        let value = serde_json::to_value(yaml).map_err(|cause| error(cause.to_string()))?;
        if let Value::Object(fields) = value {
            return Ok(Self { path: String::new(), fields, left_over: Vec::new() });
        }
        Err(error(format!("expected a mapping, found {}", kind(&value))))
    }

    /// A mapping inside; empty when it is not there.
    pub(super) fn section(&mut self, field: &str) -> Result<Self, ConfigError> {
        let fields = match self.take(field) {
            None => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(other) => return Err(self.wrong(field, "a mapping", &other)),
        };
        Ok(Self { path: self.path_of(field), fields, left_over: Vec::new() })
    }

    /// Hands what is left over to the section that tells it.
    pub(super) fn rest_into(self, parent: &mut Self) {
        let own = self.fields.keys().map(|field| self.path_of(field));
        parent.left_over.extend(self.left_over.iter().cloned().chain(own));
    }

    /// One line for each field that nobody asked for, in the order of their paths.
    pub(super) fn warnings(mut self) -> Vec<String> {
        let own: Vec<_> = self.fields.keys().map(|field| self.path_of(field)).collect();
        self.left_over.extend(own);
        self.left_over.sort();
        self.left_over.into_iter().map(|path| format!("{path}: unknown or not honoured by this node")).collect()
    }

    pub(super) fn error(&self, field: &str, reason: String) -> ConfigError {
        ConfigError { field: self.path_of(field), reason }
    }

    pub(super) fn text(&mut self, field: &str) -> Result<Option<String>, ConfigError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(field, "text", &other)),
        }
    }

    /// Empty text says nothing, as in the kubelet's own defaults.
    fn some_text(&mut self, field: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.text(field)?.filter(|text| !text.is_empty()))
    }

    pub(super) fn path(&mut self, field: &str) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.some_text(field)?.map(PathBuf::from))
    }

    pub(super) fn boolean(&mut self, field: &str) -> Result<Option<bool>, ConfigError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(self.wrong(field, "true or false", &other)),
        }
    }

    pub(super) fn whole(&mut self, field: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ConfigError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        let Some(number) = value.as_i64() else { return Err(self.wrong(field, "a whole number", &value)) };
        if range.contains(&number) {
            return Ok(Some(number));
        }
        Err(self.error(field, format!("{number} is not between {} and {}", range.start(), range.end())))
    }

    pub(super) fn count(&mut self, field: &str) -> Result<Option<u32>, ConfigError> {
        let number = self.whole(field, 0..=i64::from(i32::MAX))?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    pub(super) fn port(&mut self, field: &str) -> Result<Option<u16>, ConfigError> {
        let number = self.whole(field, 0..=65535)?;
        Ok(number.and_then(|number| u16::try_from(number).ok()))
    }

    pub(super) fn address(&mut self, field: &str) -> Result<Option<IpAddr>, ConfigError> {
        let Some(text) = self.some_text(field)? else { return Ok(None) };
        self.parse_address(field, &text).map(Some)
    }

    pub(super) fn addresses(&mut self, field: &str) -> Result<Option<Vec<IpAddr>>, ConfigError> {
        let Some(list) = self.object::<Vec<String>>(field)? else { return Ok(None) };
        list.iter().map(|text| self.parse_address(field, text)).collect::<Result<_, _>>().map(Some)
    }

    fn parse_address(&self, field: &str, text: &str) -> Result<IpAddr, ConfigError> {
        text.parse().map_err(|_| self.error(field, format!("expected an IP address, found {text:?}")))
    }

    pub(super) fn duration(&mut self, field: &str) -> Result<Option<Duration>, ConfigError> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        match go_duration(&text) {
            Some(duration) => Ok(Some(duration)),
            None => Err(self.error(field, format!("expected a duration such as \"1m30s\", found {text:?}"))),
        }
    }

    pub(super) fn bytes(&mut self, field: &str) -> Result<Option<u64>, ConfigError> {
        let Some(text) = self.some_text(field)? else { return Ok(None) };
        let amount = Amount::parse(&text).map_err(|error| self.error(field, error.to_string()))?;
        match u64::try_from(amount.value()) {
            Ok(bytes) if bytes > 0 => Ok(Some(bytes)),
            Ok(_) | Err(_) => Err(self.error(field, format!("{text:?} is not more than nothing"))),
        }
    }

    pub(super) fn resources(&mut self, field: &str) -> Result<Option<ResourceList>, ConfigError> {
        let mut section = self.section(field)?;
        if section.fields.is_empty() {
            return Ok(None);
        }
        let names: Vec<_> = section.fields.keys().cloned().collect();
        let mut list = ResourceList::new();
        for name in names {
            let text = match section.take(&name) {
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::String(text)) => text,
                Some(other) => return Err(section.wrong(&name, "a quantity", &other)),
                None => continue,
            };
            let amount = Amount::parse(&text).map_err(|error| section.error(&name, error.to_string()))?;
            if amount < Amount::ZERO {
                return Err(section.error(&name, format!("{text:?} is less than nothing")));
            }
            list.insert(name, amount);
        }
        Ok(Some(list))
    }

    /// Anything that serde reads.
    pub(super) fn object<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        serde_json::from_value(value).map(Some).map_err(|cause| self.error(field, cause.to_string()))
    }

    /// `null` is as if the field were not there.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    fn wrong(&self, field: &str, expected: &str, found: &Value) -> ConfigError {
        self.error(field, format!("expected {expected}, found {}", kind(found)))
    }

    fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }
}

/// What it is, with the value where that is short.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// `1h2m3.5s`, `300ms`, `0`: as Go reads a duration that is not negative.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    Some(total)
}
