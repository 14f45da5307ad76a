//! What the two engines of a pair tell each other past their cluster: over the pair's SSH, when one asks.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::cluster::Standing;
use serde::{Deserialize, Serialize};

use super::Charter;
use crate::report::{Failure, Report, Verdict};

/// What a node says of itself and of the pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// See [`Standing::able`].
    pub able: bool,
    /// See [`Standing::carrying`].
    pub carrying: bool,
    /// See [`Standing::maintenance`].
    pub maintenance: bool,
    /// For how long its engine has run, seconds.
    pub up: u64,
    /// What it has in mind.
    pub agreed: Agreed,
}

/// What must be the same on both nodes of a pair that shares an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The word of the settings.
    pub kind: String,
    /// What phones know.
    pub address: IpAddr,
    /// The nodes' names.
    pub primary_node: String,
    /// See `primary_node`.
    pub standby_node: String,
    /// See [`Cluster::moves`](super::Cluster::moves).
    pub moves: Option<String>,
}

impl Agreed {
    /// Of a charter, and of what its cluster moves.
    pub fn new(charter: &Charter, moves: Option<&str>) -> Agreed {
        Agreed {
            kind: charter.kind().to_owned(),
            address: charter.address,
            primary_node: charter.shared.primary_node.clone(),
            standby_node: charter.shared.standby_node.clone(),
            moves: moves.map(str::to_owned),
        }
    }

    /// Where the other node's differ: a phrase for each, which names both values.
    pub fn differences(&self, other: &Agreed) -> Vec<String> {
        let values = |agreed: &Agreed| {
            let Agreed { kind, address, primary_node, standby_node, moves } = agreed.clone();
            let moves = moves.unwrap_or_default();
            [
                ("the kind of cluster", kind),
                ("the address", address.to_string()),
                ("the primary node", primary_node),
                ("the standby node", standby_node),
                ("what Heartbeat moves", moves),
            ]
        };
        let pairs = values(self).into_iter().zip(values(other));
        let differing = pairs.filter(|(own, others)| own != others);
        differing
            .map(|((what, own), (_, others))| format!("{what} is {own:?} here, {others:?} there"))
            .collect()
    }
}

impl Said {
    /// Of a node that stands so, and whose engine has run for so long.
    pub fn new(standing: Standing, up: Duration, agreed: Agreed) -> Said {
        let Standing { able, carrying, maintenance } = standing;
        Said { able, carrying, maintenance, up: up.as_secs(), agreed }
    }

    /// Why the address could not be given back to it now, for a person; `None`: it could.
    pub fn in_the_way(&self) -> Option<&'static str> {
        match self {
            Said { maintenance: true, .. } => Some("maintenance is on"),
            Said { able: false, .. } => Some("telephony cannot be started"),
            Said { carrying: true, .. } => Some("what it holds newer has not been carried yet"),
            Said { .. } => None,
        }
    }
}

impl From<Said> for Verdict {
    fn from(said: Said) -> Verdict {
        let json = serde_json::to_value(said).map_err(Failure::environment)?;
        Ok(Report::new("", json))
    }
}

impl TryFrom<Report> for Said {
    type Error = Failure;

    fn try_from(report: Report) -> Result<Said, Failure> {
        serde_json::from_value(report.json)
            .map_err(|error| Failure::environment(format!("the other node's answer cannot be read: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed() -> Agreed {
        Agreed {
            kind: "heartbeat".to_owned(),
            address: "192.0.2.100".parse().unwrap(),
            primary_node: "sark1".to_owned(),
            standby_node: "sark2".to_owned(),
            moves: Some("IPaddr2::192.0.2.100/24/eth0".to_owned()),
        }
    }

    #[test]
    fn what_differs_is_told_with_both_values() {
        assert_eq!(agreed().differences(&agreed()), Vec::<String>::new());
        let other = Agreed {
            standby_node: "sark3".to_owned(),
            moves: Some("IPaddr2::192.0.2.100/24/ens3".to_owned()),
            ..agreed()
        };
        assert_eq!(
            agreed().differences(&other),
            [
                "the standby node is \"sark2\" here, \"sark3\" there",
                "what Heartbeat moves is \"IPaddr2::192.0.2.100/24/eth0\" here, \"IPaddr2::192.0.2.100/24/ens3\" there",
            ]
        );
    }

    #[test]
    fn the_other_node_reads_what_was_said_and_nothing_else() {
        let said = Said { able: true, carrying: false, maintenance: false, up: 7, agreed: agreed() };
        let report = Verdict::from(said.clone()).unwrap();
        assert_eq!(Said::try_from(report).unwrap(), said);
        let strange = Report::done("the other node answered");
        assert!(Said::try_from(strange).unwrap_err().message.contains("cannot be read"));
    }

    #[test]
    fn a_node_that_must_carry_or_is_worked_on_is_given_nothing_back() {
        for (able, carrying, maintenance, expected) in [
            (true, false, false, true),
            (false, false, false, false),
            (true, true, false, false),
            (true, false, true, false),
        ] {
            let said = Said { able, carrying, maintenance, up: 7, agreed: agreed() };
            assert_eq!(said.in_the_way().is_none(), expected, "{said:?}");
        }
    }
}
