//! What holds for every distribution, checked on its constants and on the effects it lowers a role change to.

use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::time::Duration;

use crate::distribution::{Distribution, RoleChange, ServiceState};
use crate::effect::{Command, Effect};
use crate::profile::{Dataset, Exclusion, Profile, SipTimers, Step, Why};
use crate::role::{Role, RoleConfig};
use crate::testkit::model::Model;

/// Checks everything that an adapter can get wrong without any IO. Call it from a test of the adapter:
///
/// ```ignore
/// ha_core::testkit::conformance(&Wazo);
/// ```
///
/// # Panics
///
/// At the first rule that does not hold, naming the rule and the value.
pub fn conformance(distribution: &dyn Distribution) {
    let profile = distribution.profile();
    datasets_are_absolute_and_disjoint(profile.datasets);
    if let Some(database) = &profile.database {
        exclusions_are_distinct_and_keep_identity(database.exclude);
    }
    services_have_commands_and_bounds(profile);
    service_lowering_is_the_plan(distribution);
    schedule_has_five_fields(profile.schedule);
    start_keeps_the_promise(profile);
    sip_expiry_is_ordered(profile);
    let roles = example_roles();
    role_file_is_total(distribution);
    for change in every_change(&roles) {
        let effects = distribution.apply_role(&change);
        let told = format!("{:?} -> {:?}", change.from, change.to);
        paths_are_absolute(&effects, &told);
        commands_are_bounded(&effects, &told);
        role_file_round_trips(distribution, &change, &effects, &told);
        entering_comes_last(&effects, profile, &told);
        leaving_removes_what_entering_wrote(distribution, &change, &effects, &told);
        applying_again_changes_nothing(distribution, &change, &effects, &told);
        the_way_there_leaves_no_trace(distribution, &change, &effects, &told);
    }
}

fn datasets_are_absolute_and_disjoint(datasets: &[Dataset]) {
    for dataset in datasets {
        assert!(
            is_plain_absolute(dataset.root),
            "dataset root {} is not a plain absolute path",
            dataset.root
        );
        assert!(!dataset.source.is_empty(), "{} has no source", dataset.root);
        for pattern in dataset.only.iter().chain(dataset.exclude) {
            if let Err(why) = check_pattern(pattern) {
                panic!("{}: pattern {pattern:?}: {why}", dataset.root);
            }
        }
    }
    for (at, one) in datasets.iter().enumerate() {
        for other in &datasets[at + 1..] {
            let (a, b) = (Path::new(one.root), Path::new(other.root));
            assert!(!a.starts_with(b) && !b.starts_with(a), "{} and {} overlap", one.root, other.root);
        }
    }
}

/// Absolute, without `.`, `..`, doubled or trailing separators.
fn is_plain_absolute(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    parts.next() == Some(Component::RootDir)
        && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
}

/// The form of [`Dataset::only`]; what a pattern matches is the planner's business.
fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    for segment in pattern.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err("every segment needs a name: relative to the root, without \"..\"");
        }
        let mut rest = segment;
        while let Some(open) = rest.find('[') {
            if rest[..open].contains(']') {
                return Err("\"]\" without \"[\"");
            }
            match rest[open + 1..].find(']') {
                None => return Err("\"[\" without \"]\""),
                Some(0) => return Err("an empty class matches nothing"),
                Some(length) => rest = &rest[open + length + 2..],
            }
        }
        if rest.contains(']') {
            return Err("\"]\" without \"[\"");
        }
    }
    Ok(())
}

fn exclusions_are_distinct_and_keep_identity(exclude: &[Exclusion]) {
    let mut seen = BTreeSet::new();
    for Exclusion { table, .. } in exclude {
        assert!(seen.insert(table), "table {table} is excluded twice");
        let stem = table.strip_suffix('*').unwrap_or(table);
        assert!(!stem.is_empty() && !stem.contains('*'), "{table}: a star only at the end of a name");
        let family =
            seen.iter().find(|one| one.strip_suffix('*').is_some_and(|prefix| stem.starts_with(prefix)));
        assert!(family.is_none_or(|one| *one == table), "{table} is excluded by {family:?} already");
    }
    let identity: Vec<_> = exclude.iter().filter(|one| one.why == Why::Identity).collect();
    assert!(!identity.is_empty(), "nothing says which tables identify the installation");
}

fn services_have_commands_and_bounds(profile: &Profile) {
    let plan = &profile.services;
    assert!(!plan.start.is_empty(), "telephony cannot be started");
    assert!(!plan.stop.is_empty(), "telephony cannot be stopped");
    assert!(plan.start.iter().any(|step| step.before_service), "no start command precedes service");
    let reversed: Vec<_> = plan.start.iter().rev().map(|step| step.argv).collect();
    let stop: Vec<_> = plan.stop.iter().map(|step| step.argv).collect();
    assert_ne!(stop, reversed, "stop is written down on its own, not start reversed");
    let single = [plan.status];
    for step in [plan.start, plan.stop, &single, profile.restart, profile.resync].concat() {
        assert!(!step.argv.is_empty() && !step.argv[0].is_empty(), "a step without a program");
        assert!(step.timeout > Duration::ZERO, "{:?} has no time-out", step.argv);
    }
}

fn service_lowering_is_the_plan(distribution: &dyn Distribution) {
    let plan = &distribution.profile().services;
    let states = [(ServiceState::Running, plan.start), (ServiceState::Stopped, plan.stop)];
    let roles = [Role::Disabled, Role::Master, Role::Slave];
    for ((to, steps), role) in states.into_iter().flat_map(|state| roles.map(|role| (state, role))) {
        let lowered: Vec<Command> = distribution
            .set_services(to, role)
            .into_iter()
            .filter_map(|effect| if let Effect::Run(command) = effect { Some(command) } else { None })
            .collect();
        let planned: Vec<Command> = steps.iter().map(Step::command).collect();
        for command in &planned {
            assert!(lowered.contains(command), "{to:?} on a {role} does not run {command}");
        }
    }
}

fn schedule_has_five_fields(schedule: &str) {
    assert_eq!(schedule.split_ascii_whitespace().count(), 5, "schedule {schedule:?} has not five fields");
}

/// The slowest way of the documents to detect, then every start command at its time-out.
fn start_keeps_the_promise(profile: &Profile) {
    let round = profile.seed_round;
    let detection = round.every + round.spacing * round.pings;
    let start: Duration =
        profile.services.start.iter().filter(|step| step.before_service).map(|step| step.timeout).sum();
    let worst = detection + profile.services.status.timeout + start;
    assert!(
        worst <= profile.promise,
        "detection {detection:?} + start {start:?} + status is {worst:?}, promised are {:?}",
        profile.promise
    );
}

fn sip_expiry_is_ordered(profile: &Profile) {
    let Some(sip) = &profile.sip else { return };
    for SipTimers { min, default, max } in [sip.paired, sip.shipped] {
        assert!(
            min <= default && default <= max,
            "SIP expiry is not ordered: {min:?} <= {default:?} <= {max:?}"
        );
    }
    assert!(sip.paired.max <= profile.promise, "a phone notices after {:?} only", sip.paired.max);
}

fn role_file_is_total(distribution: &dyn Distribution) {
    assert_eq!(distribution.parse_role(None), Ok(RoleConfig::Disabled), "no role file means disabled");
    assert!(distribution.parse_role(Some("\u{0}nonsense")).is_err(), "nonsense is taken for a role");
}

fn example_roles() -> Vec<RoleConfig> {
    let role = |role, remote| RoleConfig::new(role, remote).expect("documentation addresses are usable");
    vec![
        RoleConfig::Disabled,
        role(Role::Master, "192.0.2.12"),
        role(Role::Master, "2001:db8::12"),
        role(Role::Slave, "192.0.2.11"),
        role(Role::Slave, "2001:db8::11"),
    ]
}

fn every_change(roles: &[RoleConfig]) -> impl Iterator<Item = RoleChange<'_>> {
    let switch = [false, true];
    roles.iter().flat_map(move |from| {
        roles.iter().flat_map(move |to| {
            (0..16_u8).map(move |bits| RoleChange {
                from,
                to,
                shared: None,
                cron: switch[usize::from(bits & 1)],
                database_over_tcp: switch[usize::from(bits >> 1 & 1)],
                manage_pbx: switch[usize::from(bits >> 2 & 1)],
                restart_services: switch[usize::from(bits >> 3)],
                resync: switch[usize::from(bits >> 3)],
            })
        })
    })
}

fn paths_are_absolute(effects: &[Effect], told: &str) {
    for effect in effects {
        let paths: Vec<&str> = match effect {
            Effect::WriteFile { path, .. }
            | Effect::RemoveFile { path }
            | Effect::SetVariables { path, .. } => vec![path],
            Effect::SetBlocks { blocks, .. } => blocks.iter().map(|block| block.path.as_str()).collect(),
            Effect::Run(_)
            | Effect::RunUnless { .. }
            | Effect::SipExpiry(_)
            | Effect::BackupRegistrars(_)
            | Effect::SynchronizeDevices => vec![],
        };
        for path in paths {
            assert!(is_plain_absolute(path), "{told}: {path} is not a plain absolute path");
            let stars = path.split('/').filter(|part| part.contains('*')).collect::<Vec<_>>();
            let expands = matches!(effect, Effect::SetBlocks { .. });
            assert!(
                stars.is_empty() || (expands && stars == ["*"]),
                "{told}: {path}: one whole component may be a star, and only in blocks"
            );
        }
    }
}

fn commands_are_bounded(effects: &[Effect], told: &str) {
    for effect in effects {
        let commands: Vec<&Command> = match effect {
            Effect::Run(command) => vec![command],
            Effect::RunUnless { check, commands } => std::iter::once(check).chain(commands).collect(),
            Effect::SetBlocks { then, .. } => then.iter().collect(),
            Effect::WriteFile { .. }
            | Effect::RemoveFile { .. }
            | Effect::SetVariables { .. }
            | Effect::SipExpiry(_)
            | Effect::BackupRegistrars(_)
            | Effect::SynchronizeDevices => vec![],
        };
        for command in commands {
            assert!(!command.argv.is_empty(), "{told}: a command without a program");
            assert!(command.timeout > Duration::ZERO, "{told}: {command} has no time-out");
        }
    }
}

fn role_file_round_trips(
    distribution: &dyn Distribution,
    change: &RoleChange<'_>,
    effects: &[Effect],
    told: &str,
) {
    let node = Model::default().after(effects);
    let text = node.files.get(distribution.profile().role_file).map(String::as_str);
    assert_eq!(distribution.parse_role(text).as_ref(), Ok(change.to), "{told}: the role file says otherwise");
}

/// The order in which a role change protects: files of the former role go before the role file changes and before
/// anything runs; an empty file (a sentinel) is the last thing written.
fn entering_comes_last(effects: &[Effect], profile: &Profile, told: &str) {
    let acts = |effect: &Effect| match effect {
        Effect::WriteFile { path, .. } => path == profile.role_file,
        Effect::RemoveFile { .. } => false,
        Effect::Run(_)
        | Effect::RunUnless { .. }
        | Effect::SetBlocks { .. }
        | Effect::SetVariables { .. }
        | Effect::SipExpiry(_)
        | Effect::BackupRegistrars(_)
        | Effect::SynchronizeDevices => true,
    };
    let first_act = effects.iter().position(acts).unwrap_or(effects.len());
    for effect in &effects[first_act..] {
        assert!(
            !matches!(effect, Effect::RemoveFile { .. }),
            "{told}: \"{effect}\" comes after something that acts; a check that runs meanwhile still sees the file"
        );
    }
    let is_sentinel =
        |effect: &Effect| matches!(effect, Effect::WriteFile { content, .. } if content.is_empty());
    if let Some(at) = effects.iter().position(is_sentinel) {
        assert_eq!(at, effects.len() - 1, "{told}: \"{}\" is not the last effect", effects[at]);
    }
}

fn leaving_removes_what_entering_wrote(
    distribution: &dyn Distribution,
    change: &RoleChange<'_>,
    effects: &[Effect],
    told: &str,
) {
    let leave = RoleChange { from: change.to, to: &RoleConfig::Disabled, ..*change };
    let new = Model::serving(distribution);
    let mut node = new.clone().after(effects).after(&distribution.apply_role(&leave));
    let text = node.files.remove(distribution.profile().role_file);
    assert_eq!(distribution.parse_role(text.as_deref()), Ok(RoleConfig::Disabled), "{told}, then disabled");
    assert_eq!(node, new, "{told}, then disabled: something is left");
}

fn applying_again_changes_nothing(
    distribution: &dyn Distribution,
    change: &RoleChange<'_>,
    effects: &[Effect],
    told: &str,
) {
    let once = Model::serving(distribution).after(effects);
    let again = RoleChange { from: change.to, ..*change };
    let twice = once.clone().after(&distribution.apply_role(&again));
    assert_eq!(once, twice, "{told}: the same role again changes something");
}

/// A node is what its role is, whatever it was before.
fn the_way_there_leaves_no_trace(
    distribution: &dyn Distribution,
    change: &RoleChange<'_>,
    effects: &[Effect],
    told: &str,
) {
    let new = RoleConfig::Disabled;
    let start = Model::serving(distribution).after(&distribution.apply_role(&RoleChange {
        from: &new,
        to: change.from,
        ..*change
    }));
    let straight = distribution.apply_role(&RoleChange { from: &new, ..*change });
    assert_eq!(
        start.after(effects),
        Model::serving(distribution).after(&straight),
        "{told}: not what a new node becomes"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::EXAMPLE;

    #[test]
    fn a_pattern_that_leaves_the_root_or_never_closes_is_refused() {
        for right in ["*", "[a-z0-9-]+/*", "a?/b", "*/monitor*"] {
            assert_eq!(check_pattern(right), Ok(()), "{right}");
        }
        for wrong in ["", "/etc", "../x", "a//b", "[a-z", "a]b", "[]x", "x[a]]"] {
            assert!(check_pattern(wrong).is_err(), "{wrong} is accepted");
        }
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn a_dataset_inside_another_is_found() {
        let tree = |root| Dataset { root, only: &[], exclude: &[], source: "here" };
        datasets_are_absolute_and_disjoint(&[tree("/var/lib"), tree("/var/lib/wazo")]);
    }

    #[test]
    #[should_panic(expected = "excluded by")]
    fn a_table_inside_an_excluded_family_is_found() {
        let keep = |table| Exclusion { table, why: Why::Identity };
        exclusions_are_distinct_and_keep_identity(&[keep("alembic_version*"), keep("alembic_version_auth")]);
    }

    #[test]
    #[should_panic(expected = "is not the last effect")]
    fn a_sentinel_that_is_written_before_something_acts_is_found() {
        let profile = &Profile { role_file: "/etc/role", ..EXAMPLE };
        let write = |path: &str, content: &str| Effect::WriteFile {
            path: path.to_owned(),
            content: content.to_owned(),
            mode: 0o644,
        };
        entering_comes_last(&[write("/var/is-secondary", ""), write("/etc/role", "slave")], profile, "test");
    }

    #[test]
    #[should_panic(expected = "promised are 300s")]
    fn a_start_that_may_take_longer_than_promised_is_found() {
        const SLOW: &[Step] = &[Step { timeout: Duration::from_secs(280), ..EXAMPLE.services.status }];
        let mut profile = EXAMPLE;
        profile.services.start = SLOW;
        start_keeps_the_promise(&profile);
    }
}
