//! Every rule by which records become a session.

mod history;
mod identity;
mod time;
