//! What every part of the engine shares.

use crate::config::Config;
use crate::gate::Gate;
use crate::layout::Layout;
use crate::table::Table;

/// Configuration, places, the right to act, what is reported, and the runtime that tasks run on.
pub(crate) struct Ctx {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) gate: Gate,
    pub(crate) table: Table,
    pub(crate) runtime: tokio::runtime::Handle,
}
