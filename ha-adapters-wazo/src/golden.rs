//! The profile and every role change as an administrator would read them, compared with `goldens/`.
//!
//! After a wanted change: `UPDATE_GOLDENS=1 cargo test -p ha-adapters-wazo`, then read the difference.

use std::fmt::Write as _;
use std::path::Path;

use ha_core::effect::OnFailure;
use ha_core::profile::{SipTimers, Step};
use ha_core::{Distribution, Profile, Role, RoleChange, RoleConfig};

use crate::{PROFILE, Wazo};

fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{} differs; it would now be:\n{text}", path.display());
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

fn describe(profile: &Profile) -> String {
    let mut text = String::new();
    let out = &mut text;
    writeln!(out, "{} ({})", profile.name, profile.program).unwrap();
    writeln!(out, "promise: {} s", profile.promise.as_secs()).unwrap();
    writeln!(out, "role file: {}", profile.role_file).unwrap();
    writeln!(out, "replication: {:?}, {}", profile.direction, profile.schedule).unwrap();
    let round = profile.seed_round;
    writeln!(
        out,
        "seed round: {} pings {} s apart, every {} s",
        round.pings,
        round.spacing.as_secs(),
        round.every.as_secs()
    )
    .unwrap();
    writeln!(out, "\nfiles").unwrap();
    for dataset in profile.datasets {
        writeln!(out, "  {} [{}]", dataset.root, dataset.source).unwrap();
        dataset.only.iter().for_each(|only| writeln!(out, "    only {only}").unwrap());
        dataset.exclude.iter().for_each(|not| writeln!(out, "    never {not}").unwrap());
    }
    let database = profile.database.unwrap();
    writeln!(out, "\ndatabase {}, without", database.name).unwrap();
    for exclusion in database.exclude {
        writeln!(out, "  {} ({:?})", exclusion.table, exclusion.why).unwrap();
    }
    for (name, steps) in [
        ("status", &[profile.services.status][..]),
        ("start", profile.services.start),
        ("stop", profile.services.stop),
        ("restart", profile.restart),
    ] {
        writeln!(out, "\n{name}").unwrap();
        for one in steps {
            let late =
                if name == "start" && !one.before_service { ", phones do not wait for it" } else { "" };
            writeln!(out, "  {}{late}", step(one)).unwrap();
        }
    }
    let observe = profile.observe;
    writeln!(out, "\nobserved by\n  unit {}\n  pid file {}", observe.unit, observe.pid_file).unwrap();
    writeln!(out, "  must not run while {} exists", observe.disabled_file.unwrap()).unwrap();
    let sip = profile.sip.unwrap();
    writeln!(out, "\nSIP expiry\n  in a pair: {}", timers(&sip.paired)).unwrap();
    writeln!(out, "  shipped: {}", timers(&sip.shipped)).unwrap();
    writeln!(out, "\nscripts").unwrap();
    profile.scripts.iter().for_each(|(name, script)| writeln!(out, "  {name}: {script:?}").unwrap());
    text
}

#[test]
fn the_profile_is_as_reviewed() {
    compare("profile.txt", &describe(&PROFILE));
}

fn master(slave: &str) -> RoleConfig {
    RoleConfig::new(Role::Master, slave).unwrap()
}

fn slave(master: &str) -> RoleConfig {
    RoleConfig::new(Role::Slave, master).unwrap()
}

/// The `modern` preset over SSH with everything else on.
fn plain<'a>(from: &'a RoleConfig, to: &'a RoleConfig) -> RoleChange<'a> {
    RoleChange {
        from,
        to,
        cron: false,
        database_over_tcp: false,
        manage_pbx: true,
        restart_services: false,
        resync: false,
    }
}

fn lowered(change: &RoleChange<'_>) -> String {
    Wazo.apply_role(change).iter().map(|effect| format!("{effect}\n")).collect()
}

/// One golden per transition: the plain change, then what the settings add.
fn check(name: &str, from: &RoleConfig, to: &RoleConfig) {
    let modern = plain(from, to);
    let seed =
        RoleChange { cron: true, database_over_tcp: true, restart_services: true, resync: true, ..modern };
    let alone = RoleChange { manage_pbx: false, ..modern };
    let text = format!(
        "== modern preset, database over ssh ==\n{}\n\
         == seed preset, database over tcp, --restart-services --resync ==\n{}\n\
         == modern preset, [pbx] manage = false ==\n{}",
        lowered(&modern),
        lowered(&seed),
        lowered(&alone)
    );
    compare(name, &text);
}

#[test]
fn each_role_change_is_as_reviewed() {
    let disabled = RoleConfig::Disabled;
    for (family, one, two) in [("ipv4", "10.77.0.11", "10.77.0.12"), ("ipv6", "2001:db8::11", "2001:db8::12")]
    {
        for (name, from, to) in [
            ("disabled-to-master", disabled, master(two)),
            ("disabled-to-slave", disabled, slave(one)),
            ("slave-to-disabled", slave(one), disabled),
            ("master-to-disabled", master(two), disabled),
            ("master-to-slave", master(two), slave(two)),
            ("slave-to-master", slave(one), master(one)),
        ] {
            check(&format!("{name}-{family}.txt"), &from, &to);
        }
    }
}

#[test]
fn a_freed_slave_loses_its_sentinel_before_anything_else() {
    let (slave, disabled) = (slave("10.77.0.11"), RoleConfig::Disabled);
    let first = Wazo.apply_role(&plain(&slave, &disabled)).swap_remove(0);
    assert_eq!(first.to_string(), "remove /var/lib/wazo/is-secondary");
}

#[test]
fn a_new_slave_gets_its_sentinel_after_everything_else() {
    let (disabled, slave) = (RoleConfig::Disabled, slave("10.77.0.11"));
    let change = RoleChange { cron: true, restart_services: true, ..plain(&disabled, &slave) };
    let last = Wazo.apply_role(&change).pop().unwrap();
    assert_eq!(last.to_string(), "write /var/lib/wazo/is-secondary (empty, mode 0644)");
}

#[test]
fn a_slave_whose_provd_does_not_run_is_disabled_without_it() {
    let (slave, disabled) = (slave("10.77.0.11"), RoleConfig::Disabled);
    assert!(!lowered(&plain(&slave, &disabled)).contains("registrar"));
}

#[test]
fn cron_lines_are_removed_for_every_role_when_a_daemon_runs() {
    for to in [RoleConfig::Disabled, master("10.77.0.12"), slave("10.77.0.11")] {
        let text = lowered(&plain(&RoleConfig::Disabled, &to));
        assert!(text.contains("remove /etc/cron.d/xivo-ha-slave\nremove /etc/cron.d/xivo-ha-master\n"));
    }
}
