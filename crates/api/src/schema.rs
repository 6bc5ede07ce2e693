//! How values that travel as text appear in the schema. These types exist for their schema alone: the
//! fields themselves are `base` types, which know no OpenAPI.

use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

/// The format that [`Quantity`] is checked by.
pub const QUANTITY: &str = "quantity";
/// The format that [`Duration`] is checked by.
pub const DURATION: &str = "span";
/// The format that [`Timestamp`] is checked by.
pub const TIMESTAMP: &str = "date-time";
/// The format that [`Sha256`] is checked by.
pub const SHA256: &str = "sha256";
/// The format that [`UidText`] is checked by.
pub const UID: &str = "uid";

/// The largest number that every JSON reader keeps exact: 2^53.
const NUMBER_MAX: u64 = 1 << 53;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $format:expr, [$($type:ident),+], $about:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl ToSchema for $name {}
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let types: Vec<Type> = vec![$(Type::$type),+];
                let schema_type = match types.as_slice() {
                    [one] => SchemaType::Type(one.clone()),
                    _ => SchemaType::Array(types),
                };
                let mut object = ObjectBuilder::new().format(Some($format)).description(Some($about));
                if matches!(schema_type, SchemaType::Array(_)) {
                    object = object.minimum(Some(0)).maximum(Some(NUMBER_MAX));
                }
                RefOr::T(Schema::Object(object.schema_type(schema_type).build()))
            }
        }
    };
}

text!(
    /// A Kubernetes quantity.
    Quantity, SchemaFormat::Custom(QUANTITY.to_owned()), [String, Number],
    "A Kubernetes quantity: `500m`, `2`, `1.5`, `4Gi`."
);
text!(
    /// A length of time.
    Duration, SchemaFormat::Custom(DURATION.to_owned()), [String],
    "A length of time: `90s`, `4h`, `1h30m`, `250ms`."
);
text!(
    /// A point in time.
    Timestamp, SchemaFormat::KnownFormat(KnownFormat::DateTime), [String],
    "A point in time, RFC 3339 in UTC with milliseconds."
);
text!(
    /// The digest of content.
    Sha256, SchemaFormat::Custom(SHA256.to_owned()), [String],
    "`sha256:` and 64 lower-case hexadecimal digits."
);
/// The number of a port, in a list of them.
#[derive(Debug)]
pub enum Port {}
impl ToSchema for Port {}
impl PartialSchema for Port {
    fn schema() -> RefOr<Schema> {
        let port = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .minimum(Some(1))
            .maximum(Some(u16::MAX))
            .description(Some("The number of a TCP port."));
        RefOr::T(Schema::Object(port.build()))
    }
}

text!(
    /// A UUID.
    UidText, SchemaFormat::Custom(UID.to_owned()), [String],
    "A UUID of version 7."
);
