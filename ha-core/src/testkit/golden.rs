//! A distribution as an administrator would read it: its profile and every role change, for comparison with files.

use std::fmt::Write as _;

use crate::distribution::{Distribution, RoleChange};
use crate::effect::OnFailure;
use crate::profile::{Profile, SipTimers, Step, Switch};
use crate::role::{Role, RoleConfig};

/// Each golden's file name and its text: `profile.txt`, and one for every role change and address family.
///
/// Comparing them with files, and writing these after a wanted change, is the caller's: the core reads no file.
pub fn goldens(distribution: &dyn Distribution) -> Vec<(String, String)> {
    let mut all = vec![("profile.txt".to_owned(), describe(distribution.profile()))];
    let role = |role, remote| RoleConfig::new(role, remote).expect("these addresses are usable");
    let disabled = RoleConfig::Disabled;
    for (family, one, two) in [("ipv4", "10.77.0.11", "10.77.0.12"), ("ipv6", "2001:db8::11", "2001:db8::12")]
    {
        let (master, slave) = (|slave| role(Role::Master, slave), |master| role(Role::Slave, master));
        for (name, from, to) in [
            ("disabled-to-master", disabled, master(two)),
            ("disabled-to-slave", disabled, slave(one)),
            ("slave-to-disabled", slave(one), disabled),
            ("master-to-disabled", master(two), disabled),
            ("master-to-slave", master(two), slave(two)),
            ("slave-to-master", slave(one), master(one)),
        ] {
            all.push((format!("{name}-{family}.txt"), transition(distribution, &from, &to)));
        }
    }
    all
}

/// The `modern` preset over SSH, with nothing asked for beside the role.
pub fn plain<'a>(from: &'a RoleConfig, to: &'a RoleConfig) -> RoleChange<'a> {
    RoleChange {
        from,
        to,
        shared: None,
        cron: false,
        database_over_tcp: false,
        manage_pbx: true,
        restart_services: false,
        resync: false,
    }
}

/// The effects of a change, one after the other, as `--dry-run` prints them.
pub fn lowered(distribution: &dyn Distribution, change: &RoleChange<'_>) -> String {
    distribution.apply_role(change).iter().map(|effect| format!("{effect}\n")).collect()
}

/// The plain change, then what the settings add.
fn transition(distribution: &dyn Distribution, from: &RoleConfig, to: &RoleConfig) -> String {
    let modern = plain(from, to);
    let seed =
        RoleChange { cron: true, database_over_tcp: true, restart_services: true, resync: true, ..modern };
    let alone = RoleChange { manage_pbx: false, ..modern };
    format!(
        "== modern preset, database over ssh ==\n{}\n\
         == seed preset, database over tcp, --restart-services --resync ==\n{}\n\
         == modern preset, [pbx] manage = false ==\n{}",
        lowered(distribution, &modern),
        lowered(distribution, &seed),
        lowered(distribution, &alone)
    )
}

fn describe(profile: &Profile) -> String {
    let mut text = String::new();
    // writing to a String does not fail
    let _ = description(profile, &mut text);
    text
}

fn description(profile: &Profile, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{} ({})", profile.name, profile.program)?;
    writeln!(out, "promise: {} s", profile.promise.as_secs())?;
    if let Some(why) = profile.same_subnet {
        writeln!(out, "one subnet: {why}")?;
    }
    if profile.exclusive_address {
        writeln!(out, "one address for both nodes")?;
    }
    if !profile.automatic_failback {
        writeln!(out, "failback: when a person says so")?;
    }
    writeln!(out, "role file: {}", profile.role_file)?;
    if let Some(file) = profile.conf_file {
        writeln!(out, "what the pair shares: {file}")?;
    }
    writeln!(out, "replication: {:?}, {}", profile.direction, profile.schedule)?;
    let round = profile.seed_round;
    let (spacing, every) = (round.spacing.as_secs(), round.every.as_secs());
    writeln!(out, "seed round: {} pings {spacing} s apart, every {every} s", round.pings)?;
    writeln!(out, "\nfiles")?;
    for dataset in profile.datasets {
        writeln!(out, "  {} [{}]", dataset.root, dataset.source)?;
        dataset.only.iter().try_for_each(|only| writeln!(out, "    only {only}"))?;
        dataset.exclude.iter().try_for_each(|not| writeln!(out, "    never {not}"))?;
    }
    if let Some(database) = profile.database {
        writeln!(out, "\ndatabase {}, without", database.name)?;
        for exclusion in database.exclude {
            writeln!(out, "  {} ({:?})", exclusion.table, exclusion.why)?;
        }
    }
    for (name, steps) in [
        ("status", &[profile.services.status][..]),
        ("start", profile.services.start),
        ("stop", profile.services.stop),
        ("restart", profile.restart),
    ] {
        writeln!(out, "\n{name}")?;
        for one in steps {
            let late =
                if name == "start" && !one.before_service { ", phones do not wait for it" } else { "" };
            writeln!(out, "  {}{late}", step(one))?;
        }
    }
    let observe = profile.observe;
    writeln!(out, "\nobserved by\n  unit {}\n  pid file {}", observe.unit, observe.pid_file)?;
    if let Some(file) = observe.disabled_file {
        writeln!(out, "  must not run while {file} exists")?;
    }
    for Switch { path, name, on, off } in observe.switches {
        writeln!(out, "  may run with {name}={on} in {path}, must not with {name}={off}")?;
    }
    if let Some(sip) = profile.sip {
        writeln!(out, "\nSIP expiry\n  in a pair: {}", timers(&sip.paired))?;
        writeln!(out, "  shipped: {}", timers(&sip.shipped))?;
    }
    writeln!(out, "\nscripts")?;
    profile.scripts.iter().try_for_each(|(name, script)| writeln!(out, "  {name}: {script:?}"))?;
    if !profile.followers.is_empty() {
        writeln!(out, "\nfollowers\n  {:?}", profile.followers)?;
    }
    Ok(())
}

fn step(step: &Step) -> String {
    let mut line = format!("{} (at most {} s", step.command(), step.timeout.as_secs());
    if step.on_failure == OnFailure::GoOn {
        line.push_str("; goes on when it fails");
    }
    line.push(')');
    line
}

fn timers(timers: &SipTimers) -> String {
    let SipTimers { min, default, max } = timers;
    format!("minimum {} s, default {} s, maximum {} s", min.as_secs(), default.as_secs(), max.as_secs())
}
