//! A role change as a whole: checked, performed or undone, and recorded.

use ha_core::event::Record;
use ha_core::{Effect, Profile, Role, RoleChange, RoleConfig};
use serde_json::json;

use crate::addresses;
use crate::context::Context;
use crate::effect::{Line, Outcome, Performer, Would};
use crate::lock::Lock;
use crate::node_state;
use crate::report::{Failure, Report, Verdict};
use crate::settings::{Preset, Transport};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRequest {
    /// `master`, `slave`, `disabled`.
    pub role: String,
    /// The peer's address; ignored for `disabled`.
    pub remote: String,
    /// See `--restart-services`.
    pub restart_services: bool,
    /// See `--resync`.
    pub resync: bool,
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

/// The effects of the change, in order.
fn effects(context: &Context, wanted: &RoleRequest, from: &RoleConfig, to: &RoleConfig) -> Vec<Effect> {
    let settings = &context.settings;
    context.distribution.apply_role(&RoleChange {
        from,
        to,
        shared: None,
        cron: settings.preset == Preset::Seed,
        database_over_tcp: settings.replication.database_transport == Transport::Tcp,
        manage_pbx: settings.pbx.manage,
        restart_services: wanted.restart_services,
        resync: wanted.resync,
    })
}

/// What would be done.
pub fn preview(context: &Context, performer: &Performer, wanted: &RoleRequest) -> Verdict {
    let (from, to) = (context.role()?, wanted.check()?);
    let apart = one_network(context, &to)?;
    let lines = performer.preview(&effects(context, wanted, &from, &to));
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
        .perform(&title, &effects(context, wanted, &from, &to))
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
    if to == Role::Master && !wanted.resync {
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

    fn restarts(profile: &Profile, restart_services: bool) -> Vec<(Role, Role, String)> {
        let wanted =
            RoleRequest { role: String::new(), remote: String::new(), restart_services, resync: true };
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
