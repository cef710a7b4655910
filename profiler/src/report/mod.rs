//! Sinks: one form of output each, made of a [`crate::model::Session`].

pub mod awaited;
pub mod compare;
pub mod critical;
pub mod export;
pub mod figures;
pub mod findings;
pub mod flame;
pub mod gaps;
pub mod html;
pub mod json;
pub mod names;
pub mod select;
pub mod terminal;
pub mod text;
pub mod units;
pub mod verdict;
pub mod wait_details;

#[cfg(test)]
pub(crate) mod fixture;
