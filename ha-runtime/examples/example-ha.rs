//! The whole program of a distribution that nobody has: its slave fetches, and both of its nodes may be this machine.
//!
//! The tests of fetching start it under a real sshd.

use std::process::ExitCode;
use std::time::Duration;

use ha_core::carry::Carried;
use ha_core::effect::{Command, OnFailure};
use ha_core::profile::{Dataset, Direction, Observation, ServicePlan, Step};
use ha_core::replication::copying::{Copied, Copying, NotSaid};
use ha_core::testkit::EXAMPLE;
use ha_core::{Distribution, Effect, PeerAddress, Profile, Role, RoleChange, RoleConfig, RoleError};

struct Example;

/// `loose`, `database PATH`, `messages TREE`, `greetings TREE`, `afterwards PROGRAM ARGUMENT...` and
/// `told PROGRAM ARGUMENT...`, a line each.
const COPYING: &str = "/etc/example/copying";

const fn step(argv: &'static [&'static str]) -> Step {
    Step { argv, ..EXAMPLE.services.status }
}

static PROFILE: Profile = Profile {
    direction: Direction::Pull,
    schedule: "* * * * *",
    conf_file: Some(COPYING),
    datasets: &[Dataset::whole("/srv/data", "an example"), Dataset::whole("/srv/voicemail", "an example")],
    services: ServicePlan {
        start: &[step(&["pbx-start"])],
        stop: &[step(&["pbx-stop"])],
        status: step(&["pbx-status"]),
    },
    observe: Observation { disabled_file: Some("/run/disabled"), ..EXAMPLE.observe },
    ..EXAMPLE
};

impl Distribution for Example {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    /// `master 127.0.0.1`, as no real pair may have it.
    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        let Some((role, peer)) = text.unwrap_or_default().trim().split_once(' ') else {
            return Ok(RoleConfig::Disabled);
        };
        let ip = peer.parse().map_err(|_| RoleError::NotAnAddress(peer.to_owned()))?;
        let peer = PeerAddress::on_this_machine(ip)?;
        Ok(match role.parse()? {
            Role::Disabled => RoleConfig::Disabled,
            Role::Master => RoleConfig::Master { slave: peer },
            Role::Slave => RoleConfig::Slave { master: peer },
        })
    }

    fn copying(&self, conf: Option<&str>) -> Result<Copying, NotSaid> {
        let mut copying = Copying::from(&PROFILE);
        for line in conf.unwrap_or_default().lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("loose", _) => copying.by_hand_only = Some("it is loose".to_owned()),
                ("database", path) => {
                    copying.datasets.push(Copied::Sqlite { path: path.to_owned(), derived: Vec::new() });
                }
                ("messages", tree) => carry(&mut copying, tree, Carried::Messages),
                ("greetings", tree) => carry(&mut copying, tree, Carried::NewFiles),
                ("afterwards", text) => copying.afterwards = Some(command(text)),
                ("told", text) => copying.after_messages = Some(command(text)),
                (word, _) => {
                    let words = "loose, database, messages, greetings, afterwards or told";
                    let why = format!("\"{word}\" is not known: {words}");
                    return Err(NotSaid { file: COPYING, why });
                }
            }
        }
        Ok(copying)
    }

    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        let content = format!("{} {}", change.to.role(), change.to.remote_address());
        vec![Effect::WriteFile { path: PROFILE.role_file.to_owned(), content, mode: 0o644 }]
    }
}

/// What of a tree is carried from a node that returns.
fn carry(copying: &mut Copying, tree: &str, what: Carried) {
    for dataset in &mut copying.datasets {
        if let Copied::Tree { root, carried, .. } = dataset
            && root.as_str() == tree
        {
            *carried = what;
        }
    }
}

fn command(text: &str) -> Command {
    let argv = text.split(' ').map(str::to_owned).collect();
    Command { argv, timeout: Duration::from_secs(60), on_failure: OnFailure::Fail }
}

fn main() -> ExitCode {
    ha_runtime::cli::main(&Example)
}
