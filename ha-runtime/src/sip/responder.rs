//! A small SIP server in place of a PBX.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ha_core::profile::SipTimers;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::message::{Message, Request, Response};
use super::parse::MAX_MESSAGE;
use super::registrar::Registrar;

/// The header that names who answers, of a server that was [named](Responder::named).
pub const NODE: &str = "X-Node";

/// What it answers.
const ALLOW: &str = "OPTIONS, REGISTER";

/// The methods of RFC 3261 and its extensions that it knows and does not do: 405 instead of 501.
const KNOWN: [&str; 11] = [
    "INVITE",
    "BYE",
    "CANCEL",
    "SUBSCRIBE",
    "NOTIFY",
    "INFO",
    "MESSAGE",
    "UPDATE",
    "PRACK",
    "REFER",
    "PUBLISH",
];

/// Answers OPTIONS with 200 and keeps registrations; anything else is refused.
#[derive(Debug)]
pub struct Responder {
    socket: UdpSocket,
    registrar: Arc<Mutex<Registrar>>,
    name: Option<String>,
}

impl Responder {
    /// At an address; port 0: any that is free. It answers once it is [served](Responder::serve).
    pub async fn bind(address: SocketAddr, timers: SipTimers) -> io::Result<Responder> {
        Ok(Responder::over(UdpSocket::bind(address).await?, timers))
    }

    /// Over a socket that is bound already.
    pub fn over(socket: UdpSocket, timers: SipTimers) -> Responder {
        Responder { socket, registrar: Arc::new(Mutex::new(Registrar::new(timers))), name: None }
    }

    /// The same, whose responses say in a header of their own, [`NODE`], who it is.
    pub fn named(self, name: String) -> Responder {
        Responder { name: Some(name), ..self }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Who is registered, also while it is served.
    pub fn registrar(&self) -> Arc<Mutex<Registrar>> {
        Arc::clone(&self.registrar)
    }

    /// Answers until `shutdown` is done. Responses go where the request came from.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let local = self.local_addr()?;
        let mut buffer = vec![0; MAX_MESSAGE + 1];
        tokio::pin!(shutdown);
        loop {
            let (length, source) = tokio::select! {
                () = &mut shutdown => return Ok(()),
                received = self.socket.recv_from(&mut buffer) => received?,
            };
            let response = match Message::parse(&buffer[..length]) {
                Ok(Message::Request(request)) => {
                    let mut registrar = self.registrar.lock().unwrap_or_else(PoisonError::into_inner);
                    answer(&mut registrar, &request, source, local, Instant::now())
                }
                Ok(Message::Response(_)) => None,
                Err(error) => {
                    tracing::debug!(%source, %error, "no SIP message");
                    None
                }
            };
            let response = response.map(|mut response| {
                self.name.iter().for_each(|name| response.headers.push(NODE, name.as_str()));
                response
            });
            if let Some(response) = response
                && let Err(error) = self.socket.send_to(response.to_string().as_bytes(), source).await
            {
                tracing::debug!(%source, %error, "a SIP response was not sent");
            }
        }
    }
}

/// [`Responder::serve`] in one call: a process of its own needs nothing else.
pub async fn serve(
    socket: UdpSocket,
    timers: SipTimers,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    Responder::over(socket, timers).serve(shutdown).await
}

/// What one request is answered. `None`: nothing, because it is an ACK or lacks what a response must repeat.
pub(super) fn answer(
    registrar: &mut Registrar,
    request: &Request,
    source: SocketAddr,
    local: SocketAddr,
    now: Instant,
) -> Option<Response> {
    let mut response = match request.method.as_str() {
        "ACK" => return None,
        "REGISTER" => return registrar.register(request, source, now),
        "OPTIONS" => {
            let mut response = request.respond(200, "OK", source)?;
            response.headers.push("Contact", format!("<sip:{local}>"));
            response.headers.push("Accept", "application/sdp");
            response
        }
        known if KNOWN.contains(&known) => request.respond(405, "Method Not Allowed", source)?,
        _ => request.respond(501, "Not Implemented", source)?,
    };
    response.headers.push("Allow", ALLOW);
    Some(response)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sip::client::{OnRefusal, ask, connect};

    #[tokio::test]
    async fn options_is_answered_and_what_is_not_done_is_refused() {
        let timers = SipTimers {
            min: Duration::from_secs(1),
            default: Duration::from_secs(2),
            max: Duration::from_secs(3),
        };
        let responder = Responder::bind("127.0.0.1:0".parse().unwrap(), timers).await.unwrap();
        let responder = responder.named("one".to_owned());
        let server = responder.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(responder.serve(async { stopped.await.unwrap_or_default() }));

        let socket = connect(server).await.unwrap();
        let local = socket.local_addr().unwrap();
        for (method, status) in [("OPTIONS", 200), ("INVITE", 405), ("DANCE", 501)] {
            let mut request = Request::options(server, local);
            request.method = method.to_owned();
            let response = ask(&socket, &request, Duration::from_secs(5), OnRefusal::GiveUp).await.unwrap();
            assert_eq!(response.status, status, "{method}");
            assert_eq!(response.headers.get("Allow"), Some(ALLOW));
            assert_eq!(response.headers.get(NODE), Some("one"));
        }
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    }
}
