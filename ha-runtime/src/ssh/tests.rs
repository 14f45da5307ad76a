//! The session against a real sshd.

mod database;
mod keysync;
mod link;
mod postgres;
mod sshd;
mod trust;
