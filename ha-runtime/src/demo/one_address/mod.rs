//! A pair that shares one address, for everybody to see: with the real address in a network of its own where this user may
//! make one, otherwise with a socket that plays it.
//!
//! Real in both: both daemons as processes of their own, watchdog, decisions and commands, the fetching of files and of a
//! database in use, SIP over UDP. In the network also the cluster: beats over two paths, the lease that the kernel enforces,
//! address resolution. In another's place: a small SIP server for Asterisk ([`crate::sip::Responder`]), shell scripts for the
//! PBX's programs, a socket for SSH. Every claim of the last lines was seen from outside the nodes.

mod answers;
mod data;
mod door;
mod figures;
mod ground;
mod machine;
mod mailbox;
mod network;
mod observers;
mod place;
pub(super) mod records;
mod story;
mod turnstile;
mod world;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use ha_core::{Distribution, Role};

use super::interrupt::{self, Interrupt};
use super::observers::PERIOD;
use super::timeline::{SETTLING, Timeline, Who};
use crate::report::{Failure, Report, Verdict};
use ground::Ground;
use machine::Machine;
use place::{Place, Props};
use story::{Played, Story};

pub(super) use door::call;
pub(super) use machine::{MachineArguments, run as machine};
pub(super) use network::attempt;
pub(super) use world::within;

/// Plays it, in a network of its own if that can be.
pub(super) fn run(distribution: &'static dyn Distribution, json: bool) -> Verdict {
    let program = std::env::current_exe().map_err(Failure::environment)?;
    match ground::find(&program) {
        Ok(root_there) => world::play(&program, root_there, json),
        Err(why) => play(distribution, json, Ground::loopback(why)?, &Interrupt::listen()?),
    }
}

fn play(
    distribution: &'static dyn Distribution,
    json: bool,
    ground: Ground,
    interrupt: &Interrupt,
) -> Verdict {
    let begun = Instant::now();
    let timeline = Timeline::begin(json, observers::SILENCE + SETTLING);
    let network = ground.has_network();
    let played = on_stage(distribution, ground, &timeline, interrupt);
    timeline.end();
    let played = played?;
    let table = played.figures.table(&played.limits);
    let complaints = played.figures.complaints(&played.limits);
    if !complaints.is_empty() {
        return Err(Failure::environment(format!("\n{table}\n\nNOT KEPT: {}", complaints.join("; "))));
    }
    let verdict = format!(
        "The pair kept its promise: every phone was served again {:.1} s after the crash, and no two nodes ever answered.",
        played.figures.phones.as_secs_f64()
    );
    let mut document = story::document(&played, timeline.events(), begun.elapsed().as_secs_f64());
    document["verdict"] = verdict.as_str().into();
    document["real_address"] = network.into();
    let profile = distribution.profile();
    let text = format!(
        "\n{table}\n\n{verdict}\nThe documents promise {} s. With your Asterisk's start: see `{} budget`.\n\
         All processes are ended and all files removed.",
        profile.promise.as_secs(),
        profile.program
    );
    Ok(Report::new(text, document))
}

/// Everything that must be ended and removed lives in here.
fn on_stage(
    distribution: &'static dyn Distribution,
    ground: Ground,
    timeline: &Timeline,
    interrupt: &Interrupt,
) -> Result<Played, Failure> {
    let failed = |error: io::Error| Failure::environment(format!("private directory: {error}"));
    let directory = tempfile::Builder::new()
        .prefix("ha-demo.")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(failed)?;
    let played = in_directory(distribution, ground, directory.path(), timeline, interrupt);
    // what went wrong first is the better explanation
    let path = directory.path().to_owned();
    let removed = directory.close();
    let played = played?;
    removed
        .map_err(|error| Failure::environment(format!("{} could not be removed: {error}", path.display())))?;
    Ok(played)
}

fn in_directory(
    distribution: &'static dyn Distribution,
    ground: Ground,
    directory: &Path,
    timeline: &Timeline,
    interrupt: &Interrupt,
) -> Result<Played, Failure> {
    let failed = |error: io::Error| Failure::environment(format!("private directory: {error}"));
    let program = std::env::current_exe().map_err(Failure::environment)?;
    let copying = distribution.copying(None).map_err(Failure::environment)?;
    let turnstile = directory.join("turnstile");
    fs::create_dir(&turnstile).map_err(failed)?;
    let primary = Place::new(directory, Role::Master).map_err(failed)?;
    let standby = Place::new(directory, Role::Slave).map_err(failed)?;
    for line in introduction(distribution, &ground, directory) {
        timeline.print(&line);
    }
    let until = Machine::until(&ground);
    let props = Props { distribution, program, ground, copying, turnstile };
    data::furnish(&props, [&primary, &standby], until)?;
    interrupt.check()?;
    let mut story = Story::new([&primary, &standby], &props, timeline, interrupt)?;
    story.play().map_err(|failure| {
        if interrupt::is_interruption(&failure) {
            return failure;
        }
        Failure { message: format!("{failure}\n{}", story.logs()), ..failure }
    })
}

/// What is real here and what is not, before anything happens.
fn introduction(distribution: &dyn Distribution, ground: &Ground, directory: &Path) -> Vec<String> {
    let profile = distribution.profile();
    let line = |what: &str, text: String| format!("  {what:<12} {text}");
    let address = ground.telephony();
    let mut lines = match ground {
        Ground::Network => vec![
            format!(
                "A {} pair that shares one address, played on this machine in a network of its own.",
                profile.name
            ),
            line("network", "two machines, a switch, a cross-over cable; nothing leads out of it".into()),
            line("address", format!("{address}: a real one, which moves from machine to machine")),
            line("cluster", "as shipped: beats over both paths, a lease that the kernel enforces".into()),
            line("both serve?", "observers ask each machine by its hardware address".into()),
        ],
        Ground::Loopback { why, .. } => vec![
            format!(
                "A {} pair that shares one address, played on this machine by real processes over loopback.",
                profile.name
            ),
            line("address", format!("{address} plays it: two that serve would collide there")),
            line("", format!("a real one needs a network of its own, which cannot be had: {why}")),
            line(
                "cluster",
                "a locked file in its place: the kernel gives it to one process at a time".into(),
            ),
        ],
    };
    lines.extend([
        line("files", format!("in {}, removed at the end", directory.display())),
        line(
            "telephony",
            "a small SIP server in place of Asterisk; it writes into the database all the time".into(),
        ),
        line(
            "phones",
            format!(
                "three that know the address and nothing else, and register every {} s",
                PERIOD.as_secs()
            ),
        ),
        line("fetching", "as shipped, but when the story says so, and over a socket instead of SSH".into()),
        line(
            "failback",
            format!("as shipped: the {} stays passive until somebody asks", Who::Primary.word()),
        ),
        String::new(),
    ]);
    lines
}
