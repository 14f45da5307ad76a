//! A pair on one machine, for everybody to see: no root, no configuration, nothing outside a private directory.
//!
//! Real: both daemons as processes of their own, their probes, decisions and commands, the far end's agent, files,
//! databases, SIP over UDP. In another's place: a small SIP server for Asterisk ([`crate::sip::Responder`]), shell scripts for
//! the PBX's programs, a child process for SSH. Every claim of the last lines was seen from outside the nodes.

mod data;
mod database;
mod figures;
mod interrupt;
mod node;
mod observers;
mod one_address;
mod part;
mod seen;
mod stage;
mod story;
mod stubs;
mod table;
mod telephony;
mod this_machine;
mod timeline;

use std::time::Instant;

use ha_core::Distribution;
use ha_core::profile::SipPlan;

pub(crate) use part::{PartArguments, part, part_of_its_own};

use crate::report::{Failure, Report, Verdict};
use crate::settings::Settings;
use database::{Programs, Servers};
use interrupt::Interrupt;
use observers::PERIOD;
use stage::{HOLD, Pings, Props, Stage};
use story::{Played, Story};
use timeline::{SETTLING, Timeline, Who};

/// Plays it. The report's text is what stands below the timeline; the timeline itself goes to stdout as it happens,
/// unless `json`.
///
/// Ok only when everything was seen and within its limits. Nothing is left behind in either case.
pub fn run(distribution: &'static dyn Distribution, json: bool) -> Verdict {
    if distribution.profile().exclusive_address {
        return one_address::run(distribution, json);
    }
    let begun = Instant::now();
    let timeline = Timeline::begin(json, SETTLING);
    let played = on_stage(distribution, &timeline);
    timeline.end();
    let played = played?;
    let seconds = begun.elapsed().as_secs_f64();
    let complaints = played.figures.complaints(&played.limits);
    if !complaints.is_empty() {
        let table = played.figures.table(&played.limits);
        let text = format!("\n{table}\n\nNOT KEPT: {}", complaints.join("; "));
        return Err(Failure::environment(text));
    }
    let mut document = story::document(&played, timeline.events(), seconds);
    let verdict = verdict(&played);
    document["verdict"] = verdict.as_str().into();
    let table = played.figures.table(&played.limits);
    let text = format!(
        "\n{table}\n\n{verdict}\nThe documents promise {} s. Real phones notice later: see `{} budget`.\n\
         All processes are ended and all files removed.",
        played.limits.promise().as_secs(),
        distribution.profile().program
    );
    Ok(Report::new(text, document))
}

/// Everything that must be ended and removed lives in here.
fn on_stage(distribution: &'static dyn Distribution, timeline: &Timeline) -> Result<Played, Failure> {
    let interrupt = Interrupt::listen()?;
    let stage = Stage::new()?;
    let played = with_servers(distribution, &stage, timeline, &interrupt);
    // what went wrong first is the better explanation
    let removed = stage.close();
    let played = played?;
    removed?;
    Ok(played)
}

fn with_servers(
    distribution: &'static dyn Distribution,
    stage: &Stage,
    timeline: &Timeline,
    interrupt: &Interrupt,
) -> Result<Played, Failure> {
    let database = distribution.profile().database.zip(Programs::find());
    let pings = Pings::find();
    for line in introduction(distribution, stage, database.is_some(), pings) {
        timeline.print(&line);
    }
    let servers = match &database {
        None => None,
        Some((wanted, programs)) => {
            timeline.say(Who::Demo, "makes two PostgreSQL servers");
            timeline.settle_all();
            let servers = Servers::start(programs, wanted)?;
            crate::cli::block_on(servers.fill(wanted))?;
            Some(servers)
        }
    };
    let program = std::env::current_exe().map_err(Failure::environment)?;
    let (until, servers) = (std::process::id(), servers.as_ref());
    let props = Props { distribution, program: &program, until, servers, pings };
    stage.furnish(&props)?;
    interrupt.check()?;
    let mut story = Story::new(stage, &props, timeline, interrupt)?;
    story.play().map_err(|failure| {
        if interrupt::is_interruption(&failure) {
            return failure;
        }
        Failure { message: format!("{failure}\n{}", story.logs()), ..failure }
    })
}

/// What is real here and what is not, before anything happens.
fn introduction(distribution: &dyn Distribution, stage: &Stage, database: bool, pings: Pings) -> Vec<String> {
    let profile = distribution.profile();
    let shipped = Settings::defaults(profile).failback.hold.as_secs();
    let (master, slave) = (stage.master.telephony, stage.slave.telephony);
    let line = |what: &str, text: String| format!("  {what:<12} {text}");
    let mut lines = vec![
        format!("A {} pair, played on this machine by real processes over loopback.", profile.name),
        line("files", format!("in {}, removed at the end", stage.directory().display())),
        line("telephony", "a small SIP server in place of Asterisk".into()),
        line("addresses", format!("master {master}, slave {slave}")),
        line(
            "phones",
            format!("three that register every {} s; {}", PERIOD.as_secs(), real_phones(profile.sip)),
        ),
        line("detection", "as shipped, but no pings from the slave: all would be answered".into()),
    ];
    if pings == Pings::Refused {
        lines.push(line("", "the master may not send any: to it a slave that rests looks dead".into()));
    }
    lines
        .push(line("failback", format!("as shipped, but after {} s instead of {shipped} s", HOLD.as_secs())));
    lines.push(line("replication", "as shipped, but to a child process instead of over SSH".into()));
    lines.push(line(
        "database",
        match database {
            true => "two private PostgreSQL servers with a few tables".into(),
            false => "not shown: no PostgreSQL server is installed that this user can run".into(),
        },
    ));
    lines.push(String::new());
    lines
}

fn real_phones(sip: Option<SipPlan>) -> String {
    let Some(SipPlan { paired, .. }) = sip else { return "real ones less often".to_owned() };
    format!("real ones every {} to {} s", paired.min.as_secs(), paired.max.as_secs())
}

fn verdict(played: &Played) -> String {
    format!(
        "The pair kept its promise: every phone was served again {:.1} s after the crash.",
        played.figures.phones.as_secs_f64()
    )
}
