//! What the engine itself needs on this machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ha_core::Role;
use ha_core::effect::OnFailure;
use ha_core::failback::FailbackPolicy;
use ha_core::profile::Step;

use super::Check;
use crate::context::Context;
use crate::control::{self, Request};
use crate::durable::STATE_DIRECTORY;
use crate::settings::Preset;

/// How long the daemon's loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Free space under which the record of a takeover may not be written any more, bytes.
const SPACE_NEEDED: u64 = 64 << 20;
/// Free space under which a replication's staging and trash become tight, bytes.
const SPACE_WANTED: u64 = 1 << 30;

/// Whether the daemon runs where it should, and its loop turns.
pub(super) fn daemon(context: &Context, role: Role) -> Check {
    let program = context.profile().program;
    match control::ask(&context.root, &Request::Status, PATIENCE) {
        Some(Ok(_)) => Check::ok("daemon", "it runs and answers"),
        Some(Err(failure)) => Check::fail(
            "daemon",
            failure.message,
            format!(
                "look at `journalctl -u {program}`; `systemctl restart {program}` changes no service by itself"
            ),
        ),
        None if role == Role::Disabled => Check::ok("daemon", "none runs, and a disabled node needs none"),
        None => match context.settings.preset {
            Preset::Seed if !context.profile().exclusive_address => {
                Check::ok("daemon", "none runs: with the seed preset cron does its work")
            }
            Preset::Modern | Preset::Seed => Check::fail(
                "daemon",
                "none runs: nobody watches the other node, nothing is replicated",
                format!("run `systemctl enable --now {program}`"),
            ),
        },
    }
}

/// Whether the daemon comes back after a reboot.
pub(super) fn unit(context: &Context, role: Role) -> Option<Check> {
    let is_cron = context.settings.preset == Preset::Seed && !context.profile().exclusive_address;
    if role == Role::Disabled || is_cron {
        return None;
    }
    let program = context.profile().program;
    let wants = format!("/etc/systemd/system/multi-user.target.wants/{program}.service");
    // a link whose target is below another root points nowhere, and is there all the same
    Some(match fs::symlink_metadata(context.root.path(&wants)) {
        Ok(_) => Check::ok("unit-enabled", "the daemon starts at boot"),
        Err(_) => Check::warn(
            "unit-enabled",
            format!("{wants} is not there: after a reboot nobody watches"),
            format!("run `systemctl enable {program}`"),
        ),
    })
}

/// What a policy that waits means where every node has an address of its own (`safety.md` 6.2).
pub(super) fn failback_policy(context: &Context, role: Role) -> Option<Check> {
    let policy = &context.settings.failback.policy;
    let word = policy.word();
    match (role, policy) {
        (Role::Disabled, _) => None,
        // whoever has the address serves, alone
        _ if context.profile().exclusive_address => Some(Check::ok("failback-policy", word)),
        (_, FailbackPolicy::Automatic) => Some(Check::ok("failback-policy", word)),
        (_, FailbackPolicy::Manual | FailbackPolicy::Window(_)) => Some(Check::warn(
            "failback-policy",
            format!(
                "{word}: a master that returns serves at once beside the slave, trunks and DHCP on both, until failback is permitted"
            ),
            "nothing, if that is meant; otherwise [failback] policy = \"automatic\"",
        )),
    }
}

/// Whether every program of the plan for telephony is installed below the root.
pub(super) fn programs(context: &Context) -> Check {
    let plan = &context.profile().services;
    let missing = |steps: &[Step], needed: bool| -> Vec<&'static str> {
        let mut names: Vec<&str> = steps
            .iter()
            .filter(|step| (step.on_failure == OnFailure::Fail) == needed)
            .filter_map(|step| step.argv.first().copied())
            .filter(|name| context.root.program(name).is_none())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let steps: Vec<Step> = plan.start.iter().chain(plan.stop).copied().collect();
    let (needed, helpful) = (missing(&steps, true), missing(&steps, false));
    let below = context.root.directory().display();
    if !needed.is_empty() {
        let finding = format!("not installed below {below}: {}", needed.join(", "));
        return Check::fail(
            "programs",
            finding,
            "telephony cannot be started or stopped without them: install the PBX",
        );
    }
    if !helpful.is_empty() {
        let finding = format!("not installed below {below}: {}", helpful.join(", "));
        return Check::warn(
            "programs",
            finding,
            "telephony starts without them, and what they do is left out: install them",
        );
    }
    Check::ok("programs", "all that start and stop telephony are installed")
}

/// Whether an alert reaches anybody.
pub(super) fn alert(context: &Context) -> Check {
    let program = context.settings.alert.command.first().map_or("", String::as_str);
    if context.root.program(program).is_some() {
        return Check::ok("alert", format!("alerts go to {program}"));
    }
    let below = context.root.directory().display();
    Check::warn(
        "alert",
        format!("{program} is not installed below {below}: alerts are in the log alone"),
        "install a mailer that reaches you, or name another command in [alert]",
    )
}

/// Whether the record and a replication find room.
pub(super) fn state_space(context: &Context) -> Check {
    let directory = context.root.path(STATE_DIRECTORY);
    let there = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let todo = "make room: a full disk delays a takeover and stops replication";
    match rustix::fs::statvfs(there) {
        Ok(disk) => space(disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_files, disk.f_favail),
        Err(error) => Check::warn("state-space", format!("{STATE_DIRECTORY}: {error}"), todo),
    }
}

/// `inodes` is zero where the file system does not count them.
fn space(bytes: u64, inodes: u64, free_inodes: u64) -> Check {
    let finding = format!("{} MiB are free for {STATE_DIRECTORY}", bytes >> 20);
    let todo = "make room: a full disk delays a takeover and stops replication";
    if inodes > 0 && free_inodes < 1000 {
        let finding = format!("{free_inodes} inodes are free for {STATE_DIRECTORY}");
        return Check::fail("state-space", finding, "delete small files: no new file can be made there");
    }
    match bytes {
        0..SPACE_NEEDED => Check::fail("state-space", finding, todo),
        SPACE_NEEDED..SPACE_WANTED => Check::warn("state-space", finding, todo),
        _ => Check::ok("state-space", finding),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::super::Level;
    use super::super::testing::Place;
    use super::*;

    #[test]
    fn a_pair_without_a_daemon_fails_unless_cron_does_its_work() {
        let place = Place::new();
        assert_eq!(daemon(&place.context(), Role::Slave).level, Level::Fail);
        assert_eq!(daemon(&place.context(), Role::Disabled).level, Level::Ok);
        place.settings("preset = \"seed\"");
        assert_eq!(daemon(&place.context(), Role::Slave).level, Level::Ok);
    }

    #[test]
    fn a_daemon_that_takes_questions_and_answers_none_fails() {
        let place = Place::new();
        let path = control::path(&place.context().root);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(path).unwrap();
        let serving = std::thread::spawn(move || {
            let answers = [&b""[..], br#"{"done":{"text":"","json":{},"exit":0}}"#];
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        assert_eq!(daemon(&place.context(), Role::Slave).level, Level::Fail);
        assert_eq!(daemon(&place.context(), Role::Slave).level, Level::Ok);
        serving.join().unwrap();
    }

    #[test]
    fn a_failback_policy_that_lets_both_serve_is_told() {
        let mut context = Place::new().context();
        assert_eq!(failback_policy(&context, Role::Slave).unwrap().level, Level::Ok);
        context.settings.failback.policy = FailbackPolicy::Manual;
        assert_eq!(failback_policy(&context, Role::Slave).unwrap().level, Level::Warn);
        assert_eq!(failback_policy(&context, Role::Disabled), None);
    }

    #[test]
    fn a_daemon_that_does_not_start_at_boot_is_told() {
        let place = Place::new();
        assert_eq!(unit(&place.context(), Role::Disabled), None);
        assert_eq!(unit(&place.context(), Role::Master).unwrap().level, Level::Warn);
        let wants = place.path("/etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        symlink("/nowhere/wazo-ha.service", wants.join("wazo-ha.service")).unwrap();
        assert_eq!(unit(&place.context(), Role::Master).unwrap().level, Level::Ok);
    }

    #[test]
    fn a_program_of_the_plan_that_is_not_installed_fails_or_is_told() {
        let place = Place::new();
        let check = programs(&place.context());
        assert_eq!(check.level, Level::Fail);
        assert!(check.finding.ends_with(": wazo-service"), "{}", check.finding);
        let install = |name: &str| {
            let path = place.write(&format!("/usr/bin/{name}"), "#!/bin/sh\n");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        install("wazo-service");
        let check = programs(&place.context());
        assert_eq!(check.level, Level::Warn);
        assert!(check.finding.contains("dhcpd-update, service"), "{}", check.finding);
        for step in place.context().profile().services.start {
            install(step.argv[0]);
        }
        assert_eq!(programs(&place.context()).level, Level::Ok);
    }

    #[test]
    fn alerts_that_reach_nobody_are_told() {
        let place = Place::new();
        let check = alert(&place.context());
        assert_eq!(check.level, Level::Warn);
        assert!(check.finding.starts_with("mail is not installed"), "{}", check.finding);
        let mail = place.write("/usr/bin/mail", "#!/bin/sh\n");
        fs::set_permissions(mail, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(alert(&place.context()).level, Level::Ok);
    }

    #[test]
    fn a_disk_that_is_full_fails() {
        assert_eq!(space(10 << 20, 1_000_000, 500_000).level, Level::Fail);
        assert_eq!(space(500 << 20, 1_000_000, 500_000).level, Level::Warn);
        assert_eq!(space(50 << 30, 1_000_000, 500_000).level, Level::Ok);
        assert_eq!(space(50 << 30, 1_000_000, 3).level, Level::Fail);
        assert_eq!(space(50 << 30, 0, 0).level, Level::Ok, "a file system without inodes");
        assert_eq!(state_space(&Place::new().context()).id, "state-space");
    }
}
