//! The control database: schema, transactions, change feed, leases.
