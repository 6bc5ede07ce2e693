//! `core.*`: the control plane. What a Job waits for that could run at once ([`submit`]), how many can begin a
//! second ([`admit`]), how it behaves with many ([`queue`]), and after a year ([`history`]).

pub(crate) mod admit;
pub(crate) mod history;
pub(crate) mod queue;
pub(crate) mod submit;
