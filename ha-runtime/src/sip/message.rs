//! Requests and responses as values.

use std::fmt;

/// Either of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Asks.
    Request(Request),
    /// Answers.
    Response(Response),
}

/// A request without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// In capitals: `OPTIONS`.
    pub method: String,
    /// Whom it is for: `sip:10.77.0.11:5060`.
    pub uri: String,
    /// All but `Content-Length`.
    pub headers: Headers,
}

/// A response without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// For people.
    pub reason: String,
    /// All but `Content-Length`.
    pub headers: Headers,
}

/// Headers in their order. Names are compared without regard to case and stored in full; values are one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Adds one. Bytes that would end the line are left out: a value can never become a header of its own.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let mut value: String = value.into();
        value.retain(|letter| !letter.is_ascii_control() || letter == '\t');
        self.0.push((name.into(), value));
    }

    /// The first one of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The topmost Via's branch: it names the transaction.
    pub fn branch(&self) -> Option<&str> {
        let via = split_list(self.get("Via")?).next()?;
        via.split(';').skip(1).find_map(|parameter| value_of(parameter, "branch"))
    }

    /// Number and method of `CSeq`.
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.get("CSeq")?.split_once([' ', '\t'])?;
        Some((number.parse().ok()?, method.trim()))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds text to the value of the last one: a folded line.
    pub(super) fn extend_last(&mut self, text: &str) -> bool {
        let Some((_, value)) = self.0.last_mut() else { return false };
        value.push(' ');
        value.push_str(text);
        true
    }
}

impl Response {
    /// Whether no other response to the request follows.
    pub fn is_final(&self) -> bool {
        self.status >= 200
    }

    /// Whether it answers that request: same transaction, same dialogue, same number and method.
    pub fn answers(&self, request: &Request) -> bool {
        let same = |name| self.headers.get(name).is_some_and(|own| request.headers.get(name) == Some(own));
        let branch = self.headers.branch();
        branch.is_some()
            && branch == request.headers.branch()
            && same("Call-ID")
            && self.headers.cseq().is_some()
            && self.headers.cseq() == request.headers.cseq()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} SIP/2.0\r\n{}", self.method, self.uri, self.headers)
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0 {} {}\r\n{}", self.status, self.reason, self.headers)
    }
}

impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            write!(f, "{name}: {value}\r\n")?;
        }
        f.write_str("Content-Length: 0\r\n\r\n")
    }
}

/// The items of a list: commas within quotes or angle brackets separate nothing.
pub(super) fn split_list(value: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
    value
        .split(move |letter| {
            let was_escaped = std::mem::take(&mut escaped);
            match letter {
                '\\' if quoted && !was_escaped => escaped = true,
                '"' if !was_escaped => quoted = !quoted,
                '<' if !quoted => bracketed = true,
                '>' if !quoted => bracketed = false,
                _ => {}
            }
            letter == ',' && !quoted && !bracketed
        })
        .map(str::trim)
}

/// URI and parameters of one address: `"Jo" <sip:jo@host>;expires=60` or `sip:jo@host;expires=60`.
pub(super) fn split_address(value: &str) -> (&str, &str) {
    // a quoted name may itself hold a "<"
    let unnamed = match value.strip_prefix('"') {
        Some(rest) => rest.rsplit_once('"').map_or(value, |(_, address)| address),
        None => value,
    };
    match unnamed.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        Some((uri, parameters)) => (uri.trim(), parameters),
        None => {
            unnamed.split_once(';').map_or((unnamed.trim(), ""), |(uri, parameters)| (uri.trim(), parameters))
        }
    }
}

/// The value of one parameter, when it has that name.
pub(super) fn value_of<'a>(parameter: &'a str, name: &str) -> Option<&'a str> {
    let (own, value) = parameter.split_once('=')?;
    own.trim().eq_ignore_ascii_case(name).then_some(value.trim())
}
