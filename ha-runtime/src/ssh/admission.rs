//! Getting in once, to install the key that gets in ever after.

use std::net::SocketAddr;

use ssh2::{KeyboardInteractivePrompt, Prompt, Session};

use super::ask::Ask;
use super::connection::{Connection, is_about_credentials};
use super::key::{KeySync, KeySyncError, open_trusted};
use crate::far::FarError;

/// The user's own keys that are tried, below the home directory; those with a passphrase are passed over.
const DEFAULT_KEYS: [&str; 3] = [".ssh/id_ed25519", ".ssh/id_ecdsa", ".ssh/id_rsa"];

/// Identities of the SSH agent that are tried. sshd takes six attempts a connection (`sshd_config(5)`, MaxAuthTries).
const AGENT_IDENTITIES: usize = 2;

/// How often the password is asked for.
const PASSWORD_TRIES: usize = 3;

/// An authenticated connection, by whatever the user has: agent, default keys, password.
pub(super) fn admit(request: &KeySync<'_>, ask: &mut dyn Ask) -> Result<Connection, KeySyncError> {
    let connection = open_trusted(request, ask)?;
    if with_keys(&connection, request)? {
        return Ok(connection);
    }
    // Anew, so that the keys above have not used up the attempts.
    let connection = open_trusted(request, ask)?;
    let methods = methods(&connection);
    if with_password(&connection, &methods, ask)? {
        return Ok(connection);
    }
    Err(KeySyncError::NotAdmitted {
        address: connection.address(),
        user: request.target.user.clone(),
        methods: methods.join(","),
    })
}

fn with_keys(connection: &Connection, request: &KeySync<'_>) -> Result<bool, FarError> {
    let (session, user) = (&connection.session, &request.target.user);
    if with_agent(session, user) {
        return Ok(true);
    }
    for key in DEFAULT_KEYS.map(|key| request.home.join(key)) {
        if key.is_file()
            && key != request.target.key
            && let Err(error) = session.userauth_pubkey_file(user, None, &key, None)
        {
            refused(connection.address(), &error)?;
        }
        if session.authenticated() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tries the identities of a running SSH agent; having none is no error.
fn with_agent(session: &Session, user: &str) -> bool {
    let Ok(mut agent) = session.agent() else { return false };
    let identities = agent.connect().and_then(|()| agent.list_identities()).and_then(|()| agent.identities());
    identities
        .unwrap_or_default()
        .iter()
        .take(AGENT_IDENTITIES)
        .any(|identity| agent.userauth(user, identity).is_ok())
}

fn with_password(
    connection: &Connection,
    methods: &[String],
    ask: &mut dyn Ask,
) -> Result<bool, KeySyncError> {
    let (session, user) = (&connection.session, &connection.target.user);
    let offered = |method: &str| methods.iter().any(|offer| offer == method);
    if !offered("password") && !offered("keyboard-interactive") {
        return Ok(false);
    }
    for _ in 0..PASSWORD_TRIES {
        let answer = ask.password(user, connection.target.host).map_err(KeySyncError::Terminal)?;
        let Some(password) = answer else { return Ok(false) };
        let result = if offered("password") {
            session.userauth_password(user, &password)
        } else {
            session.userauth_keyboard_interactive(user, &mut Answer(&password))
        };
        match result {
            Ok(()) => return Ok(true),
            Err(error) => refused(connection.address(), &error)?,
        }
    }
    Ok(false)
}

/// Answers each hidden question with the password: what PAM asks when it is behind keyboard-interactive.
struct Answer<'a>(&'a str);

impl KeyboardInteractivePrompt for Answer<'_> {
    fn prompt<'a>(&mut self, _user: &str, _instructions: &str, prompts: &[Prompt<'a>]) -> Vec<String> {
        prompts.iter().map(|prompt| if prompt.echo { String::new() } else { self.0.to_owned() }).collect()
    }
}

fn methods(connection: &Connection) -> Vec<String> {
    let methods = connection.session.auth_methods(&connection.target.user).unwrap_or_default();
    methods.split(',').map(str::to_owned).collect()
}

/// A refusal is no error; a broken link is.
fn refused(address: SocketAddr, error: &ssh2::Error) -> Result<(), FarError> {
    if is_about_credentials(error) {
        return Ok(());
    }
    Err(FarError::Lost { address, reason: error.message().into() })
}
