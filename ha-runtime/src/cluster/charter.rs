//! What a cluster is opened with, and which kind of cluster it is.

use std::net::IpAddr;
use std::time::Duration;

use ha_core::cluster::beat::Rank;
use ha_core::cluster::native::BOOT_WAIT;
use ha_core::distribution::{Shared, Wish};
use ha_core::{Role, RoleConfig};

use super::gate::Gate;
use super::native::{Key, NativeCluster, Setup};
use super::{Cluster, heartbeat};
use crate::addresses;
use crate::configure;
use crate::context::Context;
use crate::report::Failure;
use crate::settings::{self, ClusterKind};

/// Everything that a cluster is opened with: another one means another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter {
    /// Which side of the pair this node is.
    pub role: Role,
    /// The other node.
    pub peer: IpAddr,
    /// The address that phones know.
    pub address: IpAddr,
    /// What both nodes agree on beside the address.
    pub shared: Shared,
    /// `[cluster]`
    pub settings: settings::Cluster,
    /// `[probe] reference`
    pub references: Vec<IpAddr>,
}

impl Charter {
    /// Of a node in that role; `None`: it is in no pair that shares an address. Reads the product's file.
    ///
    /// # Errors
    ///
    /// What is missing, or cannot be; what to write and where.
    pub fn of(context: &Context, role: &RoleConfig) -> Result<Option<Charter>, Failure> {
        let (true, Some(peer)) = (context.profile().exclusive_address, role.peer()) else { return Ok(None) };
        let Some(settings) = context.settings.cluster.clone() else {
            return Err(Failure::usage(format!(
                "{}: [cluster] is missing, so nobody would settle which node has the address: write the section, with \
                 interface = \"eth0\" for the interface in the phones' network; and name hosts that always answer, as the \
                 network's router, in [probe] reference",
                context.settings_path.display()
            )));
        };
        let shared = configure::shared(context, &Wish::default(), role)?;
        let address = shared.as_ref().and_then(|shared| shared.cluster_ip);
        let (Some(shared), Some(address)) = (shared, address) else {
            let program = context.profile().program;
            return Err(Failure::usage(format!(
                "the pair has no address yet: run `{program} configure {} --remote {peer} --cluster-ip IP`",
                role.role()
            )));
        };
        if let Some(path) = settings.paths.iter().find(|path| addresses::is_own(**path)) {
            return Err(Failure::usage(format!(
                "{}: [cluster] paths has {path}, an address of this machine: name those of the other node, one for each line",
                context.settings_path.display()
            )));
        }
        let references = context.settings.probe.reference.clone();
        Ok(Some(Charter { role: role.role(), peer, address, shared, settings, references }))
    }

    /// How often the engine's loop is to turn at the least, so that the cluster believes that it lives: eight times a lease,
    /// of which half is allowed (`safety.md` 5.8).
    pub fn pace(&self) -> Duration {
        match self.settings.kind {
            ClusterKind::Native(terms) => terms.lease / 8,
            ClusterKind::Heartbeat(_) => Duration::from_secs(1),
        }
    }

    /// The word of the settings.
    pub fn kind(&self) -> &'static str {
        match self.settings.kind {
            ClusterKind::Native(_) => "native",
            ClusterKind::Heartbeat(_) => "heartbeat",
        }
    }

    /// What must hold so that the address is in one place only (`safety.md` 5.1): for a person.
    pub fn assumption(&self) -> &'static str {
        match (self.settings.kind, self.settings.without_references) {
            (ClusterKind::Native(_), false) => {
                "only one node serves as long as, while both run, at least one direction of one path between them works, or \
                 one of them sees no reference"
            }
            (ClusterKind::Native(_), true) => {
                "only one node serves as long as, while both run, at least one direction of one path between them works: \
                 there is no reference, so both serve when the line between them is cut"
            }
            (ClusterKind::Heartbeat(_), _) => {
                "only one node serves as long as each Heartbeat hears the other: both serve while the line between them is cut, \
                 and nobody for some seconds after it was healed"
            }
        }
    }
}

/// A node that is in a pair no more, and on which no engine runs that would take its gate along: nothing is to keep the
/// address from being used here otherwise. What a person should know, if it cannot be had.
pub fn release(context: &Context) -> Option<String> {
    let is_native = context.settings.cluster.as_ref().is_none_or(|cluster| match cluster.kind {
        ClusterKind::Native(_) => true,
        ClusterKind::Heartbeat(_) => false,
    });
    if !(context.profile().exclusive_address && context.root.is_machine() && is_native) {
        return None;
    }
    let left = Gate::remove_left().err()?;
    Some(format!(
        "warning: the gate of the pair's address may stay closed until this machine is started anew: {left}"
    ))
}

/// Opens a cluster: from here on it beats, and may hold the address. Blocks.
///
/// # Errors
///
/// What cannot be had of the machine or of the settings; nothing is held then.
pub fn open(context: &Context, charter: &Charter) -> Result<Box<dyn Cluster>, Failure> {
    let held = &charter.settings;
    let terms = match held.kind {
        ClusterKind::Native(terms) => terms,
        ClusterKind::Heartbeat(terms) => return Ok(Box::new(heartbeat::open(context, charter, terms)?)),
    };
    let rank = Rank::of(charter.role).ok_or_else(|| Failure::guard("a disabled node has no cluster"))?;
    let key = Key::read(&context.root.path(&held.key_file)).map_err(Failure::environment)?;
    let setup = Setup {
        rank,
        terms,
        address: charter.address,
        interface: held.interface.clone(),
        paths: if held.paths.is_empty() { vec![charter.peer] } else { held.paths.clone() },
        port: held.port,
        references: charter.references.clone(),
        boot_wait: BOOT_WAIT,
    };
    let cluster = NativeCluster::start(setup, key, &context.root);
    Ok(Box::new(cluster.map_err(|error| Failure::environment(format!("[cluster]: {error}")))?))
}
