//! A YAML document as a tree in which every value knows where it stands.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;

/// Line and column in the text that was sent, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// Where each value of a document stands, by path. Empty for JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Positions(Option<Place>);

#[derive(Clone, Debug, PartialEq)]
struct Place {
    at: Position,
    inside: Inside,
}

#[derive(Clone, Debug, PartialEq)]
enum Inside {
    Nothing,
    Items(Vec<Place>),
    // The position of the key, which is what an error about an unknown field points at.
    Fields(BTreeMap<String, (Position, Place)>),
}

impl Positions {
    /// Where the value at `pointer` stands, or the nearest one around it.
    pub fn find<S: AsRef<str>>(&self, pointer: &[S]) -> Option<Position> {
        let mut place = self.0.as_ref()?;
        let mut at = place.at;
        for step in pointer {
            let next = match &place.inside {
                Inside::Nothing => None,
                Inside::Items(items) => step
                    .as_ref()
                    .parse::<usize>()
                    .ok()
                    .and_then(|i| items.get(i))
                    .map(|item| (item.at, item)),
                Inside::Fields(fields) => {
                    fields.get(step.as_ref()).map(|(key, place)| (*key, place))
                }
            };
            let Some((position, inner)) = next else { break };
            at = position;
            place = inner;
        }
        Some(at)
    }
}

/// A parsed value with its place.
pub(crate) struct Node {
    value: Value,
    place: Place,
}

impl Node {
    /// The value and the map of its places.
    pub(crate) fn split(self) -> (Value, Positions) {
        (self.value, Positions(Some(self.place)))
    }
}

/// A value whose own position is not known yet: `Spanned` adds it.
struct Loose {
    value: Value,
    inside: Inside,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Loose>::deserialize(deserializer)?;
        let at = position(&spanned.referenced);
        let Loose { value, inside } = spanned.value;
        Ok(Node {
            value,
            place: Place { at, inside },
        })
    }
}

pub(crate) fn position(location: &serde_saphyr::Location) -> Position {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Position {
        line: small(location.line()),
        column: small(location.column()),
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

struct LooseVisitor;

fn scalar<E>(value: impl Into<Value>) -> Result<Loose, E> {
    Ok(Loose {
        value: value.into(),
        inside: Inside::Nothing,
    })
}

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: Error>(self) -> Result<Loose, E> {
        scalar(Value::Null)
    }
    fn visit_none<E: Error>(self) -> Result<Loose, E> {
        scalar(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Loose, D::Error> {
        Loose::deserialize(deserializer)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Loose, E> {
        scalar(value)
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Loose, E> {
        scalar(value)
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Loose, E> {
        scalar(value)
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Loose, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        scalar(number)
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Loose, E> {
        scalar(value)
    }
    fn visit_string<E: Error>(self, value: String) -> Result<Loose, E> {
        scalar(value)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
        let (mut values, mut places) = (Vec::new(), Vec::new());
        while let Some(Node { value, place }) = seq.next_element()? {
            values.push(value);
            places.push(place);
        }
        Ok(Loose {
            value: Value::Array(values),
            inside: Inside::Items(places),
        })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
        let (mut values, mut places) = (Map::new(), BTreeMap::new());
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let Node { value, place } = map.next_value()?;
            places.insert(key.value.clone(), (position(&key.referenced), place));
            values.insert(key.value, value);
        }
        Ok(Loose {
            value: Value::Object(values),
            inside: Inside::Fields(places),
        })
    }
}
