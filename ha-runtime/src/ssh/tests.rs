//! The session against a real sshd.

mod command;
mod database;
mod keysync;
mod link;
mod postgres;
pub(crate) mod sshd;
mod trust;
