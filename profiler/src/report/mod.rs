//! Sinks: one form of output each, made of a [`crate::model::Session`].

pub mod critical;
pub mod figures;
pub mod flame;
pub mod gaps;
pub mod json;
pub mod names;
pub mod select;
pub mod terminal;
pub mod text;
pub mod units;

#[cfg(test)]
pub(crate) mod fixture;
