//! A connection over any stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{Client, Config, NoTls};

use super::APPLICATION_NAME;
use super::error::Fault;

/// The environment's fault: no connection was made, nothing was touched.
#[derive(Debug, Error)]
#[error("cannot open database {database} as {user}: {fault}")]
pub struct ConnectError {
    database: String,
    user: String,
    fault: Fault,
}

/// Bytes that a connection has carried, both directions; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    /// Bytes sent to the server so far.
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Bytes received from it so far.
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }
}

/// Logs in over `stream` (an SSH channel's end, a TCP or a Unix socket), named [`APPLICATION_NAME`].
///
/// `config` gives user, password and database; its hosts are not used: the stream is the way. The connection is driven by
/// a task of the current tokio runtime, which ends when the client is dropped or the stream fails. Nothing is encrypted
/// here: over TCP to another machine that is the stream's business.
pub async fn connect<S>(stream: S, config: &Config) -> Result<(Client, Traffic), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut config = config.clone();
    config.application_name(APPLICATION_NAME);
    let traffic = Traffic::default();
    let counted = Counted { stream, traffic: traffic.clone() };
    let (client, connection) = config.connect_raw(counted, NoTls).await.map_err(|error| ConnectError {
        database: config.get_dbname().unwrap_or("of the user's name").to_owned(),
        user: config.get_user().unwrap_or("the default user").to_owned(),
        fault: Fault::new("logging in", error),
    })?;
    tokio::spawn(async move {
        // who uses the client sees the same error; without a client nobody waits for one
        if let Err(error) = connection.await {
            tracing::debug!("database connection ended: {error}");
        }
    });
    Ok((client, traffic))
}

struct Counted<S> {
    stream: S,
    traffic: Traffic,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let new = buffer.filled().len() - before;
        self.traffic.0.received.fetch_add(new as u64, Ordering::Relaxed);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(new)) = &result {
            self.traffic.0.sent.fetch_add(*new as u64, Ordering::Relaxed);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
