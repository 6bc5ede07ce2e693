//! The port to what runs containers and processes, with its contract suite and a fake.
