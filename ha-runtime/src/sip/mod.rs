//! As much SIP (RFC 3261) over UDP as health checks and a demonstration need.
//!
//! Built: OPTIONS and REGISTER, their responses, retransmission. Read: any request or response, bounded in every length. Not
//! done: calls, authentication, TCP and TLS, bodies.

mod build;
pub(crate) mod client;
mod message;
mod parse;
pub mod phone;
pub mod registrar;
pub mod responder;

pub use message::{Headers, Message, Request, Response};
pub use parse::{MAX_MESSAGE, MessageError};
pub use phone::{Phone, PhoneEvent, PhoneReport, PhoneSettings, Server};
pub use registrar::Registrar;
pub use responder::{NODE, Responder};

/// 128 bits from the kernel's random source, in hexadecimal: nobody can guess a branch and answer in another's place.
fn token() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers on a machine that has booted");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
