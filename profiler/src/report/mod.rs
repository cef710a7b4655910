//! Sinks: one form of output each, made of a [`crate::model::Session`].

pub mod text;
pub mod units;
