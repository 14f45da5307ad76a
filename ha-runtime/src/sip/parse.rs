//! From a datagram to a message, however malformed it is.

use thiserror::Error;

use super::message::{Headers, Message, Request, Response};

/// Longest datagram that is read. RFC 3261 18.1.1 keeps UDP requests below 1300 bytes.
pub const MAX_MESSAGE: usize = 8192;

/// Most headers that a message may have, so that looking one up stays cheap.
const MAX_HEADERS: usize = 64;

/// Longest method name; the longest registered one is `SUBSCRIBE`.
const MAX_METHOD: usize = 32;

/// Why a datagram is no message. The sender's fault; it is best not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("{length} bytes are more than the {MAX_MESSAGE} of a message")]
    TooLong {
        /// Bytes.
        length: usize,
    },
    /// Nothing but line ends: phones send these to keep their NAT open.
    #[error("an empty datagram")]
    Empty,
    /// Not UTF-8, or with control characters.
    #[error("line {line} is not text")]
    NotText {
        /// From 1.
        line: usize,
    },
    /// Neither a request's nor a response's first line.
    #[error("the first line is neither `METHOD URI SIP/2.0` nor `SIP/2.0 STATUS REASON`")]
    StartLine,
    /// Not `Name: value`.
    #[error("line {line} is no header")]
    Header {
        /// From 1.
        line: usize,
    },
    /// More than 64.
    #[error("more than {MAX_HEADERS} headers")]
    TooManyHeaders,
    /// It ends before its headers or its body do.
    #[error("the datagram ends within the message")]
    Truncated,
}

impl Message {
    /// Reads one datagram. Folded headers are unfolded, short header names written out; the body is checked for being there and left out.
    pub fn parse(datagram: &[u8]) -> Result<Message, MessageError> {
        if datagram.len() > MAX_MESSAGE {
            return Err(MessageError::TooLong { length: datagram.len() });
        }
        let blank = datagram.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let mut rest = &datagram[blank..];
        if rest.is_empty() {
            return Err(MessageError::Empty);
        }
        let start = line(&mut rest, 1)?;
        let mut headers = Headers::default();
        let mut length = None;
        for number in 2.. {
            let text = line(&mut rest, number)?;
            if text.is_empty() {
                break;
            }
            if text.starts_with([' ', '\t']) {
                if !headers.extend_last(text.trim()) {
                    return Err(MessageError::Header { line: number });
                }
                continue;
            }
            let (name, value) = text.split_once(':').ok_or(MessageError::Header { line: number })?;
            let name = full_name(name.trim_end());
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(MessageError::Header { line: number });
            }
            if name.eq_ignore_ascii_case("Content-Length") {
                length =
                    Some(value.trim().parse::<usize>().map_err(|_| MessageError::Header { line: number })?);
                continue;
            }
            if headers.len() == MAX_HEADERS {
                return Err(MessageError::TooManyHeaders);
            }
            headers.push(name, value.trim());
        }
        if length.is_some_and(|length| length > rest.len()) {
            return Err(MessageError::Truncated);
        }
        message(start, headers)
    }
}

fn message(start: &str, headers: Headers) -> Result<Message, MessageError> {
    let mut words = start.splitn(3, ' ');
    let (first, second, third) = (words.next(), words.next(), words.next());
    match (first, second, third) {
        (Some("SIP/2.0"), Some(status), reason) => {
            let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
            let status = status.parse().ok().filter(|status| digits && (100..700).contains(status));
            let status = status.ok_or(MessageError::StartLine)?;
            Ok(Message::Response(Response { status, reason: reason.unwrap_or_default().to_owned(), headers }))
        }
        (Some(method), Some(uri), Some("SIP/2.0"))
            if !uri.is_empty()
                && (1..=MAX_METHOD).contains(&method.len())
                && method.bytes().all(is_token) =>
        {
            Ok(Message::Request(Request { method: method.to_owned(), uri: uri.to_owned(), headers }))
        }
        _ => Err(MessageError::StartLine),
    }
}

/// Takes one line, without its end.
fn line<'a>(rest: &mut &'a [u8], number: usize) -> Result<&'a str, MessageError> {
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or(MessageError::Truncated)?;
    let (line, after) = (&rest[..end], &rest[end + 1..]);
    *rest = after;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| MessageError::NotText { line: number })?;
    if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(MessageError::NotText { line: number });
    }
    Ok(text)
}

/// RFC 3261 25.1, `token`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// RFC 3261 7.3.3: the short names of common headers.
fn full_name(name: &str) -> &str {
    match name {
        "v" | "V" => "Via",
        "f" | "F" => "From",
        "t" | "T" => "To",
        "i" | "I" => "Call-ID",
        "m" | "M" => "Contact",
        "l" | "L" => "Content-Length",
        "c" | "C" => "Content-Type",
        "e" | "E" => "Content-Encoding",
        "k" | "K" => "Supported",
        "s" | "S" => "Subject",
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(text: &str) -> Response {
        match Message::parse(text.as_bytes()) {
            Ok(Message::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn short_names_folded_lines_bare_line_ends_and_bodies_are_read() {
        let response = response(
            "\r\n\r\nSIP/2.0 200 All is well\nv: SIP/2.0/UDP 10.0.0.1:5060\r\n ;rport=5060\r\n\t;Branch = z9hG4bKabc\r\n\
             VIA: SIP/2.0/UDP 10.0.0.2\r\ni : a@b\r\nCSEQ: 7 OPTIONS\r\nl: 4\r\n\r\nbody",
        );
        assert_eq!((response.status, response.reason.as_str()), (200, "All is well"));
        assert_eq!(response.headers.branch(), Some("z9hG4bKabc"));
        assert_eq!(response.headers.all("via").count(), 2);
        assert_eq!(response.headers.get("Call-ID"), Some("a@b"));
        assert_eq!(response.headers.cseq(), Some((7, "OPTIONS")));
        assert_eq!(response.headers.get("Content-Length"), None);
    }

    #[test]
    fn what_is_no_message_is_named() {
        for (text, error) in [
            ("", MessageError::Empty),
            ("\r\n\r\n", MessageError::Empty),
            ("OPTIONS sip:a SIP/2.0\r\n", MessageError::Truncated),
            ("OPTIONS sip:a SIP/2.0\r\nl: 5\r\n\r\nbody", MessageError::Truncated),
            ("OPTIONS sip:a HTTP/1.1\r\n\r\n", MessageError::StartLine),
            ("OPTIONS  SIP/2.0\r\n\r\n", MessageError::StartLine),
            ("SIP/2.0 99 Low\r\n\r\n", MessageError::StartLine),
            ("SIP/2.0 +20 Odd\r\n\r\n", MessageError::StartLine),
            ("OPTIONS sip:a SIP/2.0\r\n folded\r\n\r\n", MessageError::Header { line: 2 }),
            ("OPTIONS sip:a SIP/2.0\r\nTo sip:a\r\n\r\n", MessageError::Header { line: 2 }),
            ("OPTIONS sip:a SIP/2.0\r\nl: -1\r\n\r\n", MessageError::Header { line: 2 }),
            ("OPTIONS sip:a SIP/2.0\r\nTo: \u{7}\r\n\r\n", MessageError::NotText { line: 2 }),
        ] {
            assert_eq!(Message::parse(text.as_bytes()), Err(error), "{text:?}");
        }
        let many = format!("OPTIONS sip:a SIP/2.0\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(Message::parse(many.as_bytes()), Err(MessageError::TooManyHeaders));
        assert_eq!(
            Message::parse(&[b'a'; MAX_MESSAGE + 1]),
            Err(MessageError::TooLong { length: MAX_MESSAGE + 1 })
        );
    }

    /// Garbage that looks enough like SIP to get somewhere.
    fn nearly_sip() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"OPTIONS sip:a SIP/2.0\r\n".to_vec()),
            Just(b"REGISTER sip:a SIP/2.0\r\n".to_vec()),
            Just(b"SIP/2.0 200 OK\r\n".to_vec()),
            Just(b"Via: SIP/2.0/UDP h;branch=z9hG4bK1,SIP/2.0/UDP i".to_vec()),
            Just(b"v:".to_vec()),
            Just(b"Contact: \"a\\\" <sip:a@b>;expires=9".to_vec()),
            Just(b"To: <sip:u@h>\r\nFrom: <sip:u@h>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n".to_vec()),
            Just(b"CSeq: 4294967296 OPTIONS".to_vec()),
            Just(b"l: 99999999999999999999\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r\n ".to_vec()),
            prop::collection::vec(any::<u8>(), 0..20),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_datagram_makes_parser_or_responder_panic(datagram in nearly_sip()) {
            let source = "127.0.0.1:5062".parse().unwrap();
            if let Ok(Message::Request(request)) = Message::parse(&datagram) {
                let _ = request.respond(200, "OK", source);
                let mut registrar = super::super::registrar::tests::registrar();
                let _ = super::super::responder::answer(&mut registrar, &request, source, source, tokio::time::Instant::now());
            }
        }

        #[test]
        fn what_is_built_is_read_back_as_it_was(
            method in "[A-Z]{1,10}", uri in "sip:[a-z0-9.:@]{1,20}",
            headers in prop::collection::vec(("X-[A-Za-z]{1,8}", "[ -~]{0,30}"), 0..10),
        ) {
            let mut built = Request { method, uri, headers: Headers::default() };
            for (name, value) in headers {
                built.headers.push(name, value.trim());
            }
            prop_assert_eq!(Message::parse(built.to_string().as_bytes()), Ok(Message::Request(built)));
        }
    }
}
