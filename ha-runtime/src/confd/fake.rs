//! A small confd, wazo-auth and provd on loopback, over real sockets, for tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

pub(crate) const TOKEN: &str = "7f3c0a52-token";
pub(crate) const KEY: &str = "s3cret-key";
/// `wazo-upgrade:s3cret-key`
const BASIC: &str = "Basic d2F6by11cGdyYWRlOnMzY3JldC1rZXk=";

/// What the services hold. Absent resources answer 404, as releases do that do not have them.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) general: Option<Value>,
    pub(crate) templates: Option<Vec<Value>>,
    pub(crate) registrars: Option<Vec<Value>>,
    /// provd's version in the path, and its configs.
    pub(crate) provd: Option<(&'static str, BTreeMap<String, Value>)>,
    pub(crate) devices: Vec<Value>,
    /// Ids of devices that cannot be told.
    pub(crate) unreachable: Vec<&'static str>,
    /// Which PUT, counted from 1, fails with 500; the ones after it work again.
    pub(crate) fail_put: Option<usize>,
    /// From which PUT on all fail.
    pub(crate) fail_from: Option<usize>,
    /// So many reads fail with 503 first.
    pub(crate) starting: usize,
    /// Answers to `POST /token` with 401.
    pub(crate) locked: bool,
    /// `METHOD path` of every request.
    pub(crate) log: Vec<String>,
}

impl State {
    pub(crate) fn puts(&self) -> Vec<&str> {
        self.log.iter().filter(|line| line.starts_with("PUT ")).map(String::as_str).collect()
    }
}

/// Serves until the process ends; each test has its own, on a port of its own.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(crate) fn serve(state: State) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(stream.unwrap(), &mut shared.lock().unwrap());
            }
        });
        Fake { address, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn answer(stream: TcpStream, state: &mut State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.split_once(':') {
            Some((name, value)) => drop(headers.insert(name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    state.log.push(format!("{method} {path}"));
    let (status, answer) = route(state, &method, &path, &headers, body);
    let text = answer.map(|answer| answer.to_string()).unwrap_or_default();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    reader.get_mut().write_all(format!("{head}{text}").as_bytes())
}

fn route(
    state: &mut State,
    method: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
    body: Value,
) -> (u16, Option<Value>) {
    if (method, path) == ("POST", "/0.1/token") {
        let known = headers.get("authorization").is_some_and(|basic| basic == BASIC) && !state.locked;
        assert!(body["expiration"].is_u64(), "no expiration: {body}");
        return if known { (200, Some(json!({"data": {"token": TOKEN}}))) } else { (401, None) };
    }
    // the older provd knows no log-ins
    let open = path.starts_with("/provd/");
    if !open && headers.get("x-auth-token").is_none_or(|token| token != TOKEN) {
        return (401, Some(json!(["Unauthorized"])));
    }
    if method == "GET" {
        if state.starting > 0 {
            state.starting -= 1;
            return (503, None);
        }
        return read(state, path).map_or((404, Some(json!(["Not found"]))), |found| (found.0, Some(found.1)));
    }
    // this one is in the log already
    let count = state.puts().len();
    if state.fail_put == Some(count) || state.fail_from.is_some_and(|from| count >= from) {
        return (500, Some(json!(["Unexpected error"])));
    }
    match write(state, path, body) {
        Some(()) => (204, None),
        None => (404, None),
    }
}

fn read(state: &State, path: &str) -> Option<(u16, Value)> {
    let list = |items: &Vec<Value>| (200, json!({"items": items, "total": items.len()}));
    if let Some((version, configs)) = &state.provd
        && path == format!("/{version}/cfg_mgr/configs?q=%7B%22X_type%22%3A%20%22registrar%22%7D")
    {
        let registrars: Vec<_> = configs.values().filter(|config| config["X_type"] == "registrar").collect();
        return Some((200, json!({ "configs": registrars })));
    }
    if let Some(device) = path.strip_prefix("/1.1/devices/") {
        let id = device.strip_suffix("/synchronize")?;
        let known = state.devices.iter().any(|device| device["id"] == id);
        let status = if state.unreachable.contains(&id) { 500 } else { 202 };
        return known.then_some((status, Value::Null));
    }
    match path {
        "/1.1/asterisk/sip/general" => state.general.clone().map(|general| (200, general)),
        "/1.1/endpoints/sip/templates?recurse=true" => state.templates.as_ref().map(list),
        "/1.1/registrars" => state.registrars.as_ref().map(list),
        "/1.1/devices?recurse=true" => Some(list(&state.devices)),
        _ => None,
    }
}

fn write(state: &mut State, path: &str, body: Value) -> Option<()> {
    if path == "/1.1/asterisk/sip/general" {
        // what is not sent is gone
        *state.general.as_mut()? = body;
        return Some(());
    }
    if let Some(uuid) = path.strip_prefix("/1.1/endpoints/sip/templates/") {
        let template = state.templates.as_mut()?.iter_mut().find(|one| one["uuid"] == uuid)?;
        for (key, value) in body.as_object()? {
            template[key] = value.clone();
        }
        return Some(());
    }
    if let Some(id) = path.strip_prefix("/1.1/registrars/") {
        let registrar = state.registrars.as_mut()?.iter_mut().find(|one| one["id"] == id)?;
        *registrar = body;
        return Some(());
    }
    let (version, configs) = state.provd.as_mut()?;
    let id = path.strip_prefix(&format!("/{version}/cfg_mgr/configs/"))?;
    *configs.get_mut(id)? = body.get("config")?.clone();
    Some(())
}
