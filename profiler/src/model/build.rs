//! Makes a [`Session`] of records.
