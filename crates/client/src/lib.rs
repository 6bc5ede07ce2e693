//! Typed client of the Moonshot API.
