//! Fixtures that tests share: temporary PostgreSQL, ports, waiting for a condition.
