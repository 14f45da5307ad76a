//! Whether telephony answers: SIP OPTIONS.

use std::net::SocketAddr;
use std::time::Duration;

use super::ProbeOutcome;
use crate::sip::Request;
use crate::sip::client::{OnRefusal, ask, connect};

/// Asks with OPTIONS over UDP, again within the time when no answer comes.
///
/// Any final response is a reply, 401 and 404 as well: it shows that somebody thinks at the other end. It must come from
/// `target` and repeat a branch that cannot be guessed. A host that says that nobody listens at the port has lost at once.
pub async fn probe(target: SocketAddr, timeout: Duration) -> ProbeOutcome {
    let asked = async {
        let socket = connect(target).await?;
        let request = Request::options(target, socket.local_addr()?);
        Ok::<_, std::io::Error>(ask(&socket, &request, timeout, OnRefusal::GiveUp).await)
    };
    match asked.await {
        Ok(Some(_)) => ProbeOutcome::Reply,
        Ok(None) => ProbeOutcome::Lost,
        Err(error) => {
            tracing::debug!(%target, %error, "SIP OPTIONS was not sent");
            ProbeOutcome::Lost
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;
    use crate::sip::Message;

    const LONG: Duration = Duration::from_secs(5);
    const SHORT: Duration = Duration::from_millis(200);

    /// A server that answers each request with what `answer` makes of it, from the socket that was asked.
    async fn server(
        address: &str,
        answer: impl Fn(usize, &Request, SocketAddr) -> Vec<String> + Send + 'static,
    ) -> (SocketAddr, JoinHandle<()>) {
        let socket = UdpSocket::bind(address).await.unwrap();
        let local = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            for turn in 0.. {
                let (length, source) = socket.recv_from(&mut buffer).await.unwrap();
                let Ok(Message::Request(request)) = Message::parse(&buffer[..length]) else {
                    panic!("no request")
                };
                for text in answer(turn, &request, source) {
                    socket.send_to(text.as_bytes(), source).await.unwrap();
                }
            }
        });
        (local, task)
    }

    #[tokio::test]
    async fn any_final_response_is_a_reply() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            if let Err(error) = UdpSocket::bind(address).await {
                eprintln!("SKIPPED for {address}: {error}");
                continue;
            }
            for status in [200, 302, 401, 404, 503, 603] {
                let respond = move |_, request: &Request, source| {
                    vec![request.respond(status, "As it is", source).unwrap().to_string()]
                };
                let (target, _server) = server(address, respond).await;
                assert_eq!(probe(target, LONG).await, ProbeOutcome::Reply, "{status}");
            }
        }
    }

    #[tokio::test]
    async fn a_provisional_response_a_wrong_branch_and_garbage_are_no_reply() {
        let respond = |_, request: &Request, source| {
            let provisional = request.respond(100, "Trying", source).unwrap().to_string();
            let good = request.respond(200, "OK", source).unwrap().to_string();
            let branch = request.headers.branch().unwrap();
            vec![
                provisional,
                good.replace(branch, "z9hG4bKguessed"),
                good.replace("1 OPTIONS", "2 OPTIONS"),
                good.replace("Call-ID: ", "Call-ID: x"),
                request.to_string(),
                "nonsense".to_owned(),
            ]
        };
        let (target, _server) = server("127.0.0.1:0", respond).await;
        let begun = Instant::now();
        assert_eq!(probe(target, SHORT).await, ProbeOutcome::Lost);
        assert!(begun.elapsed() >= SHORT);
    }

    #[tokio::test]
    async fn a_flood_of_datagrams_does_not_stop_the_clock() {
        let flooder = UdpSocket::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
        flooder.set_nonblocking(false).unwrap();
        let target = flooder.local_addr().unwrap();
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let flood = std::thread::spawn(move || {
            let (_, source) = flooder.recv_from(&mut [0; 2048]).unwrap();
            while is_over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                // refused once the probe has closed its socket
                let _ = flooder.send_to(b"nonsense", source);
            }
        });
        let outcome = tokio::time::timeout(LONG, probe(target, SHORT)).await;
        drop(over);
        flood.join().unwrap();
        assert_eq!(outcome, Ok(ProbeOutcome::Lost));
    }

    #[tokio::test]
    async fn a_response_from_another_address_is_no_reply() {
        let asked = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = asked.local_addr().unwrap();
        let forger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let _server = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (length, source) = asked.recv_from(&mut buffer).await.unwrap();
                let Ok(Message::Request(request)) = Message::parse(&buffer[..length]) else {
                    panic!("no request")
                };
                let good = request.respond(200, "OK", source).unwrap().to_string();
                forger.send_to(good.as_bytes(), source).await.unwrap();
            }
        });
        assert_eq!(probe(target, SHORT).await, ProbeOutcome::Lost);
    }

    #[tokio::test]
    async fn a_lost_request_is_sent_again_within_the_time() {
        let respond = |turn, request: &Request, source| {
            let answer = request.respond(200, "OK", source).unwrap().to_string();
            if turn < 2 { Vec::new() } else { vec![answer] }
        };
        let (target, _server) = server("127.0.0.1:0", respond).await;
        assert_eq!(probe(target, LONG).await, ProbeOutcome::Reply);
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_at_is_lost_before_the_time() {
        let target = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let begun = Instant::now();
        assert_eq!(probe(target, Duration::from_secs(60)).await, ProbeOutcome::Lost);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
