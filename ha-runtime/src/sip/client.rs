//! One question and its answer over UDP, asked again until it comes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::message::{Message, Request, Response};
use super::parse::MAX_MESSAGE;

/// RFC 3261 17.1.2.2, T2: the pauses between retransmissions grow no further.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// What it means that the far host says that nobody listens at the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRefusal {
    /// That is an answer: there is none.
    GiveUp,
    /// It may be starting.
    KeepAsking,
}

/// A socket that hears nobody but the server.
pub(crate) async fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// Sends a request, again and again with growing pauses, until its final response comes or the time is over.
///
/// The first pause is RFC 3261's T1 of 500 ms, or a quarter of a shorter `timeout`.
pub(crate) async fn ask(
    socket: &UdpSocket,
    request: &Request,
    timeout: Duration,
    refusal: OnRefusal,
) -> Option<Response> {
    let bytes = request.to_string().into_bytes();
    let mut pause = Duration::from_millis(500).min(timeout / 4);
    let begun = Instant::now();
    let deadline = begun + timeout;
    let mut again = begun;
    // one byte more, so that a datagram that is too long is seen to be so
    let mut buffer = vec![0; MAX_MESSAGE + 1];
    loop {
        tokio::select! {
            // what has come in time counts, however late this task was woken
            biased;
            received = socket.recv(&mut buffer) => match received {
                Ok(length) => {
                    if let Ok(Message::Response(response)) = Message::parse(&buffer[..length])
                        && response.is_final()
                        && response.answers(request)
                    {
                        return Some(response);
                    }
                }
                Err(error) if gives_up(&error, refusal) => return None,
                Err(error) => tracing::debug!(%error, "waiting for a SIP response"),
            },
            () = sleep_until(deadline.min(again)) => {}
        }
        // asked here and not in a branch: datagrams without end must stop neither the clock nor the retransmissions
        let now = Instant::now();
        if now >= deadline {
            return None;
        }
        if now >= again {
            match socket.send(&bytes).await {
                Ok(_) => {}
                Err(error) if gives_up(&error, refusal) => return None,
                Err(error) => tracing::debug!(%error, "sending a SIP request"),
            }
            again += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// A pending port-unreachable is reported by whichever call comes next.
fn gives_up(error: &io::Error, refusal: OnRefusal) -> bool {
    refusal == OnRefusal::GiveUp && error.kind() == io::ErrorKind::ConnectionRefused
}
