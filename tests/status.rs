use serde_json::Value;

/// What `status --json` said.
#[derive(Debug, Clone, PartialEq)]
pub struct Status(Value);

impl Status {
    /// Reads the document; `None` when it is not one.
    pub(crate) fn parse(text: &str) -> Option<Status> {
        serde_json::from_str(text).ok().map(Status)
    }

    /// A word at a path such as `/peer_rungs/host`; empty when there is none.
    pub fn word(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The verdict on the peer: `up`, `degraded`, `down` or `unknown`.
    pub fn peer(&self) -> &str {
        self.word("/peer")
    }

    /// What telephony does here: `running`, `stopped`, `starting`, `stopping` or `failed`.
    pub fn services(&self) -> &str {
        self.word("/services")
    }

    /// The role: `master`, `slave` or `disabled`.
    pub fn node_type(&self) -> &str {
        self.word("/node_type")
    }

    /// Whether this node serves the phones.
    pub fn active(&self) -> bool {
        self.0["active"].as_bool().expect("`active` is a boolean")
    }

    /// Whether this node hears neither its peer nor a reference.
    pub fn isolated(&self) -> bool {
        self.0["isolated"].as_bool().expect("`isolated` is a boolean")
    }

    /// The node's generation number.
    pub fn generation(&self) -> u64 {
        self.0["generation"].as_u64().expect("`generation` is a number")
    }

    /// The last error of a replication's part (`files`, `database`), if any.
    pub fn replication_error(&self, part: &str) -> Option<&str> {
        self.0["replication"][part]["last_error"].as_str()
    }

    /// The whole document, for what has no name here.
    pub fn document(&self) -> &Value {
        &self.0
    }
}
