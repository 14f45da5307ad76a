//! The requests and responses that are sent.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::message::{Headers, Request, Response, split_address, split_list};
use super::token;

/// What says who we are in requests and responses.
const AGENT: &str = concat!("pbx-ha/", env!("CARGO_PKG_VERSION"));

/// One registration of one phone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Registration<'a> {
    /// The part before the `@`.
    pub(super) user: &'a str,
    /// Same for all registrations of a phone at one server.
    pub(super) call_id: &'a str,
    /// One more each time.
    pub(super) number: u32,
    /// What the phone asks for.
    pub(super) expires: Duration,
}

impl Request {
    /// Asks a server what it can do, which any server answers that is alive.
    pub(crate) fn options(server: SocketAddr, local: SocketAddr) -> Request {
        let mut headers = start(local);
        headers.push("From", format!("<sip:pbx-ha@{}>;tag={}", host(local.ip()), token()));
        headers.push("To", format!("<sip:{server}>"));
        headers.push("Call-ID", token());
        headers.push("CSeq", "1 OPTIONS");
        headers.push("Contact", format!("<sip:pbx-ha@{local}>"));
        headers.push("Accept", "application/sdp");
        headers.push("User-Agent", AGENT);
        Request { method: "OPTIONS".to_owned(), uri: format!("sip:{server}"), headers }
    }

    pub(super) fn register(server: SocketAddr, local: SocketAddr, registration: Registration<'_>) -> Request {
        let Registration { user, call_id, number, expires } = registration;
        let address = format!("<sip:{user}@{}>", host(server.ip()));
        let mut headers = start(local);
        headers.push("From", format!("{address};tag={}", token()));
        headers.push("To", address);
        headers.push("Call-ID", call_id);
        headers.push("CSeq", format!("{number} REGISTER"));
        headers.push("Contact", format!("<sip:{user}@{local}>"));
        headers.push("Expires", expires.as_secs().to_string());
        headers.push("User-Agent", AGENT);
        Request { method: "REGISTER".to_owned(), uri: format!("sip:{server}"), headers }
    }

    /// A response to this request (RFC 3261 8.2.6). `None`: it lacks one of the headers that every request has, so that nobody
    /// could tell what is answered.
    pub fn respond(&self, status: u16, reason: &str, source: SocketAddr) -> Option<Response> {
        let mut headers = Headers::default();
        let mut vias = self.headers.all("Via").flat_map(split_list);
        headers.push("Via", received(vias.next()?, source));
        vias.for_each(|via| headers.push("Via", via));
        headers.push("From", self.headers.get("From")?);
        let to = self.headers.get("To")?;
        let (_, parameters) = split_address(to);
        let tagged = parameters.split(';').any(|one| super::message::value_of(one, "tag").is_some());
        headers.push("To", if tagged { to.to_owned() } else { format!("{to};tag={}", token()) });
        headers.push("Call-ID", self.headers.get("Call-ID")?);
        self.headers.cseq()?;
        headers.push("CSeq", self.headers.get("CSeq")?);
        headers.push("Server", AGENT);
        Some(Response { status, reason: reason.to_owned(), headers })
    }
}

fn start(local: SocketAddr) -> Headers {
    let mut headers = Headers::default();
    // the cookie says that the branch is unique; RFC 3261 8.1.1.7
    headers.push("Via", format!("SIP/2.0/UDP {local};rport;branch=z9hG4bK{}", token()));
    headers.push("Max-Forwards", "70");
    headers
}

/// The topmost Via with where the request really came from (RFC 3581).
fn received(via: &str, source: SocketAddr) -> String {
    let mut parts = via.split(';');
    let mut answer = parts.next().unwrap_or_default().trim().to_owned();
    for part in parts.map(str::trim) {
        let name = part.split('=').next().unwrap_or_default().trim();
        if name.eq_ignore_ascii_case("rport") {
            answer += &format!(";rport={}", source.port());
        } else if !name.eq_ignore_ascii_case("received") {
            answer += &format!(";{part}");
        }
    }
    answer + &format!(";received={}", source.ip())
}

fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_recognised_by_branch_call_and_number_and_by_nothing_less() {
        let (server, local) = ("[::1]:5060".parse().unwrap(), "[::1]:40000".parse().unwrap());
        let request = Request::options(server, local);
        assert_eq!(request.uri, "sip:[::1]:5060");
        let response = request.respond(404, "Not Found", local).unwrap();
        assert!(response.answers(&request) && response.is_final());
        let via = response.headers.get("Via").unwrap();
        assert!(via.contains(";rport=40000") && via.ends_with(";received=::1"), "{via}");
        assert!(!response.answers(&Request::options(server, local)));
        for (name, value) in
            [("Call-ID", "x"), ("CSeq", "2 OPTIONS"), ("CSeq", "1 INVITE"), ("Via", "x;branch=y")]
        {
            let mut headers = Headers::default();
            headers.push(name, value);
            for same in ["Via", "Call-ID", "CSeq"].iter().filter(|same| **same != name) {
                headers.push(*same, response.headers.get(same).unwrap());
            }
            assert!(!Response { headers, ..response.clone() }.answers(&request), "{name}: {value}");
        }
    }

    #[test]
    fn branches_and_calls_are_never_the_same_twice() {
        let address = "127.0.0.1:5060".parse().unwrap();
        let (one, other) = (Request::options(address, address), Request::options(address, address));
        assert_ne!(one.headers.branch(), other.headers.branch());
        assert_ne!(one.headers.get("Call-ID"), other.headers.get("Call-ID"));
        assert!(one.headers.branch().unwrap().len() >= 7 + 32);
    }

    #[test]
    fn a_value_cannot_become_a_header_of_its_own() {
        let mut headers = Headers::default();
        headers.push("Contact", "<sip:a@b>\r\nExpires: 0");
        assert_eq!(headers.to_string(), "Contact: <sip:a@b>Expires: 0\r\nContent-Length: 0\r\n\r\n");
    }
}
