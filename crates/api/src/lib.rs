//! Wire types, validation, problem+json and OpenAPI.
