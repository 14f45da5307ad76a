//! Whether something accepts connections at a port.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::ProbeOutcome;

/// Connects and hangs up. A refusal is a loss: the host is there, what is asked for is not.
pub async fn probe(target: SocketAddr, timeout: Duration) -> ProbeOutcome {
    match tokio::time::timeout(timeout, TcpStream::connect(target)).await {
        Ok(Ok(_)) => ProbeOutcome::Reply,
        Ok(Err(error)) => {
            tracing::debug!(%target, %error, "connect");
            ProbeOutcome::Lost
        }
        Err(_) => ProbeOutcome::Lost,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_port_that_is_listened_at_replies_and_a_closed_one_is_lost_at_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(error) => {
                    eprintln!("SKIPPED for {address}: {error}");
                    continue;
                }
            };
            let target = listener.local_addr().unwrap();
            assert_eq!(probe(target, LONG).await, ProbeOutcome::Reply);
            drop(listener);
            assert_eq!(probe(target, LONG).await, ProbeOutcome::Lost);
        }
    }
}
