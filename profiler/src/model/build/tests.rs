//! Every rule by which records become a session.

mod disk;
mod history;
mod identity;
mod time;
