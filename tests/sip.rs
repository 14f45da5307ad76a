use std::process::Child;
use std::time::Duration;

use crate::{Event, Host, Lab, Moment, lab};

/// A phone's view of the pair: both nodes asked with SIP OPTIONS every 100 ms from the client's host.
#[derive(Debug)]
pub struct SipWatch {
    child: Child,
    log: std::path::PathBuf,
}

impl SipWatch {
    /// Begins to ask.
    pub fn start(lab: &Lab) -> SipWatch {
        let log = lab.mailbox(Host::Client, "sipwatch.log");
        let tool = lab::tools().join("sipwatch.py").display().to_string();
        let target = |host: Host| format!("{host}={}", host.address());
        let path = log.display().to_string();
        let argv = [tool.as_str(), &path, &target(Host::Master), &target(Host::Slave)];
        SipWatch { child: lab.spawn_in_network(Host::Client, &argv), log }
    }

    /// Whether that node answered when it was last asked.
    pub fn answers(&self, host: Host) -> bool {
        self.changes()
            .iter()
            .rev()
            .find(|event| event.name == host.name())
            .is_some_and(|event| event.rest == "up")
    }

    /// Every change seen, oldest first: name of the node, `up` or `down`. A `down` bears the time of the last answer.
    pub fn changes(&self) -> Vec<Event> {
        Event::read(&self.log)
    }

    /// How long no node answered, from `since` to the first answer of `host` after it; `None`: it never answered.
    pub fn outage(&self, since: Moment, host: Host) -> Option<Duration> {
        let changes = self.changes();
        let answer = changes.iter().find(|event| event.at > since && event.is(host.name(), "up"))?;
        Some(answer.at.after(since))
    }
}

impl Drop for SipWatch {
    fn drop(&mut self) {
        // the child may be gone already when its network is
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the node answers SIP OPTIONS from the client within a second.
pub(crate) fn answers(lab: &Lab, host: Host) -> bool {
    let tool = lab::tools().join("sipwatch.py").display().to_string();
    let mut child = lab.spawn_in_network(Host::Client, &[&tool, "--once", &host.address().to_string()]);
    child.wait().is_ok_and(|status| status.success())
}
