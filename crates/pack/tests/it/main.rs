//! Directories of all shapes, and archives made to do harm. The small cases are beside the code.

mod archive;
mod hostile;
mod support;
