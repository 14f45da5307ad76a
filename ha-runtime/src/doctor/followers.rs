//! What stands beside the pair and must follow telephony: whether this node can make it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ha_core::follow::{ContactCentre, Edge, Place, PointsAt, Step, Task, Wanted};
use ha_core::health::Rung;
use ha_core::{Role, Side};

use super::{Check, Level};
use crate::context::Context;
use crate::far::FarError;
use crate::follow::gate::{Door, Gate};
use crate::follow::place::{TaskError, text_file};
use crate::follow::{Outcome, carry_out};
use crate::settings::Preset;
use crate::ssh::RunError;
use crate::way;

/// For each question.
const PATIENCE: Duration = Duration::from_secs(5);

/// All that is set, asked at once. `active`: whether telephony belongs to this node now.
pub(super) async fn checks(context: &Context, role: Role, active: bool) -> Vec<Check> {
    let Some(side) = Side::of(role) else { return Vec::new() };
    let look = |what: fn(&Context, Side, bool) -> Option<Check>| {
        let owned = context.clone();
        tokio::task::spawn_blocking(move || what(&owned, side, active))
    };
    let (of_cc, of_edge, of_mds) = (look(contact_centre), look(edge), look(media_servers));
    let mut checks: Vec<Check> = noticed(context, role).into_iter().collect();
    for asked in [of_cc, of_edge, of_mds] {
        checks.extend(asked.await.ok().flatten());
    }
    checks
}

/// Whether this node learns that telephony has come, so that anything follows it.
fn noticed(context: &Context, role: Role) -> Option<Check> {
    const ID: &str = "followers";
    let steps = context.distribution.runbook(&context.settings.followers, Side::of(role)?);
    if steps.is_empty() {
        return None;
    }
    let acts: Vec<&Step> = steps.iter().filter(|step| step.act.is_some()).collect();
    let by_hand = !acts.is_empty() && acts.iter().all(|step| !step.automatic);
    let program = context.profile().program;
    Some(if context.settings.preset == Preset::Seed || by_hand {
        Check::ok(ID, format!("a person makes them follow: `{program} followers` says what is to be done"))
    } else if role == Role::Master && !context.settings.probe.rungs.contains(&Rung::Service) {
        Check::warn(
            ID,
            "[probe] rungs has no \"service\": this master does not see that the slave hands telephony back, and learns of it \
             at a replication only: what stands beside the pair follows late",
            "set [probe] rungs = [\"host\", \"service\"], and let SIP pass between the nodes",
        )
    } else {
        Check::ok(ID, format!("they follow by themselves: `{program} followers` says how"))
    })
}

/// This side's contact centre.
fn contact_centre(context: &Context, side: Side, _active: bool) -> Option<Check> {
    const ID: &str = "cc";
    let cc = context.settings.followers.contact_centre.as_ref()?;
    let host = *cc.hosts.of(side);
    if !cc.automatic {
        return Some(Check::ok(
            ID,
            format!("a person does `{}` on {host}: this node does not log in there", cc.restart.join(" ")),
        ));
    }
    let door = door(context, ID, host, &gate_of_ccs(context, cc), "cc");
    if door.level == Level::Fail {
        return Some(door);
    }
    Some(match silent(context, side) {
        None => door,
        Some(error) => Check::warn(
            ID,
            format!("{}; {error}", door.finding),
            format!(
                "see that what answers there runs on {host}, and let this node reach it; cc.answers says where"
            ),
        ),
    })
}

/// Why the address that tells that the contact centre has followed does not answer; `None`: it does, or nobody is asked.
fn silent(context: &Context, side: Side) -> Option<TaskError> {
    let steps = context.distribution.runbook(&context.settings.followers, side);
    let asks = steps.into_iter().filter_map(|step| step.check.map(|check| (step.place, check)));
    let mut asked = asks.filter(|(_, check)| matches!(check, Task::Ask { .. }));
    asked.find_map(|(place, check)| carry_out(context, place, &check, PATIENCE).err())
}

fn gate_of_ccs(context: &Context, cc: &ContactCentre) -> Option<Gate> {
    Gate::of(context, &[cc.hosts.master, cc.hosts.slave]).ok()
}

/// Whether the key of `[ssh]` is admitted on that machine, and to what.
fn door(context: &Context, id: &'static str, host: IpAddr, gate: &Option<Gate>, word: &str) -> Check {
    let program = context.profile().program;
    let install = format!(
        "install what `{program} followers gate {word}` and `{program} followers key {word}` print on {host}, in place of any \
         other line for this key"
    );
    let Some(gate) = gate else { return Check::not_checked(id, "a command of the settings is no line") };
    match gate.look(&way::ssh_target(context, host), PATIENCE) {
        Ok(Door::Gate) => {
            Check::ok(id, format!("{host} lets this node's key in, to the runbook's commands only"))
        }
        Ok(Door::Shell) => Check::warn(
            id,
            format!("this node's key opens a shell on {host}: who has the key is root there"),
            install,
        ),
        Ok(Door::OtherGate) => Check::fail(
            id,
            format!(
                "the gate on {host} was made for other settings or another release: it refuses what this node asks for"
            ),
            install,
        ),
        Ok(Door::Unknown(ending)) => {
            Check::fail(id, format!("this node's key starts something else on {host} ({ending})"), install)
        }
        Err(error @ (RunError::NotAdmitted { .. } | RunError::Far(FarError::Key { .. }))) => {
            Check::fail(id, error.to_string(), install)
        }
        Err(error @ RunError::Far(FarError::HostKeyChanged(_))) => Check::fail(
            id,
            error.to_string(),
            format!("find out whether {host} was installed anew; only then replace the line"),
        ),
        Err(error @ RunError::HostKeyUnknown { .. }) => {
            Check::fail(id, error.to_string(), "do what the finding says")
        }
        Err(
            error @ (RunError::Refused { .. }
            | RunError::TimedOut { .. }
            | RunError::Stale
            | RunError::Far(_)),
        ) => Check::fail(
            id,
            error.to_string(),
            format!(
                "let this node reach sshd on {host} at the port of [ssh]; without it nothing follows there"
            ),
        ),
    }
}

/// The Edge, when its address is set.
fn edge(context: &Context, side: Side, active: bool) -> Option<Check> {
    const ID: &str = "edge";
    let edge = context.settings.followers.edge.as_ref()?;
    let program = context.profile().program;
    let Some(host) = edge.host else {
        let finding =
            format!("edge.host is not set: a person switches it, `{program} edge switch --file` helps");
        return Some(Check::ok(ID, finding));
    };
    let door = door(context, ID, host, &Gate::of(context, &[host]).ok(), "edge");
    if door.level == Level::Fail {
        // by hand it can be done on the Edge itself
        let level = if edge.automatic { Level::Fail } else { Level::Warn };
        return Some(Check { level, ..door });
    }
    Some(match points_at(context, edge, host) {
        Err(error) => Check::fail(
            ID,
            error.to_string(),
            format!("correct the file, or edge.file; `{program} edge status` shows what is read"),
        ),
        Ok(points) => match relays(program, edge, side, active, &points) {
            Ok(to) => Check { finding: format!("{}; it relays to the {to}", door.finding), ..door },
            Err(wrong) => wrong,
        },
    })
}

fn points_at(context: &Context, edge: &Edge, host: IpAddr) -> Result<PointsAt, TaskError> {
    let file = text_file(context, Place::There(host), &edge.file)?;
    let text = file.read(Instant::now() + PATIENCE)?;
    let names =
        context.distribution.edge(edge).ok_or_else(|| file.fault("has no meaning for this distribution"))?;
    names.points_at(&text).map_err(|source| file.unreadable(source))
}

/// The side that the Edge relays to. Err: what is wrong with it.
fn relays(program: &str, edge: &Edge, side: Side, active: bool, points: &PointsAt) -> Result<Side, Check> {
    const ID: &str = "edge";
    let switch = |to: &str| format!("`{program} edge switch {to}` mends it, or says what is wrong");
    match points.side {
        Some(to) if active && to != side => Err(Check::fail(
            ID,
            format!("telephony is here, on the {side}, and the Edge relays to the {to}"),
            if edge.automatic {
                format!("when `{program} status` shows that no step is under way: {}", switch(side.word()))
            } else {
                switch(side.word())
            },
        )),
        Some(to) => Ok(to),
        None => {
            let named = points
                .variables
                .iter()
                .map(|(name, _, side)| format!("{name} names {}", side.map_or("neither side", Side::word)));
            Err(Check::fail(
                ID,
                format!("the Edge does not relay to one side: {}", named.collect::<Vec<_>>().join(", ")),
                switch(if active { side.word() } else { "master|slave" }),
            ))
        }
    }
}

/// The trunks to the media servers, where telephony is.
fn media_servers(context: &Context, side: Side, active: bool) -> Option<Check> {
    const ID: &str = "media-servers";
    let servers = context.settings.followers.media_servers.as_ref()?;
    if !active {
        return Some(Check::not_checked(ID, "the trunks belong to the node that serves"));
    }
    let steps = context.distribution.runbook(&context.settings.followers, side);
    let trunks = steps.iter().filter_map(|step| match &step.check {
        Some(check @ Task::Run { output: Wanted::LineWith(_), .. }) => Some((step, check)),
        Some(Task::Run { .. } | Task::Point { .. } | Task::Ask { .. }) | None => None,
    });
    let deadline = Instant::now() + PATIENCE;
    let wrong: Vec<String> = trunks
        .filter_map(|(step, check)| {
            let left = deadline.saturating_duration_since(Instant::now());
            match carry_out(context, step.place, check, left) {
                Ok(Outcome::Ran(_) | Outcome::Pointed { .. } | Outcome::Answered(_)) => None,
                Err(error) => Some(error.to_string()),
            }
        })
        .collect();
    Some(match wrong.as_slice() {
        [] => Check::ok(ID, format!("registered: {}", servers.names.join(", "))),
        wrong => Check::warn(
            ID,
            wrong.join("\n"),
            format!("look at the trunks (`{}`) and at the media servers", servers.command.join(" ")),
        ),
    })
}

#[cfg(test)]
mod tests;
