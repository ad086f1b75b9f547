//! Dropping what nobody reads, while an object is deserialized: what is dropped is never held.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// What of a JSON value is kept. Of a list, each element is trimmed alike.
#[derive(Debug)]
pub(super) enum Keep {
    /// All of it.
    All,
    /// These fields.
    Fields(&'static [(&'static str, Keep)]),
}

/// Deserializes what of a value is to be kept. A value of another form than expected is kept whole: the parser shall name it.
#[derive(Clone, Copy)]
pub(super) struct Trim(pub &'static Keep);

impl<'de> DeserializeSeed<'de> for Trim {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.0 {
            Keep::All => serde::Deserialize::deserialize(deserializer),
            Keep::Fields(_) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Trim {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        let Keep::Fields(fields) = self.0 else { return Ok(Value::Object(kept)) };
        while let Some(key) = access.next_key::<std::borrow::Cow<'de, str>>()? {
            match fields.iter().find(|(field, _)| *field == key) {
                Some((field, keep)) => {
                    kept.insert((*field).to_owned(), access.next_value_seed(Trim(keep))?);
                }
                None => {
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        while let Some(element) = access.next_element_seed(self)? {
            kept.push(element);
        }
        Ok(Value::Array(kept))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}
