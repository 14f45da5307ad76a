//! The one address that phones know, where a pair shares one (SARK): what a cluster says of it, and what a node tells
//! its cluster.
//!
//! Who holds the address is settled between the two nodes' clusters, quicker than a node decides anything; telephony
//! follows the address. So a node's table reads a [`View`], and a cluster is told a [`Standing`].

pub mod beat;
pub mod heartbeat;
pub mod native;

use std::time::Duration;

use crate::health::Verdict;

/// What a cluster says of the address and of the other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    /// Whether this node is entitled to the address, so that phones reach it here.
    pub held: bool,
    /// The other node: `Up` when it is heard and could serve, `Degraded` when it is heard and could not, or not yet,
    /// `Down` when it has been silent for so long that its address has lapsed.
    pub peer: Verdict,
    /// Neither the other node nor any reference is heard here.
    pub isolated: bool,
    /// How many handovers were asked for and did not come about: the other node refused, or did not take.
    pub failed_handovers: u32,
    /// The other node did not give the address on purpose after all: its engine ended by then. Of clusters that learn that
    /// only afterwards.
    pub ended: bool,
}

impl View {
    /// At the start: nothing is held, nobody was heard.
    pub const FIRST: View =
        View { held: false, peer: Verdict::Unknown, isolated: false, failed_handovers: 0, ended: false };
}

/// What a node tells its cluster of itself; the other node hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Standing {
    /// Telephony could be started here: configured, not in maintenance, its last start did not fail.
    pub able: bool,
    /// What this node holds newer than the other, or the other newer than this one, has not been carried yet: a planned
    /// return of the address waits for it, a takeover from a dead node does not.
    pub carrying: bool,
    /// Nothing is taken over while somebody works on the pair.
    pub maintenance: bool,
}

/// How an address is held: what must be equal, or is summed up, on both nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How long the kernel keeps the address after the last renewal.
    pub lease: Duration,
    /// How much longer than a lease the other node waits.
    pub margin: Duration,
    /// Between two beats.
    pub beat: Duration,
    /// How long a permit is good for: what sleeps longer between reading the clock and renewing is refused.
    pub permit: Duration,
}
