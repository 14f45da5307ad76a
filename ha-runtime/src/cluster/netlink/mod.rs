//! Netlink, as far as it is spoken here: requests and their answers, and news. Nothing waits.

mod message;
mod socket;

pub(super) use self::message::{
    ACK, CREATE, DUMP, Message, REPLACE, Writer, attribute, messages, text, word,
};
pub(super) use self::socket::{Fault, RequestError, Socket};
