//! The one call beside containerd's task API: has the guest a socket that listens?
//!
//! ```text
//! service  samara.shim.v1.Guest
//! method   Listening(containerd.task.v3.WaitRequest) returns (google.protobuf.ListValue)
//! ```
//!
//! It answers when there is an address, and fails when the process has ended. See `docs/decisions/`.

use std::net::SocketAddr;

use protobuf::well_known_types::struct_::value::Kind;
use protobuf::well_known_types::struct_::{ListValue, Value};

/// Name of the service.
pub const SERVICE: &str = "samara.shim.v1.Guest";
/// Name of its method.
pub const METHOD: &str = "Listening";

/// As the answer carries them.
pub fn to_proto(addresses: &[SocketAddr]) -> ListValue {
    let mut list = ListValue::new();
    list.values = addresses.iter().map(|address| string(address.to_string())).collect();
    list
}

/// As the answer carried them. What is no address is named.
pub fn from_proto(list: &ListValue) -> Result<Vec<SocketAddr>, NoAddress> {
    let parse = |value: &Value| match &value.kind {
        Some(Kind::StringValue(text)) => text.parse().map_err(|_invalid| NoAddress(text.clone())),
        _ => Err(NoAddress(value.to_string())),
    };
    list.values.iter().map(parse).collect()
}

/// A front that speaks otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address")]
pub struct NoAddress(String);

fn string(text: String) -> Value {
    let mut value = Value::new();
    value.kind = Some(Kind::StringValue(text));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        let addresses = ["10.0.0.7:8080", "[fd00::7]:80"].map(|text| text.parse().unwrap());
        assert_eq!(from_proto(&to_proto(&addresses)).unwrap(), addresses);
        assert_eq!(from_proto(&to_proto(&[])).unwrap(), []);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let mut list = ListValue::new();
        list.values.push(string("10.0.0.7".into()));
        assert_eq!(from_proto(&list), Err(NoAddress("10.0.0.7".into())));
        list.values = vec![Value::new()];
        assert!(from_proto(&list).is_err());
    }
}
