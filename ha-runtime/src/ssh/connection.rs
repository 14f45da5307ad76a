//! A session before it is pumped: TCP, key exchange, host key, authentication; all blocking, all bounded.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use ssh2::{MethodType, Session};

use super::SshTarget;
use super::known_hosts::{KnownHosts, Verdict, changed, fingerprint};
use crate::far::FarError;

/// What a processor that computes AES itself does with least work first: libssh2's own ChaCha20, which it would choose, is
/// many times slower. The rest is as libssh2 has it, without what no sshd offers any more.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,\
                       aes256-ctr,aes192-ctr,aes128-ctr";

/// Whether this processor computes AES itself.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// Options of the socket beyond what the target says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SocketOptions {
    /// Bytes of the send buffer; `None`: the kernel's choice.
    pub(super) send_buffer: Option<usize>,
}

/// An SSH session, in blocking mode.
pub(super) struct Connection {
    pub(super) session: Session,
    /// A second descriptor of the session's socket, to poll and to shut it.
    pub(super) tcp: TcpStream,
    pub(super) target: SshTarget,
    known_hosts: KnownHosts,
}

impl Connection {
    /// Connects and exchanges keys; who is at the other end is not known yet.
    pub(super) fn open(target: &SshTarget, options: SocketOptions) -> Result<Connection, FarError> {
        let address = target.address();
        let known_hosts = KnownHosts::read(&target.known_hosts)?;
        let tcp = connect(target, options)
            .map_err(|error| FarError::Connect { address, source: Arc::new(error) })?;
        let handshake = |error: ssh2::Error| FarError::Handshake { address, reason: error.message().into() };

        let mut session = Session::new().map_err(handshake)?;
        session.set_timeout(milliseconds(target.connect_timeout));
        session.set_tcp_stream(tcp.try_clone().map_err(FarError::local)?);
        if let Some(algorithms) = known_hosts.algorithms(&session, address) {
            // A name that this libssh2 does not know is passed over by it.
            session.method_pref(MethodType::HostKey, &algorithms).map_err(handshake)?;
        }
        if has_aes() {
            for direction in [MethodType::CryptCs, MethodType::CryptSc] {
                session.method_pref(direction, CIPHERS).map_err(handshake)?;
            }
        }
        session.handshake().map_err(handshake)?;
        Ok(Connection { session, tcp, target: target.clone(), known_hosts })
    }

    /// Address and port of the far end's sshd.
    pub(super) fn address(&self) -> SocketAddr {
        self.target.address()
    }

    /// The key that the host has shown.
    pub(super) fn host_key(&self) -> Result<&[u8], FarError> {
        self.session.host_key().map(|(key, _)| key).ok_or_else(|| FarError::Handshake {
            address: self.address(),
            reason: "the host showed no key".into(),
        })
    }

    /// Checks the host key against the known hosts.
    ///
    /// Errors: it is unknown, changed or revoked. Call it before any authentication.
    pub(super) fn verify_host(&self) -> Result<(), FarError> {
        let (address, key) = (self.address(), self.host_key()?);
        match self.known_hosts.judge(&self.session, address, key) {
            Verdict::Known => Ok(()),
            Verdict::Unknown => Err(FarError::HostKeyUnknown {
                address,
                fingerprint: fingerprint(key),
                known_hosts: self.target.known_hosts.clone(),
            }),
            Verdict::Changed { line, known } => {
                Err(changed(address, key, &self.target.known_hosts, line, known))
            }
        }
    }

    /// Authenticates with the target's key and nothing else.
    pub(super) fn authenticate(&self) -> Result<(), FarError> {
        let SshTarget { user, key, .. } = &self.target;
        // libssh2 says the same of a missing file and of a refused key
        File::open(key).map_err(|error| FarError::Key { path: key.clone(), source: Arc::new(error) })?;
        self.session.userauth_pubkey_file(user, None, key, None).map_err(|refused| {
            if !is_about_credentials(&refused) {
                return FarError::Lost { address: self.address(), reason: refused.message().into() };
            }
            // Asked only now: some servers count the question as an attempt.
            let methods = self.session.auth_methods(user).unwrap_or("nothing more").to_owned();
            FarError::NotAdmitted { address: self.address(), user: user.clone(), key: key.clone(), methods }
        })
    }
}

/// Whether an authentication failed because of what was offered, not because the link broke.
pub(super) fn is_about_credentials(error: &ssh2::Error) -> bool {
    // libssh2.h: AUTHENTICATION_FAILED, PUBLICKEY_UNVERIFIED, FILE, METHOD_NOT_SUPPORTED, KEYFILE_AUTH_FAILED
    const CODES: [i32; 5] = [-18, -19, -16, -33, -48];
    matches!(error.code(), ssh2::ErrorCode::Session(code) if CODES.contains(&code))
}

/// Connects; a far end that vanishes is noticed by the kernel even while nothing is sent.
fn connect(target: &SshTarget, options: SocketOptions) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect_timeout(&target.address(), target.connect_timeout)?;
    tcp.set_nodelay(true)?;
    let lost_after = silence_limit(target);
    sockopt::set_socket_keepalive(&tcp, true)?;
    // Whole seconds, at least one: the kernel refuses less.
    let interval = target.keepalive.max(Duration::from_secs(1));
    sockopt::set_tcp_keepidle(&tcp, interval)?;
    sockopt::set_tcp_keepintvl(&tcp, interval)?;
    sockopt::set_tcp_keepcnt(&tcp, 2)?;
    sockopt::set_tcp_user_timeout(&tcp, milliseconds(lost_after))?;
    if let Some(bytes) = options.send_buffer {
        sockopt::set_socket_send_buffer_size(&tcp, bytes)?;
    }
    Ok(tcp)
}

/// How long the far end may stay silent while something is outstanding.
pub(super) fn silence_limit(target: &SshTarget) -> Duration {
    target.keepalive.saturating_mul(3)
}

pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}
