//! Routes, use cases, controllers, the scheduler loop and their supervisor.
