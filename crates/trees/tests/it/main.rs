//! Answers against those of the libraries themselves, on models that they train here.

mod broken;
mod oracle;
