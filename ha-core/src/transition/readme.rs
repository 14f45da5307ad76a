//! The table as people read it.

use std::fmt;

use super::table::WORKING;
use super::{Address, Guard, Move, RULES, Rule};
use crate::distribution::ServiceState;
use crate::health::Verdict;

/// The table as Markdown, for the README; a test writes it there.
pub fn markdown() -> String {
    let mut out = String::from(
        "| id | role | address | telephony | peer was | peer is | in the way | does | says |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for rule in RULES {
        out.push_str(&format!("{rule}\n"));
    }
    out
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<&str> = self.roles.iter().map(|role| role.word()).collect();
        let address = match self.address {
            set if set.len() == Address::ALL.len() => "any".to_owned(),
            set if !set.contains(&Address::Own) && set.len() > 1 => "shared".to_owned(),
            set => set.iter().map(|address| address.word()).collect::<Vec<_>>().join(", "),
        };
        let active = match self.active {
            [true] => "here",
            [false] => "not here",
            _ => "any",
        };
        let verdicts = |set: &[Verdict]| match set {
            set if set.len() == Verdict::ALL.len() => "any".to_owned(),
            set => {
                set.iter().map(|verdict| format!("{verdict:?}").to_lowercase()).collect::<Vec<_>>().join(", ")
            }
        };
        let guards = match self.guards {
            set if set.len() == Guard::ALL.len() => "any".to_owned(),
            set if set.len() == WORKING.len() => "not maintenance".to_owned(),
            [Guard::Clear] => "nothing".to_owned(),
            set => set.iter().map(|guard| guard.word()).collect::<Vec<_>>().join(", "),
        };
        let does = match self.services {
            Move::Keep => "keep",
            Move::Want(ServiceState::Running) => "start",
            Move::Want(ServiceState::Stopped) => "stop",
            Move::HandOver => "hand over",
        };
        write!(
            f,
            "| {} | {} | {address} | {active} | {} | {} | {guards} | {does} | {} |",
            self.id,
            roles.join(", "),
            verdicts(self.from),
            verdicts(self.to),
            self.why
        )
    }
}
