//! Who is registered where, and for how long: the decisions of a registrar, without sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ha_core::profile::SipTimers;
use tokio::time::Instant;

use super::message::{Request, Response, split_address, split_list, value_of};

/// Most addresses of record; one more is answered 503.
const MAX_USERS: usize = 10_000;

/// Most contacts of one address of record; one more is answered 403.
const MAX_CONTACTS: usize = 8;

/// Bindings of users to contacts, kept in memory. It authenticates nobody: it stands in for a PBX in tests and demonstrations.
#[derive(Debug, Clone)]
pub struct Registrar {
    timers: SipTimers,
    bindings: BTreeMap<String, Vec<Binding>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Binding {
    contact: String,
    until: Instant,
}

/// What one REGISTER wants for one contact. Zero: take it out.
struct Wish<'a> {
    contact: &'a str,
    expires: Duration,
}

impl Registrar {
    /// An empty one, which grants registrations within `timers`.
    pub fn new(timers: SipTimers) -> Registrar {
        Registrar { timers, bindings: BTreeMap::new() }
    }

    /// The contacts that a user is reached at. The user is the part before the `@`.
    pub fn contacts(&self, user: &str, now: Instant) -> Vec<String> {
        let of_user = |address: &str| {
            address
                .split_once(':')
                .and_then(|(_, rest)| rest.split_once('@'))
                .is_some_and(|(own, _)| own == user)
        };
        let bindings = self.bindings.iter().filter(|(address, _)| of_user(address));
        bindings
            .flat_map(|(_, bindings)| bindings)
            .filter(|binding| binding.until > now)
            .map(|binding| binding.contact.clone())
            .collect()
    }

    /// How many addresses of record are registered.
    pub fn users(&self, now: Instant) -> usize {
        self.bindings.values().filter(|bindings| bindings.iter().any(|binding| binding.until > now)).count()
    }

    /// Answers a REGISTER (RFC 3261 10.3). `None`: it cannot be answered.
    pub fn register(&mut self, request: &Request, source: SocketAddr, now: Instant) -> Option<Response> {
        self.bindings.retain(|_, bindings| {
            bindings.retain(|binding| binding.until > now);
            !bindings.is_empty()
        });
        let (address, _) = split_address(request.headers.get("To")?);
        let address = address.split(';').next().unwrap_or_default().to_owned();
        let wishes = match self.wishes(request) {
            Some(wishes) if !address.is_empty() => wishes,
            _ => return request.respond(400, "Bad Request", source),
        };
        let too_brief = |wish: &Wish<'_>| !wish.expires.is_zero() && wish.expires < self.timers.min;
        if wishes.iter().any(too_brief) {
            let mut response = request.respond(423, "Interval Too Brief", source)?;
            response.headers.push("Min-Expires", self.timers.min.as_secs().to_string());
            return Some(response);
        }
        if !self.bindings.contains_key(&address) && self.bindings.len() >= MAX_USERS {
            return request.respond(503, "Service Unavailable", source);
        }
        let mut bindings = self.bindings.get(&address).cloned().unwrap_or_default();
        for Wish { contact, expires } in wishes {
            bindings.retain(|binding| contact != "*" && binding.contact != contact);
            if !expires.is_zero() {
                let until = now + expires.min(self.timers.max);
                bindings.push(Binding { contact: contact.to_owned(), until });
            }
        }
        if bindings.len() > MAX_CONTACTS {
            return request.respond(403, "Too Many Contacts", source);
        }
        let mut response = request.respond(200, "OK", source)?;
        for Binding { contact, until } in &bindings {
            let left = until.saturating_duration_since(now).as_secs();
            response.headers.push("Contact", format!("<{contact}>;expires={left}"));
        }
        if let Some(last) = bindings.last() {
            let left = last.until.saturating_duration_since(now).as_secs();
            response.headers.push("Expires", left.to_string());
        }
        if bindings.is_empty() {
            self.bindings.remove(&address);
        } else {
            self.bindings.insert(address, bindings);
        }
        Some(response)
    }

    /// What is asked for, contact by contact. `None`: it makes no sense.
    fn wishes<'a>(&self, request: &'a Request) -> Option<Vec<Wish<'a>>> {
        let common = match request.headers.get("Expires") {
            Some(text) => seconds(text)?,
            None => self.timers.default,
        };
        let items: Vec<&str> = request.headers.all("Contact").flat_map(split_list).collect();
        if items.contains(&"*") {
            let alone = items.len() == 1 && common.is_zero();
            return alone.then(|| vec![Wish { contact: "*", expires: Duration::ZERO }]);
        }
        items
            .into_iter()
            .map(|item| {
                let (contact, parameters) = split_address(item);
                let own = parameters.split(';').find_map(|one| value_of(one, "expires"));
                let expires = own.map_or(Some(common), seconds)?;
                (!contact.is_empty()).then_some(Wish { contact, expires })
            })
            .collect()
    }
}

/// RFC 3261 20.19: seconds that a 32-bit number holds.
fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sip::Message;

    /// Wazo's expiry in a pair: 3, 4 and 5 minutes.
    pub(in crate::sip) fn registrar() -> Registrar {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Registrar::new(SipTimers { min: minutes(3), default: minutes(4), max: minutes(5) })
    }

    fn register(registrar: &mut Registrar, contact: &str, now: Instant) -> Response {
        let text = format!(
            "REGISTER sip:10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1\r\nFrom: <sip:jo@x>;tag=1\r\n\
             To: <sip:jo@x>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n{contact}\r\n"
        );
        let Ok(Message::Request(request)) = Message::parse(text.as_bytes()) else { panic!("{text}") };
        registrar.register(&request, "10.0.0.9:5060".parse().unwrap(), now).unwrap()
    }

    #[test]
    fn what_a_phone_gets_lies_between_minimum_and_maximum() {
        for (contact, status, granted) in [
            ("Contact: <sip:jo@10.0.0.9>\r\n", 200, Some("240")),
            ("Contact: <sip:jo@10.0.0.9>\r\nExpires: 3600\r\n", 200, Some("300")),
            ("Contact: <sip:jo@10.0.0.9>;expires=200\r\nExpires: 3600\r\n", 200, Some("200")),
            ("Contact: sip:jo@10.0.0.9;expires=180\r\n", 200, Some("180")),
            ("Contact: <sip:jo@10.0.0.9>\r\nExpires: 179\r\n", 423, None),
            ("Contact: <sip:jo@10.0.0.9>\r\nExpires: soon\r\n", 400, None),
            ("Contact: *\r\n", 400, None),
        ] {
            let response = register(&mut registrar(), contact, Instant::now());
            assert_eq!((response.status, response.headers.get("Expires")), (status, granted), "{contact}");
            assert_eq!(response.headers.get("Min-Expires"), (status == 423).then_some("180"));
        }
    }

    #[test]
    fn a_binding_lasts_until_it_expires_or_is_taken_back() {
        let (mut registrar, now) = (registrar(), Instant::now());
        register(&mut registrar, "Contact: <sip:jo@10.0.0.9:1>, \"J, <o>\" <sip:jo@10.0.0.9:2>\r\n", now);
        assert_eq!(registrar.contacts("jo", now), ["sip:jo@10.0.0.9:1", "sip:jo@10.0.0.9:2"]);
        register(&mut registrar, "Contact: <sip:jo@10.0.0.9:1>\r\nExpires: 0\r\n", now);
        assert_eq!(registrar.contacts("jo", now), ["sip:jo@10.0.0.9:2"]);
        let asked = register(&mut registrar, "", now);
        assert_eq!(asked.headers.get("Contact"), Some("<sip:jo@10.0.0.9:2>;expires=240"));
        assert_eq!(registrar.users(now + Duration::from_secs(239)), 1);
        assert_eq!(registrar.users(now + Duration::from_secs(240)), 0);
        register(&mut registrar, "Contact: *\r\nExpires: 0\r\n", now);
        assert_eq!(registrar.contacts("jo", now), [""; 0]);
    }

    #[test]
    fn nobody_fills_the_memory_with_contacts() {
        let (mut registrar, now) = (registrar(), Instant::now());
        for port in 0..MAX_CONTACTS {
            assert_eq!(register(&mut registrar, &format!("Contact: <sip:jo@h:{port}>\r\n"), now).status, 200);
        }
        assert_eq!(register(&mut registrar, "Contact: <sip:jo@h:99>\r\n", now).status, 403);
        assert_eq!(registrar.contacts("jo", now).len(), MAX_CONTACTS);
    }
}
