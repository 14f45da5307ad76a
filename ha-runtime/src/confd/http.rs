//! One login and the requests made with it. Plain HTTP to this machine.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ha_core::profile::Api;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::Agent;

use super::{ConfdConfig, PbxError, SipTable, expiry};

/// For a whole request. The services are on this machine.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts to read from a service that is starting.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest answer that is read: a PBX with ten thousand devices stays far below.
const LONGEST: u64 = 32 * 1024 * 1024;
/// Life of a token: longer than everything that is done with it.
const TOKEN_SECONDS: u32 = 600;
/// As provd's documentation has it.
const PROVD_TYPE: &str = "application/vnd.proformatique.provd+json";

/// A resource that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    /// SIP options of older releases.
    General,
    /// SIP options in the database.
    Table,
    /// A SIP template of a tenant, by UUID.
    Template(String),
    /// A registrar of confd.
    Registrar(String),
    /// A config of provd: version in the path, id.
    ProvdConfig(String, String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::General => f.write_str("the general SIP options"),
            Target::Table => f.write_str("the general SIP options in the table staticsip"),
            Target::Template(uuid) => write!(f, "SIP template {uuid}"),
            Target::Registrar(id) => write!(f, "registrar {id}"),
            Target::ProvdConfig(_, id) => write!(f, "provd config {id}"),
        }
    }
}

/// A login.
pub(super) struct Session<'a> {
    config: &'a ConfdConfig,
    agent: Agent,
    token: String,
}

impl<'a> Session<'a> {
    /// Logs in with the service's key, where there is a confd to log in to.
    pub(super) fn open(config: &'a ConfdConfig) -> Result<Session<'a>, PbxError> {
        // no proxy from the environment: the requests carry credentials and stay on this machine
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .build()
            .new_agent();
        if config.api == Api::Provd {
            return Ok(Session { config, agent, token: String::new() });
        }
        let basic = basic(&credentials(&config.key_file)?);
        let body = json!({ "expiration": TOKEN_SECONDS });
        let what = format!("POST {}/token", config.auth);
        let answer = patiently(config.patience, || {
            let request = agent
                .post(format!("{}/token", config.auth))
                .header("Authorization", &basic)
                .content_type("application/json");
            answer(&what, request.send(body.to_string()))
        })?;
        let token = answer.pointer("/data/token").and_then(Value::as_str);
        let token = token
            .filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| PbxError::Answer { what, why: "a token in data.token was expected".to_owned() })?;
        Ok(Session { config, agent, token: token.to_owned() })
    }

    /// A document of confd; `None`: this release has no such resource.
    pub(super) fn read(&self, path: &str) -> Result<Option<Value>, PbxError> {
        if self.config.api == Api::Provd {
            return Ok(None);
        }
        self.read_from(&format!("{}{path}", self.config.confd))
    }

    /// The items of a list of confd; `None`: this release has no such list.
    pub(super) fn items(&self, path: &str) -> Result<Option<Vec<Value>>, PbxError> {
        let what = format!("GET {}{path}", self.config.confd);
        self.read(path)?.map(|list| list_in(list, "items", &what)).transpose()
    }

    /// provd's registrars and the version in its paths. The older of the two paths is the documentation's.
    pub(super) fn provd_registrars(&self) -> Result<(String, Vec<Value>), PbxError> {
        // {"X_type": "registrar"}
        let query = "cfg_mgr/configs?q=%7B%22X_type%22%3A%20%22registrar%22%7D";
        let mut what = String::new();
        for version in ["provd", "0.2"] {
            let url = format!("{}/{version}/{query}", self.config.provd);
            what = format!("GET {url}");
            if let Some(answer) = self.read_from(&url)? {
                return Ok((version.to_owned(), list_in(answer, "configs", &what)?));
            }
        }
        Err(PbxError::Refused { what, status: 404 })
    }

    fn read_from(&self, url: &str) -> Result<Option<Value>, PbxError> {
        let what = format!("GET {url}");
        let read = patiently(self.config.patience, || {
            answer(&what, self.agent.get(url).header("X-Auth-Token", &self.token).call())
        });
        match read {
            Ok(document) => Ok(Some(document)),
            Err(PbxError::Refused { status: 404, .. }) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// One attempt to replace a resource.
    pub(super) fn put(&self, target: &Target, body: &Value) -> Result<(), PbxError> {
        let ConfdConfig { confd, provd, .. } = self.config;
        let (url, kind) = match target {
            Target::Table => return expiry::write_table(&*self.config.table, body),
            Target::General => (format!("{confd}/asterisk/sip/general"), "application/json"),
            Target::Template(uuid) => (format!("{confd}/endpoints/sip/templates/{uuid}"), "application/json"),
            Target::Registrar(id) => (format!("{confd}/registrars/{id}"), "application/json"),
            Target::ProvdConfig(version, id) => {
                (format!("{provd}/{version}/cfg_mgr/configs/{id}"), PROVD_TYPE)
            }
        };
        let request = self.agent.put(&url).header("X-Auth-Token", &self.token).content_type(kind);
        answer(&format!("PUT {url}"), request.send(body.to_string())).map(drop)
    }

    /// The SIP options of a release whose confd does not have them.
    pub(super) fn table(&self) -> &dyn SipTable {
        &*self.config.table
    }

    /// One attempt at a request that only says "do".
    pub(super) fn tell(&self, path: &str) -> Result<(), PbxError> {
        let url = format!("{}{path}", self.config.confd);
        let call = self.agent.get(&url).header("X-Auth-Token", &self.token).call();
        answer(&format!("GET {url}"), call).map(drop)
    }
}

/// The part of an answer that names a resource; it becomes a part of a path.
pub(super) fn id_of(item: &Value, key: &str) -> Result<String, PbxError> {
    let id = match &item[key] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if id.is_empty() || !plain || id.bytes().all(|byte| byte == b'.') {
        let why = format!("{key} {id:?} cannot be part of an address");
        return Err(PbxError::Answer { what: "an item of a list".to_owned(), why });
    }
    Ok(id)
}

fn list_in(mut document: Value, key: &str, what: &str) -> Result<Vec<Value>, PbxError> {
    match document[key].take() {
        Value::Array(items) => Ok(items),
        _ => {
            let why = format!("a list in {key} was expected");
            Err(PbxError::Answer { what: what.to_owned(), why })
        }
    }
}

/// Repeats what does no harm when repeated, until it works, fails for good, or takes too long.
fn patiently<T>(patience: Duration, attempt: impl Fn() -> Result<T, PbxError>) -> Result<T, PbxError> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(err) if err.may_pass() && begun.elapsed() + PAUSE < patience => thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

/// The document of a good answer; `null` when it has none.
fn answer(
    what: &str,
    outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value, PbxError> {
    let unreachable =
        |err: ureq::Error| PbxError::Unreachable { what: what.to_owned(), why: err.to_string() };
    let mut response = outcome.map_err(unreachable)?;
    let status = response.status();
    if !status.is_success() {
        return Err(PbxError::Refused { what: what.to_owned(), status: status.as_u16() });
    }
    let body = response.body_mut().with_config().limit(LONGEST).read_to_vec().map_err(unreachable)?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|err| PbxError::Answer {
        what: what.to_owned(),
        // the position only: the text may hold anything
        why: format!("not JSON at line {}, column {}", err.line(), err.column()),
    })
}

/// `id:key` from the two lines of a service's key file.
fn credentials(path: &Path) -> Result<String, PbxError> {
    let wrong = |why: &str| PbxError::Key { path: path.to_owned(), why: why.to_owned() };
    let text = fs::read_to_string(path).map_err(|err| wrong(&err.to_string()))?;
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim();
        let quoted = ['"', '\''].iter().find_map(|q| found.strip_prefix(*q)?.strip_suffix(*q));
        Some(quoted.unwrap_or(found))
            .filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()))
    };
    let id = value("service_id").ok_or_else(|| wrong("no service_id in it"))?;
    let key = value("service_key").ok_or_else(|| wrong("no service_key in it"))?;
    if id.contains(':') {
        return Err(wrong("the service_id holds a colon"));
    }
    Ok(format!("{id}:{key}"))
}

/// RFC 7617.
fn basic(credentials: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "Basic ".to_owned();
    for chunk in credentials.as_bytes().chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place) & 63) as usize;
            text.push(if place <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_as_basic() {
        // RFC 7617, section 2; RFC 4648, section 10
        assert_eq!(basic("Aladdin:open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("foobar"), "Basic Zm9vYmFy");
        assert_eq!(basic("fooba"), "Basic Zm9vYmE=");
    }

    #[test]
    fn a_key_file_is_two_lines_of_yaml() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.yml");
        for text in [
            "service_id: wazo-upgrade\nservice_key: s3cret\n",
            "---\nservice_key: \"s3cret\"\nservice_id: 'wazo-upgrade'",
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(credentials(&path).unwrap(), "wazo-upgrade:s3cret");
        }
        fs::write(&path, "service_id: wazo-upgrade\n").unwrap();
        let refusal = credentials(&path).unwrap_err().to_string();
        assert!(refusal.contains("no service_key in it"), "{refusal}");
    }

    #[test]
    fn an_id_that_would_lead_elsewhere_is_refused() {
        assert_eq!(id_of(&json!({"id": "default"}), "id").unwrap(), "default");
        assert_eq!(id_of(&json!({"id": 7}), "id").unwrap(), "7");
        for id in ["", "..", "a/b", "a?b", "a b"] {
            assert!(id_of(&json!({ "id": id }), "id").is_err(), "{id}");
        }
    }
}
