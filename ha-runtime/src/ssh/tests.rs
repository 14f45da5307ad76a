//! The session against a real sshd.

mod command;
mod database;
mod fetch;
mod keysync;
mod link;
mod postgres;
pub(crate) mod sshd;
mod trust;
