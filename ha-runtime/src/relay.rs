//! The far end's way to its PostgreSQL: bytes from standard input to the server's socket and back.
//!
//! The first line says which socket; only this machine's own can be meant. Run as root, the relay first becomes the
//! operating system's user postgres, so that peer authentication works and no `trust` is needed anywhere.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::thread;

use thiserror::Error;

/// The user that PostgreSQL's packages make for the server.
const DATABASE_USER: &str = "postgres";

/// Longest first line, with its line end. A socket's path has at most 108 bytes (`unix(7)`).
const LINE_LIMIT: usize = 160;

/// A PostgreSQL server on the machine that the relay runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// Listens on `<directory>/.s.PGSQL.<port>`.
    Socket {
        /// Absolute, without `..`.
        directory: PathBuf,
        /// The server's port, which is part of the socket's name.
        port: u16,
    },
    /// Listens on a loopback address.
    Loopback(SocketAddr),
}

/// Where a relay cannot lead. Nothing was connected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServerError {
    /// Neither a directory nor an address of the far end itself.
    #[error(
        "a relay leads to an absolute socket directory or a loopback address of its own machine, not to {0:?}"
    )]
    Host(String),
    /// Not a port.
    #[error("{0:?} is no port; 1 to 65535 are")]
    Port(String),
    /// The first line is missing, too long or no text.
    #[error(
        "the first line must be `<socket directory or loopback address> <port>`, at most {LINE_LIMIT} bytes"
    )]
    Line,
}

impl Server {
    /// The server that a connection string's `host` and `port` mean.
    ///
    /// Errors: [`ServerError::Host`], [`ServerError::Port`] for port 0.
    pub fn new(host: &str, port: u16) -> Result<Server, ServerError> {
        let refused = || ServerError::Host(host.chars().take(LINE_LIMIT).collect());
        if port == 0 {
            return Err(ServerError::Port("0".into()));
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            let server = Server::Loopback(SocketAddr::new(address, port));
            return if address.is_loopback() { Ok(server) } else { Err(refused()) };
        }
        let directory = Path::new(host);
        let straight =
            directory.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let fits = host.len() < LINE_LIMIT - " 65535\n".len();
        if directory.is_absolute() && straight && fits && !host.chars().any(char::is_control) {
            Ok(Server::Socket { directory: directory.to_owned(), port })
        } else {
            Err(refused())
        }
    }

    /// What the near end writes first; the server's protocol follows at once.
    pub fn greeting(&self) -> String {
        format!("{self}\n")
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Socket { directory, port } => write!(f, "{} {port}", directory.display()),
            Server::Loopback(address) => write!(f, "{} {}", address.ip(), address.port()),
        }
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(line: &str) -> Result<Server, ServerError> {
        // A directory may hold spaces, a port does not.
        let (host, port) = line.rsplit_once(' ').ok_or(ServerError::Line)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(number) if digits => Server::new(host, number),
            _ => Err(ServerError::Port(port.chars().take(20).collect())),
        }
    }
}

/// Why a relay ended without having relayed.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The near end asked for a place where a relay cannot lead.
    #[error("relay: {0}")]
    Server(#[from] ServerError),
    /// PostgreSQL does not answer at that place.
    #[error("relay: no connection to PostgreSQL at {server}: {source}")]
    Connect {
        /// The place.
        server: Server,
        /// Why not.
        source: io::Error,
    },
    /// The process could not become the database's user.
    #[error("relay: could not become user {DATABASE_USER}: {0}")]
    User(io::Error),
    /// Standard input or output failed.
    #[error("relay: standard input or output: {0}")]
    Stdio(io::Error),
}

impl RelayError {
    /// The process's exit status: 2 for a request that cannot be met, 1 for everything else.
    pub fn exit_status(&self) -> u8 {
        match self {
            RelayError::Server(_) => 2,
            RelayError::Connect { .. } | RelayError::User(_) | RelayError::Stdio(_) => 1,
        }
    }
}

/// Relays between this process's standard input and output and the server that the first line names.
///
/// Run by root, it executes this program anew, with the same arguments and environment, as user postgres: call it
/// before anything that only root may read. Without that user it connects as who it is.
///
/// Returns when the server has closed the connection; then the process should end, for a thread may still wait for
/// standard input. Errors: print them to stderr and exit with [`RelayError::exit_status`].
pub fn run() -> Result<(), RelayError> {
    if rustix::process::geteuid().is_root()
        && let Some((user, group)) = database_user().map_err(RelayError::User)?
    {
        return Err(RelayError::User(become_user(user, group)));
    }
    // Not through std's handles: these keep bytes back, input beyond the first line and output without a line end.
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(RelayError::Stdio)?;
    let output = io::stdout().as_fd().try_clone_to_owned().map_err(RelayError::Stdio)?;
    serve(fs::File::from(input), fs::File::from(output))
}

/// Reads the first line, connects, and relays until the server closes.
fn serve(mut input: impl Read + Send + 'static, output: impl Write) -> Result<(), RelayError> {
    let server: Server = first_line(&mut input)?.parse()?;
    let refused = |source| RelayError::Connect { server: server.clone(), source };
    match &server {
        Server::Socket { directory, port } => {
            let socket = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).map_err(refused)?;
            let sending = socket.try_clone().map_err(refused)?;
            relay(input, output, sending, socket, |socket| socket.shutdown(Shutdown::Write))
        }
        Server::Loopback(address) => {
            let socket = TcpStream::connect(address).map_err(refused)?;
            socket.set_nodelay(true).map_err(refused)?;
            let sending = socket.try_clone().map_err(refused)?;
            relay(input, output, sending, socket, |socket| socket.shutdown(Shutdown::Write))
        }
    }
}

/// Copies both ways; an end of input is passed on, an end of output ends the relay.
fn relay<S: Read + Write + Send + 'static>(
    mut input: impl Read + Send + 'static,
    mut output: impl Write,
    mut sending: S,
    mut receiving: S,
    close: impl FnOnce(&S) -> io::Result<()> + Send + 'static,
) -> Result<(), RelayError> {
    thread::Builder::new()
        .name("relay in".into())
        .spawn(move || {
            // An error ends the direction as an end of input does; the server then ends the other one.
            let _ = copy(&mut input, &mut sending);
            let _ = close(&sending);
        })
        .map_err(RelayError::Stdio)?;
    copy(&mut receiving, &mut output).map_err(RelayError::Stdio)
}

/// Copies until the end, passing everything on at once.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                to.write_all(&buffer[..read])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
}

/// The first line without its end. Byte by byte: what follows it is not ours.
fn first_line(input: &mut impl Read) -> Result<String, ServerError> {
    let mut line = Vec::new();
    while line.len() < LINE_LIMIT {
        let mut byte = [0];
        input.read_exact(&mut byte).map_err(|_| ServerError::Line)?;
        match byte {
            [b'\n'] => return String::from_utf8(line).map_err(|_| ServerError::Line),
            [byte] => line.push(byte),
        }
    }
    Err(ServerError::Line)
}

/// User and group id of the database's user; `None`: there is no such user here.
pub(crate) fn database_user() -> io::Result<Option<(u32, u32)>> {
    Ok(ids_of(DATABASE_USER, &fs::read_to_string("/etc/passwd")?))
}

/// Finds a user in the text of `/etc/passwd` (`passwd(5)`).
fn ids_of(user: &str, passwd: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != user {
            return None;
        }
        let mut numbers = fields.skip(1).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    })
}

/// Executes this program anew as that user; returns only when that fails.
fn become_user(user: u32, group: u32) -> io::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // By this link, because the path itself may lead through directories that only root may enter.
    Command::new("/proc/self/exe").arg0(name).args(arguments).current_dir("/").uid(user).gid(group).exec()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_relay_leads_to_its_own_machine_only() {
        for line in ["/var/run/postgresql 5432", "/tmp/with space 1", "127.0.0.1 5432", "::1 5433"] {
            let server: Server = line.parse().unwrap();
            assert_eq!(server.greeting(), format!("{line}\n"));
        }
        for line in [
            "10.77.0.11 5432",
            "0.0.0.0 5432",
            "localhost 5432",
            "var/run 5432",
            "/var/../etc 5432",
            "/var/run\u{0} 5432",
            " 5432",
        ] {
            assert!(matches!(line.parse::<Server>(), Err(ServerError::Host(_))), "{line:?}");
        }
        for line in ["/var/run 0", "/var/run +5", "/var/run 65536", "/var/run ", "/var/run x"] {
            assert!(matches!(line.parse::<Server>(), Err(ServerError::Port(_))), "{line:?}");
        }
        assert_eq!("/var/run".parse::<Server>(), Err(ServerError::Line));
    }

    #[test]
    fn a_greeting_never_outgrows_the_first_line() {
        let longest = format!("/{}", "d".repeat(LINE_LIMIT - 9));
        let greeting = Server::new(&longest, 65535).unwrap().greeting();
        assert!(first_line(&mut greeting.as_bytes()).is_ok());
        assert!(Server::new(&format!("{longest}d"), 65535).is_err());
    }

    #[test]
    fn an_endless_first_line_is_refused() {
        assert_eq!(first_line(&mut io::repeat(b'x')), Err(ServerError::Line));
        assert_eq!(first_line(&mut &b"no line end"[..]), Err(ServerError::Line));
        assert_eq!(first_line(&mut &b"\xff\n"[..]), Err(ServerError::Line));
    }

    #[test]
    fn what_follows_the_first_line_reaches_the_server_and_its_answer_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(".s.PGSQL.7000")).unwrap();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut asked = String::new();
            // reads to the end: the end of input must arrive while the answer is still to come
            socket.read_to_string(&mut asked).unwrap();
            write!(socket, "answer to {asked}").unwrap();
        });
        let mut output = Vec::new();
        let greeting = Server::new(directory.path().to_str().unwrap(), 7000).unwrap().greeting();
        serve(io::Cursor::new(format!("{greeting}question")), &mut output).unwrap();
        server.join().unwrap();
        assert_eq!(output, b"answer to question");
    }

    #[test]
    fn a_loopback_server_is_reached_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello").unwrap());
        let mut output = Vec::new();
        serve(io::Cursor::new(format!("127.0.0.1 {port}\n")), &mut output).unwrap();
        server.join().unwrap();
        assert_eq!(output, b"hello");
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let line = format!("{} 5432\n", directory.path().display());
        let failed = serve(io::Cursor::new(line), Vec::new()).unwrap_err();
        assert!(failed.to_string().contains(&directory.path().display().to_string()), "{failed}");
        assert_eq!(failed.exit_status(), 1);
    }

    #[test]
    fn the_database_user_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:115:121::/:/bin/sh\n";
        assert_eq!(ids_of("postgres", passwd), Some((115, 121)));
        assert_eq!(ids_of("pbx", passwd), None);
        assert_eq!(ids_of("postgres", "postgres:x:not:121::/:/bin/sh"), None);
    }
}
