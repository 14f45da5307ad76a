//! A machine's first process: its network, its door and its daemon.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ha_core::distribution::{ShareError, Shared, Wish};
use ha_core::replication::copying::{Copying, NotSaid};
use ha_core::{Distribution, Effect, Profile, Role, RoleChange, RoleConfig, RoleError, ServiceState};

use super::super::place::shared;
use super::super::turnstile::Turnstile;
use super::super::{door, network};
use super::MachineArguments;
use crate::cli::block_on;
use crate::cluster::{Charter, Cluster};
use crate::context::Context;
use crate::driver::{self, Opener};
use crate::report::{Failure, Verdict};
use crate::settings::ClusterKind;
use crate::way::Way;

/// Runs it until it is told to end.
pub(in crate::demo) fn run(context: Context, until: i32, machine: &MachineArguments) -> Verdict {
    let role: Role = machine.role.parse().map_err(Failure::usage)?;
    let program = std::env::current_exe().map_err(Failure::environment)?;
    let path = |path: &Path| path.display().to_string();
    let words = [
        path(&program),
        "demo-part".into(),
        "--until".into(),
        until.to_string(),
        "call".into(),
        path(&machine.peer_door),
    ];
    let context = Context { way: Way::Program(words.into()), ..context };
    door::open(&context.root)?;
    match (machine.address, &machine.turnstile) {
        (Some(address), Some(turnstile)) => {
            // one per process, as long as the process
            let inner = context.distribution;
            let distribution = Box::leak(Box::new(WithoutNetwork { inner, address }));
            block_on(driver::run_with(Context { distribution, ..context }, through(turnstile)))
        }
        _ => {
            let name =
                context.root.directory().file_name().unwrap_or_default().to_string_lossy().into_owned();
            network::settle(role, &name)?;
            block_on(driver::run(context))
        }
    }
}

/// Opens what stands in the native cluster's place.
fn through(turnstile: &Path) -> Opener {
    let turnstile = turnstile.to_owned();
    Arc::new(move |_: &Context, charter: &Charter| {
        let ClusterKind::Native(terms) = charter.settings.kind else {
            return Err(Failure::usage("the demonstration has no other cluster"));
        };
        let opened = Turnstile::open(&turnstile, charter.role, terms.lease + terms.margin);
        opened.map(|cluster| Box::new(cluster) as Box<dyn Cluster>).map_err(Failure::environment)
    })
}

/// A distribution whose pair has an address that leads to this machine only, which is refused everywhere else.
struct WithoutNetwork {
    inner: &'static dyn Distribution,
    address: IpAddr,
}

impl Distribution for WithoutNetwork {
    fn profile(&self) -> &'static Profile {
        self.inner.profile()
    }

    fn copying(&self, conf: Option<&str>) -> Result<Copying, NotSaid> {
        self.inner.copying(conf)
    }

    fn parse_role(&self, text: Option<&str>) -> Result<RoleConfig, RoleError> {
        self.inner.parse_role(text)
    }

    fn apply_role(&self, change: &RoleChange<'_>) -> Vec<Effect> {
        self.inner.apply_role(change)
    }

    fn set_services(&self, to: ServiceState, role: Role) -> Vec<Effect> {
        self.inner.set_services(to, role)
    }

    fn share(
        &self,
        _: Option<&str>,
        _: &Wish,
        to: &RoleConfig,
        _: &str,
    ) -> Result<Option<Shared>, ShareError> {
        Ok(to.peer().map(|_| shared(self.address)))
    }

    fn has_failover_card(&self, conf: &str) -> bool {
        self.inner.has_failover_card(conf)
    }

    fn restarts_alone(&self, conf: &str) -> bool {
        self.inner.restarts_alone(conf)
    }
}
