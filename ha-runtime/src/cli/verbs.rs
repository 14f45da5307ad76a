//! Which verb does what.

use std::time::Duration;

use ha_core::Distribution;
use ha_core::distribution::{Synch, Wish};

use super::args::{Action, Arguments, Part, Switch, Sync, Verb};
use super::{agent, check, edge, followers, history, look, resource, services};
use crate::cluster;
use crate::configure::{self, RoleRequest};
use crate::context::Context;
use crate::control::{self, Request};
use crate::demo;
use crate::driver;
use crate::far::Word;
use crate::performer;
use crate::replicate::{self, Job, Kept, Scope};
use crate::report::{Blame, Failure, Report, Verdict};
use crate::root::Root;
use crate::settings::Span;

/// How long a question to the daemon may take.
const QUESTION: Duration = Duration::from_secs(10);
/// How long telephony, a role change or a handover may take.
const ACTION: Duration = Duration::from_secs(600);
/// How long a replication may take.
const REPLICATION: Duration = Duration::from_secs(24 * 3600);

pub(super) fn run(distribution: &'static dyn Distribution, arguments: Arguments) -> Verdict {
    // these begin before anything of this node is read: what they are asked for comes from elsewhere
    match &arguments.verb {
        Verb::Demo if arguments.dry_run => {
            return Err(Failure::usage(
                "--dry-run: the demonstration changes nothing of this machine; leave it out",
            ));
        }
        Verb::Demo => return demo::run(distribution, arguments.json),
        Verb::DemoPart(part) if part.is_relay() => return agent::relay(),
        Verb::DemoPart(part) if part.is_of_its_own() => {
            return demo::part_of_its_own(distribution, part);
        }
        _ => {}
    }
    let far = far_word(&arguments.verb)?;
    if far == Some(Word::Relay) {
        return agent::relay();
    }
    let root = Root::new(&arguments.root).map_err(|error| Failure::usage(format!("--root: {error}")))?;
    if !root.directory().is_dir() {
        return Err(Failure::usage(format!(
            "--root {}: there is no such directory",
            root.directory().display()
        )));
    }
    let context = match Context::load(distribution, root.clone(), arguments.config.clone()) {
        Err(failure) if matches!(arguments.verb, Verb::Doctor) => {
            return super::doctor::without_settings(distribution, root, arguments.config, &failure);
        }
        loaded => loaded?,
    };
    let dry_run = arguments.dry_run;
    match arguments.verb {
        Verb::Configure(wanted) => {
            let wanted = RoleRequest {
                role: wanted.role,
                remote: wanted.remote,
                restart_services: wanted.restart_services,
                resync: wanted.resync,
                shared: Wish {
                    cluster_ip: wanted.cluster_ip,
                    primary_node: wanted.primary_node,
                    standby_node: wanted.standby_node,
                    sync: wanted.sync.map(|sync| match sync {
                        Sync::Lazy => Synch::Lazy,
                        Sync::Loose => Synch::Loose,
                    }),
                },
                auto_failback: wanted.auto_failback.map(|switch| switch == Switch::On),
            };
            configure(&context, wanted, dry_run)
        }
        Verb::Show => look::show(&context),
        Verb::Run if dry_run => Err(Failure::usage(
            "--dry-run: the daemon has none; `simulate FILE` shows what it would decide, `doctor` what it would miss",
        )),
        Verb::Run => block_on(driver::run(context)),
        Verb::CheckMaster { master } => check::master(&context, &master, dry_run),
        Verb::Services { action: Action::Status } => services::status(&context),
        Verb::Services { action } => services::by_hand(&context, action == Action::Start, dry_run),
        Verb::Replicate(wanted) => replication(&context, &wanted, dry_run, arguments.json),
        Verb::SyncKey(wanted) => super::keys::sync(&context, wanted.accept_new, dry_run),
        Verb::Agent | Verb::Relay | Verb::Source | Verb::Lookout => match far {
            Some(Word::Source) => replicate::source(&context),
            Some(Word::Lookout) => replicate::tell_of_changes(&context),
            // a relay has begun above
            Some(Word::Agent | Word::Relay) | None => agent::run(&context),
        },
        Verb::Resource { action } => resource::resource(&context, action, dry_run),
        Verb::Switchover => told(&context, &Request::Switchover, dry_run),
        Verb::Failback => told(&context, &Request::Failback, dry_run),
        Verb::Maintenance(wanted) => {
            let lasts = whole_seconds(&wanted.lasts)?;
            let seconds = (wanted.switch == Switch::On).then_some(lasts);
            told(&context, &Request::Maintenance { seconds }, dry_run)
        }
        Verb::Acknowledge => told(&context, &Request::Acknowledge, dry_run),
        Verb::Edge(wanted) => edge::run(&context, &wanted, dry_run),
        Verb::Followers { what } => followers::run(&context, what, dry_run),
        Verb::Status => look::status(&context),
        Verb::Doctor => super::doctor::doctor(&context),
        Verb::Why => history::why(&context),
        Verb::Timeline { since } => history::timeline(&context, since.as_deref()),
        Verb::Budget => look::budget(&context),
        Verb::Settings => look::settings(&context),
        Verb::Demo => demo::run(distribution, arguments.json),
        Verb::DemoPart(part) => demo::part(context, part),
        Verb::Simulate { file } => look::simulate(&context, &file),
    }
}

/// What the far end is started as: as its own verb says, or the near end's words where sshd has fixed the verb.
fn far_word(verb: &Verb) -> Result<Option<Word>, Failure> {
    let word = match verb {
        Verb::Agent => Word::Agent,
        Verb::Source => Word::Source,
        Verb::Lookout => Word::Lookout,
        Verb::Relay => return Ok(Some(Word::Relay)),
        _ => return Ok(None),
    };
    agent::word(word).map(Some)
}

/// The async parts run on one thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // commands, disks and the way to the far end block; threads that idle go away
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .map_err(|error| Failure::environment(format!("runtime: {error}")))?;
    let outcome = runtime.block_on(work);
    // a command that hangs must not keep the process
    runtime.shutdown_background();
    outcome
}

fn configure(context: &Context, wanted: RoleRequest, dry_run: bool) -> Verdict {
    wanted.check()?;
    let performer = performer::build(context, driver::Notes::open(context)?)?;
    if dry_run {
        return configure::preview(context, &performer, &wanted);
    }
    let request = Request::Configure {
        role: wanted.role.clone(),
        remote: wanted.remote.clone(),
        restart_services: wanted.restart_services,
        resync: wanted.resync,
        shared: wanted.shared.clone(),
        auto_failback: wanted.auto_failback,
    };
    if let Some(verdict) = control::ask(&context.root, &request, ACTION) {
        return verdict;
    }
    let (role, notes) = configure::apply(context, &performer, &wanted)?;
    configure::record(context, &role)?;
    let left = if role.peer().is_none() { cluster::release(context) } else { None };
    let notes: Vec<String> = Some(notes).filter(|notes| !notes.is_empty()).into_iter().chain(left).collect();
    Ok(configure::report(&role, notes.join("\n")))
}

fn replication(context: &Context, wanted: &super::args::Replicate, dry_run: bool, json: bool) -> Verdict {
    let scope = if wanted.if_changed { Scope::IfChanged } else { Scope::Compared };
    let (files, database) = match wanted.part {
        Part::Files => (scope, Scope::LeftOut),
        Part::Database => (Scope::LeftOut, scope),
        Part::All => (scope, scope),
    };
    let peer = replicate::counterpart(context.settings.replication.flow, &context.role()?)?;
    if let Some(named) = &wanted.slave {
        let named: std::net::IpAddr = named.parse().map_err(|_| {
            Failure::usage(format!("\"{named}\" is not an IP address: give the slave's, {peer}"))
        })?;
        if named != peer {
            return Err(Failure::usage(format!("{named} is not this node's counterpart, which is {peer}")));
        }
    }
    let request = Request::Replicate { files, database, full: wanted.full, dry_run };
    if let Some(verdict) = control::ask(&context.root, &request, REPLICATION) {
        return verdict;
    }
    let job = Job { peer, files, database, full: wanted.full, dry_run, by_hand: true };
    let bar = super::progress::Bar::on_terminal(json);
    let outcome = block_on(async {
        let kept = Kept::default();
        let ended = replicate::run(context, &kept, &job, move |progress| bar.show(progress)).await;
        kept.close().await;
        ended.verdict
    });
    // whoever asked for it by hand has read the refusal
    let refused = matches!(&outcome, Err(failure) if failure.blame == Blame::Guard)
        && context.settings.replication.flow.is_pull();
    if !dry_run && !refused {
        super::keys::tell_of_replication(context, &outcome);
    }
    outcome
}

/// Tells the daemon, without which nothing is done.
pub(super) fn told(context: &Context, request: &Request, dry_run: bool) -> Verdict {
    if dry_run {
        let request = serde_json::to_value(request).map_err(Failure::environment)?;
        let text = format!("the daemon would be told: {request}");
        return Ok(Report::new(text, serde_json::json!({ "dry_run": true, "request": request })));
    }
    control::ask(&context.root, request, ACTION).unwrap_or_else(|| {
        let text = format!("no daemon runs on this node: start `{} run` first", context.profile().program);
        Err(Failure::environment(text))
    })
}

/// A question to the daemon, if one runs.
pub(super) fn question(context: &Context, request: &Request) -> Option<Verdict> {
    control::ask(&context.root, request, QUESTION)
}

/// How long maintenance lasts.
fn whole_seconds(text: &str) -> Result<u64, Failure> {
    let refused = |why: &dyn std::fmt::Display| Failure::usage(format!("--for {text}: {why}"));
    let span: Span = text.parse().map_err(|error| refused(&error))?;
    match span.0.as_secs() {
        0 => Err(refused(&"is over before it begins: give at least \"1s\", as \"30m\"")),
        seconds => Ok(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maintenance_lasts_a_second_at_least() {
        assert_eq!(whole_seconds("30m"), Ok(1800));
        for (text, why) in
            [("500ms", "is over before it begins"), ("0s", "is over"), ("x", "\"x\" is not a duration")]
        {
            let refusal = whole_seconds(text).unwrap_err();
            assert!(refusal.message.starts_with(&format!("--for {text}: {why}")), "{refusal}");
            assert_eq!(refusal.exit(), 2);
        }
    }
}
