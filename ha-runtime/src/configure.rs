//! A role change as a whole: checked, performed or undone, and recorded.

use std::net::IpAddr;

use ha_core::distribution::{Shared, Wish};
use ha_core::effect::OnFailure;
use ha_core::event::Record;
use ha_core::{Effect, Profile, Role, RoleChange, RoleConfig};
use pnet::ipnetwork::IpNetwork;
use serde_json::json;

use crate::addresses;
use crate::context::Context;
use crate::effect::{Line, Outcome, Performer, Would};
use crate::lock::Lock;
use crate::node_state;
use crate::report::{Failure, Report, Verdict};
use crate::settings::{self, Policy, Preset, Transport};

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleRequest {
    /// `master`, `slave`, `disabled`.
    pub role: String,
    /// The peer's address; ignored for `disabled`.
    pub remote: String,
    /// See `--restart-services`.
    pub restart_services: bool,
    /// See `--resync`.
    pub resync: bool,
    /// What the pair is to share, where it shares anything.
    pub shared: Wish,
    /// See `--auto-failback`; `None`: as the settings have it.
    pub auto_failback: Option<bool>,
}

impl RoleRequest {
    /// The role, when it is one; nothing is changed by asking.
    pub fn check(&self) -> Result<RoleConfig, Failure> {
        let role: Role = self.role.parse().map_err(Failure::usage)?;
        let role = RoleConfig::new(role, &self.remote).map_err(Failure::usage)?;
        if let RoleConfig::Master { slave: peer } | RoleConfig::Slave { master: peer } = role {
            let own: Vec<_> = addresses::own().iter().map(|network| network.ip()).collect();
            peer.not_one_of(&own).map_err(Failure::usage)?;
        }
        Ok(role)
    }
}

/// Refuses a pair over a router where the distribution needs one network. Below another root than the machine's own it is
/// only said: which networks that PBX will be in cannot be seen from here.
fn one_network(context: &Context, to: &RoleConfig) -> Result<Option<String>, Failure> {
    let (Some(why), Some(peer)) = (context.profile().same_subnet, to.peer()) else { return Ok(None) };
    let Some(apart) = addresses::apart(peer) else { return Ok(None) };
    if context.root.is_machine() {
        return Err(Failure::guard(format!(
            "guard \"same-subnet\": {apart}. {why}. Give both nodes an address in one network, and name the other node's \
             there; nothing was changed"
        )));
    }
    Ok(Some(format!("warning: {apart}. {why}")))
}

/// Refuses what this distribution has no use for; nothing is done that was not asked for, and nothing asked for is
/// silently left.
fn known(profile: &Profile, wanted: &RoleRequest) -> Result<(), Failure> {
    if !profile.exclusive_address && (wanted.shared != Wish::default() || wanted.auto_failback.is_some()) {
        return Err(Failure::usage(format!(
            "--cluster-ip, --primary-node, --standby-node, --sync and --auto-failback belong to a pair with one address \
             for both nodes: with {} each node has its own, leave them out",
            profile.name
        )));
    }
    if wanted.resync && !resyncs(profile) {
        return Err(Failure::usage(format!(
            "--resync: {} has no call that makes phones fetch their configuration: leave it out",
            profile.name
        )));
    }
    Ok(())
}

/// Whether phones can be made to fetch their configuration.
fn resyncs(profile: &Profile) -> bool {
    profile.sip.is_some() || !profile.resync.is_empty()
}

/// What the pair shares after the change, from the product's own file and what is wished.
pub(crate) fn shared(context: &Context, wish: &Wish, to: &RoleConfig) -> Result<Option<Shared>, Failure> {
    let conf = context.product_file()?;
    let system = rustix::system::uname();
    let node = system.nodename().to_string_lossy();
    context.distribution.share(conf.as_deref(), wish, to, &node).map_err(Failure::usage)
}

/// `[failback] policy` in the settings' file, when `--auto-failback` is given.
fn failback(context: &Context, wanted: &RoleRequest) -> Result<Option<Effect>, Failure> {
    let Some(automatic) = wanted.auto_failback else { return Ok(None) };
    let file = std::path::absolute(&context.settings_path).map_err(Failure::environment)?;
    let Ok(below) = file.strip_prefix(context.root.directory()) else {
        return Err(Failure::usage(format!(
            "--auto-failback is kept in the settings, and {} is not below the root: set [failback] policy there",
            file.display()
        )));
    };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::environment(format!("{}: {error}", file.display()))),
    };
    let policy = if automatic { Policy::Automatic } else { Policy::Manual };
    let content = settings::with_policy(&text, &file, policy).map_err(Failure::usage)?;
    Ok(Some(Effect::WriteFile { path: format!("/{}", below.display()), content, mode: 0o644 }))
}

/// Refuses an address that is taken, or that nobody can have.
fn free(address: IpAddr, networks: &[IpNetwork]) -> Result<(), Failure> {
    for network in networks {
        // alone it is the engine that has put it there
        let alone = network.prefix() == addresses::whole(address);
        if network.ip() == address && !alone {
            return Err(Failure::usage(format!(
                "--cluster-ip {address} is this machine's own address: the pair needs a third, free one beside the nodes'"
            )));
        }
        let reserved = network.is_ipv4() && network.prefix() < 31 && network.contains(address);
        if reserved && [network.network(), network.broadcast()].contains(&address) {
            return Err(Failure::usage(format!(
                "--cluster-ip {address} is no host's address in {network}: give a free one of that network"
            )));
        }
    }
    Ok(())
}

/// A hook with the address in its words. What fails is told and takes no role back: it is not the engine's.
pub(crate) fn hook(argv: &[String], address: &str, timeout: std::time::Duration) -> Effect {
    let argv = argv.iter().map(|word| word.replace("{cluster_ip}", address)).collect();
    Effect::Run(ha_core::effect::Command { argv, timeout, on_failure: OnFailure::GoOn })
}

/// How long a hook of a role change may take: nobody is called meanwhile, but a person waits.
const HOOK: std::time::Duration = std::time::Duration::from_secs(60);

/// The effects of the change, in order.
fn effects(
    context: &Context,
    wanted: &RoleRequest,
    from: &RoleConfig,
    to: &RoleConfig,
) -> Result<Vec<Effect>, Failure> {
    known(context.profile(), wanted)?;
    let settings = &context.settings;
    let shared = shared(context, &wanted.shared, to)?;
    if let Some(address) = shared.as_ref().and_then(|shared| shared.cluster_ip) {
        free(address, &addresses::own())?;
    }
    let mut effects = context.distribution.apply_role(&RoleChange {
        from,
        to,
        shared: shared.as_ref(),
        cron: settings.preset == Preset::Seed,
        database_over_tcp: settings.replication.database_transport == Transport::Tcp,
        manage_pbx: settings.pbx.manage,
        restart_services: wanted.restart_services,
        resync: wanted.resync,
    });
    // behind what is taken away, which must be first, and before whatever acts
    let address =
        shared.as_ref().and_then(|shared| shared.cluster_ip).map(|ip| ip.to_string()).unwrap_or_default();
    let hooks = [&settings.hooks.provision, &settings.hooks.bind].into_iter().flatten();
    effects.extend(hooks.map(|argv| hook(argv, &address, HOOK)));
    let taken = effects.iter().take_while(|effect| matches!(effect, Effect::RemoveFile { .. })).count();
    effects.splice(taken..taken, failback(context, wanted)?);
    Ok(effects)
}

/// What would be done.
pub fn preview(context: &Context, performer: &Performer, wanted: &RoleRequest) -> Verdict {
    let (from, to) = (context.role()?, wanted.check()?);
    let apart = one_network(context, &to)?;
    let lines = performer.preview(&effects(context, wanted, &from, &to)?);
    let notes = advice(context.profile(), wanted, from.role(), to.role());
    let notes: Vec<String> = apart.into_iter().chain(notes).collect();
    let text: Vec<String> = lines.iter().map(line_text).chain(notes.clone()).collect();
    let json: Vec<_> =
        lines.iter().map(|line| json!({ "effect": line.effect, "would": would_text(&line.would) })).collect();
    Ok(Report::new(text.join("\n"), json!({ "dry_run": true, "effects": json, "notes": notes })))
}

fn line_text(line: &Line) -> String {
    format!("[{}] {}", would_text(&line.would), line.effect)
}

fn would_text(would: &Would) -> String {
    match would {
        Would::Change => "change".to_owned(),
        Would::Nothing => "as it is".to_owned(),
        Would::Run => "run".to_owned(),
        Would::Call => "call".to_owned(),
        Would::Not(why) => format!("cannot: {why}"),
    }
}

/// Does it, under the lock *act*; on failure everything is undone and the message says so. Returns the role and what a
/// person should know.
pub fn apply(
    context: &Context,
    performer: &Performer,
    wanted: &RoleRequest,
) -> Result<(RoleConfig, String), Failure> {
    let to = wanted.check()?;
    let apart = one_network(context, &to)?;
    let _act = Lock::Act
        .lock_within(&context.root, std::time::Duration::from_secs(300))
        .map_err(|error| Failure::environment(format!("{error}; nothing was changed")))?;
    // an interrupted change is undone before the present role is read
    performer.recover().map_err(Failure::environment)?;
    let from = context.role()?;
    let title = format!("configure {}", to.role());
    let performed = performer
        .perform(&title, &effects(context, wanted, &from, &to)?)
        .map_err(|error| Failure::environment(format!("{title}: {error}")))?;
    let mut notes = Vec::from_iter(apart);
    for step in &performed.steps {
        match &step.outcome {
            Outcome::WentOn { why } => notes.push(format!("warning: {}: {why}", step.effect)),
            Outcome::Skipped { why } => notes.push(format!("skipped: {}: {why}", step.effect)),
            Outcome::Changed | Outcome::Unchanged => {}
        }
    }
    if performed.changed() {
        notes.extend(advice(context.profile(), wanted, from.role(), to.role()));
    }
    Ok((to, notes.join("\n")))
}

/// The steps that the documents order and that were not asked for: said, never done silently.
fn advice(profile: &Profile, wanted: &RoleRequest, from: Role, to: Role) -> Vec<String> {
    let mut advice = Vec::new();
    let restart: Vec<String> = profile.restart.iter().map(|step| step.command().to_string()).collect();
    if let Some(when) = profile.restart_ordered(from, to).filter(|_| !wanted.restart_services) {
        let restart = restart.join(", ");
        advice.push(format!(
            "still to do: restart the PBX's services {when}: {restart} (`--restart-services` does it here)"
        ));
    }
    if to == Role::Master && !wanted.resync && resyncs(profile) {
        advice.push(
            "still to do: let all phones fetch their configuration again (`--resync` does it)".to_owned(),
        );
    }
    advice
}

/// How long a role change waits for its record to be on the disk: a person waits here, no phone does.
const RECORD_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Records the new role without a daemon: another generation, so that nothing that was decided before is done.
pub fn record(context: &Context, role: &RoleConfig) -> Result<(), Failure> {
    let store = node_state::store(context)?;
    let before = node_state::load(&store)?;
    if before.as_ref().is_some_and(|record| node_state::belongs(record, role)) {
        return Ok(());
    }
    let generation = before.map_or(0, |record| record.generation) + 1;
    let record = Record::fresh(role, generation, chrono::Utc::now());
    if store.save_within(RECORD_PATIENCE, &record).is_durable() {
        Ok(())
    } else {
        Err(Failure::environment("the role was changed, but the engine's record could not be written"))
    }
}

/// What a role change says at its end.
pub fn report(role: &RoleConfig, notes: String) -> Report {
    let peer = role.remote_address();
    let mut text = match role.role() {
        Role::Disabled => "this node is not part of a pair any more".to_owned(),
        Role::Master => format!("this node is the master, its slave is {peer}"),
        Role::Slave => format!("this node is the slave of {peer}"),
    };
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    let notes: Vec<&str> = notes.lines().collect();
    Report::new(text, json!({ "node_type": role.role(), "remote_address": peer, "notes": notes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Disabled, Master, Slave};

    #[test]
    fn the_shared_address_is_a_third_one_that_a_host_can_have() {
        let networks: Vec<IpNetwork> =
            ["127.0.0.1/8", "192.0.2.2/24", "2001:db8::2/64"].map(|network| network.parse().unwrap()).into();
        let refusal =
            |address: &str| free(address.parse().unwrap(), &networks).map_err(|failure| failure.message);
        for address in ["192.0.2.2", "2001:db8::2"] {
            assert!(refusal(address).unwrap_err().contains("this machine's own address"), "{address}");
        }
        for address in ["192.0.2.0", "192.0.2.255"] {
            assert!(refusal(address).unwrap_err().contains("no host's address in 192.0.2.2/24"), "{address}");
        }
        for address in ["192.0.2.100", "2001:db8::100", "198.51.100.1"] {
            assert_eq!(refusal(address), Ok(()), "{address}");
        }
        let held = ["192.0.2.100/32".parse().unwrap()];
        assert!(free("192.0.2.100".parse().unwrap(), &held).is_ok(), "the engine has put it there");
    }

    fn restarts(profile: &Profile, restart_services: bool) -> Vec<(Role, Role, String)> {
        let wanted = RoleRequest { restart_services, resync: true, ..RoleRequest::default() };
        let all = [Disabled, Master, Slave].into_iter();
        let each = all.flat_map(|from| [Disabled, Master, Slave].map(|to| (from, to)));
        each.flat_map(|(from, to)| {
            advice(profile, &wanted, from, to).into_iter().map(move |line| (from, to, line))
        })
        .collect()
    }

    #[test]
    fn each_distributions_restart_is_said_where_its_documents_order_it() {
        let (now, later) = (
            "still to do: restart the PBX's services now: NAME-service restart (`--restart-services` does it here)",
            "still to do: restart the PBX's services after the first replication: NAME-service restart \
             (`--restart-services` does it here)",
        );
        let expected = |name: &str, orders: &[(Role, Role, &str)]| -> Vec<(Role, Role, String)> {
            orders.iter().map(|(from, to, text)| (*from, *to, text.replace("NAME", name))).collect()
        };
        let wazo = [Disabled, Master, Slave].map(|from| [(from, Master, now), (from, Slave, later)]).concat();
        assert_eq!(restarts(&ha_adapters_wazo::PROFILE, false), expected("wazo", &wazo));
        let xivo =
            [(Disabled, Master, now), (Master, Disabled, now), (Master, Master, now), (Slave, Master, now)];
        assert_eq!(restarts(&ha_adapters_xivo::PROFILE, false), expected("xivo", &xivo));
        assert_eq!(restarts(&ha_adapters_xivo::PROFILE_1_2, false), []);
        assert_eq!(restarts(&ha_adapters_xivo::PROFILE, true), [], "it is done");
    }
}
