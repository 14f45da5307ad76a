use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ha_core::effect::Block;
use ha_core::profile::SipTimers;

const LONG: Duration = Duration::from_secs(30);

fn command(words: &str) -> Command {
    let argv = words.split(' ').map(str::to_owned).collect();
    Command { argv, timeout: LONG, on_failure: OnFailure::Fail }
}

fn write(path: &str, content: &str) -> Effect {
    Effect::WriteFile { path: path.to_owned(), content: content.to_owned(), mode: 0o644 }
}

/// A tree like a PBX's, and a list of effects that touches all kinds of things in it.
struct Place {
    _dir: tempfile::TempDir,
    root: Root,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path()).unwrap();
        let place = Place { _dir: dir, root };
        place.file("/etc/xivo/ha.conf", b"{\"node_type\": \"disabled\"}", 0o604);
        place.file("/etc/cron.d/xivo-ha-master", b"0 * * * * root old\n", 0o640);
        place.file(
            "/etc/postgresql/15/main/pg_hba.conf",
            b"local all\nhost asterisk postgres 10.0.0.9/32 trust\n# \xe9",
            0o600,
        );
        place.file("/etc/postgresql/13/main/pg_hba.conf", b"local all\n", 0o640);
        place.file("/etc/asha.conf", b"# \xc3\xa9\r\nHACLUSTERIP=\r\nHASYNCH=\"LAZY\"", 0o640);
        place.file("/api/expiry", b"3600", 0o600);
        symlink("nowhere", place.root.path("/var/lib/wazo-link")).unwrap();
        // what reads the files tells what it read
        let restart = "#!/bin/sh\nR=${0%/usr/bin/systemctl}\necho \"$@\" >> $R/ran\nmkdir -p $R/read\ncp $R/etc/postgresql/15/main/pg_hba.conf $R/read/hba";
        place.file("/usr/bin/systemctl", restart.as_bytes(), 0o755);
        place.file("/usr/bin/fail", b"#!/bin/sh\necho no licence\nexit 7", 0o755);
        place.file(
            "/read/hba",
            &fs::read(place.root.path("/etc/postgresql/15/main/pg_hba.conf")).unwrap(),
            0o600,
        );
        place
    }

    fn file(&self, path: &str, content: &[u8], mode: u32) {
        let path = self.root.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir_all(self.root.path("/var/lib")).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn performer(&self) -> Performer {
        Performer::new(self.root.clone(), "wazo-ha").with_api(Arc::new(FileApi(self.root.clone())))
    }

    /// Everything in the tree with mode and owner, but for the engine's own files.
    fn tree(&self) -> BTreeMap<String, (u32, u32, u32, Vec<u8>)> {
        let mut tree = BTreeMap::new();
        let mut directories = vec![self.root.directory().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                let name = path.strip_prefix(self.root.directory()).unwrap().display().to_string();
                if name == "var/lib/pbx-ha" || name == "ran" {
                    continue;
                }
                let content = if meta.is_dir() {
                    directories.push(path);
                    Vec::new()
                } else if meta.is_symlink() {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                } else {
                    fs::read(&path).unwrap()
                };
                tree.insert(name, (meta.mode(), meta.uid(), meta.gid(), content));
            }
        }
        tree
    }

    fn log_is_gone(&self) -> bool {
        !transaction::log_path(&self.root).exists()
    }

    fn ran(&self) -> String {
        fs::read_to_string(self.root.path("/ran")).unwrap_or_default()
    }
}

/// A setting behind an API, kept in a file as the PBX's database keeps it.
struct FileApi(Root);

impl FileApi {
    fn value(&self) -> String {
        fs::read_to_string(self.0.path("/api/expiry")).unwrap()
    }
}

impl PbxApi for FileApi {
    fn set_expiry(&self, timers: Option<SipTimers>) -> Result<Undo, PbxError> {
        let undo = Undo(self.value().into());
        let text = timers.map_or("3600".to_owned(), |timers| timers.max.as_secs().to_string());
        fs::write(self.0.path("/api/expiry"), text).unwrap();
        if self.0.path("/api/fails in the middle").exists() {
            return Err(PbxError("PUT /asterisk/sip/general: status 503".to_owned()));
        }
        Ok(undo)
    }
    fn set_backup_registrars(&self, _: Option<IpAddr>) -> Result<Undo, PbxError> {
        Err(PbxError("127.0.0.1:9486: connection refused".to_owned()))
    }
    fn undo(&self, undo: &Undo) -> Result<(), PbxError> {
        fs::write(self.0.path("/api/expiry"), undo.0.as_str().unwrap()).unwrap();
        Ok(())
    }
    fn undo_of(&self, _: ApiChange) -> Result<Option<Undo>, PbxError> {
        Ok(Some(Undo(self.value().into())))
    }
    fn synchronize_devices(&self) -> Result<String, PbxError> {
        Err(PbxError("no devices here".to_owned()))
    }
}

const FIVE_MINUTES: SipTimers = SipTimers {
    min: Duration::from_secs(180),
    default: Duration::from_secs(240),
    max: Duration::from_secs(300),
};

fn hba(lines: &[&str]) -> Effect {
    Effect::SetBlocks {
        blocks: vec![Block {
            path: "/etc/postgresql/*/main/pg_hba.conf".to_owned(),
            section: None,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            replaces: Some("host asterisk postgres".to_owned()),
        }],
        then: Some(command("systemctl restart postgresql.service")),
    }
}

fn variables(path: &str, variables: &[(&str, &str)]) -> Effect {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Effect::SetVariables { path: path.to_owned(), variables: variables.iter().map(owned).collect() }
}

fn configure_slave() -> Vec<Effect> {
    vec![
        write("/etc/xivo/ha.conf", "{\"node_type\": \"slave\"}"),
        write("/var/lib/wazo/is-secondary", ""),
        Effect::RemoveFile { path: "/etc/cron.d/xivo-ha-master".to_owned() },
        Effect::RemoveFile { path: "/var/lib/wazo-link".to_owned() },
        hba(&["host asterisk postgres 10.0.0.1/32 trust"]),
        Effect::SipExpiry(Some(FIVE_MINUTES)),
        write("/etc/cron.d/xivo-ha-slave", "* * * * * root check\n"),
        variables("/etc/asha.conf", &[("HASYNCH", "LOOSE"), ("HAPRINODE", "sark1")]),
        Effect::RemoveFile { path: "/var/lib/wazo/is-primary".to_owned() },
    ]
}

#[test]
fn a_list_is_done_and_done_again_it_changes_nothing() {
    let place = Place::new();
    let done = place.performer().perform("configure slave", &configure_slave()).unwrap();
    let outcomes: Vec<_> = done.steps.iter().map(|step| step.outcome.clone()).collect();
    use Outcome::{Changed, Unchanged};
    assert_eq!(outcomes, [Changed, Changed, Changed, Changed, Changed, Changed, Changed, Changed, Unchanged]);
    assert!(place.log_is_gone());
    assert_eq!(place.ran(), "restart postgresql.service\n");
    let tree = place.tree();
    assert_eq!(tree["etc/xivo/ha.conf"].0 & 0o7777, 0o604, "an existing file keeps its mode");
    assert_eq!(tree["var/lib/wazo/is-secondary"].0 & 0o7777, 0o644);
    assert_eq!(tree["var/lib/wazo"].0 & 0o7777, 0o755);
    assert_eq!(tree["api/expiry"].3, b"300");
    let asha = "# \u{e9}\r\nHACLUSTERIP=\r\nHASYNCH=\"LOOSE\"\r\nHAPRINODE=sark1\r\n";
    assert_eq!(
        tree["etc/asha.conf"],
        (0o100_640, tree["etc/asha.conf"].1, tree["etc/asha.conf"].2, asha.into())
    );

    let files: Vec<Effect> =
        configure_slave().into_iter().filter(|effect| !matches!(effect, Effect::SipExpiry(_))).collect();
    let state = fs::metadata(place.root.path("/var/lib/pbx-ha")).unwrap().mtime_nsec();
    assert!(!place.performer().perform("again", &files).unwrap().changed());
    assert_eq!(place.tree(), tree);
    assert_eq!(place.ran(), "restart postgresql.service\n", "nothing changed, nothing is restarted");
    let after = fs::metadata(place.root.path("/var/lib/pbx-ha")).unwrap().mtime_nsec();
    assert_eq!(after, state, "nothing changed, nothing is written");
}

#[test]
fn whichever_effect_fails_everything_before_it_is_undone() {
    let effects = configure_slave();
    for failing in 0..=effects.len() {
        let place = Place::new();
        let before = place.tree();
        let mut list = effects.clone();
        list.insert(failing, Effect::Run(command("fail")));
        let error = place.performer().perform("configure slave", &list).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("run fail: fail: exit status: 7; it said: no licence; everything was undone"),
            "{error}"
        );
        assert_eq!(place.tree(), before, "failing effect {failing}");
        assert!(place.log_is_gone());
        let restarts = place.ran().lines().count();
        assert_eq!(restarts, if failing > 4 { 2 } else { 0 }, "what was restarted is restarted again");
    }
}

#[test]
fn a_file_that_is_changed_twice_gets_its_first_content_back() {
    let place = Place::new();
    let before = place.tree();
    let list = [
        write("/etc/xivo/ha.conf", "one"),
        Effect::RemoveFile { path: "/etc/xivo/ha.conf".to_owned() },
        write("/etc/xivo/ha.conf", "three"),
        Effect::Run(command("fail")),
    ];
    let error = place.performer().perform("twice", &list).unwrap_err();
    assert!(error.to_string().contains("everything was undone"), "{error}");
    assert_eq!(place.tree(), before);
}

#[test]
fn a_restart_that_fails_is_run_again_with_the_former_files() {
    let place = Place::new();
    // it refuses the new line, as a server refuses a configuration
    let picky = "#!/bin/sh\nR=${0%/usr/bin/systemctl}\necho ran >> $R/ran\n! grep -q 10.0.0.1 $R/etc/postgresql/15/main/pg_hba.conf";
    place.file("/usr/bin/systemctl", picky.as_bytes(), 0o755);
    let before = place.tree();
    let error = place.performer().perform("configure slave", &configure_slave()).unwrap_err();
    let PerformError::Failed { back, .. } = &error else { panic!("{error}") };
    assert_eq!(back.left, []);
    assert_eq!(place.tree(), before);
    assert_eq!(place.ran(), "ran\nran\n");
}

#[test]
fn a_command_that_may_fail_does_not_stop_the_list() {
    let place = Place::new();
    let helper = |words| Effect::Run(Command { on_failure: OnFailure::GoOn, ..command(words) });
    let list = [helper("fail"), helper("dhcpd-update -dr"), write("/etc/new", "x")];
    let done = place.performer().perform("takeover", &list).unwrap();
    let why = |step: &Step| matches!(&step.outcome, Outcome::WentOn { why } if !why.is_empty());
    assert_eq!(done.steps.iter().map(why).collect::<Vec<_>>(), [true, true, false]);
    assert!(place.tree().contains_key("etc/new"));
}

#[test]
fn commands_that_had_run_are_told() {
    let place = Place::new();
    let list = [Effect::Run(command("systemctl start asterisk")), Effect::Run(command("fail"))];
    let error = place.performer().perform("takeover", &list).unwrap_err();
    let end = "these commands had run, and nothing undoes a command: systemctl start asterisk";
    assert!(error.to_string().ends_with(end), "{error}");
    assert!(place.log_is_gone(), "a list of commands alone writes no log");
}

#[test]
fn without_an_api_its_effects_are_skipped_and_say_so() {
    let place = Place::new();
    let performer = Performer::new(place.root.clone(), "wazo-ha");
    let done = performer.perform("x", &[Effect::SipExpiry(None)]).unwrap();
    assert!(matches!(done.steps[0].outcome, Outcome::Skipped { .. }));
}

#[test]
fn an_api_that_fails_undoes_the_rest() {
    let place = Place::new();
    let before = place.tree();
    let mut list = configure_slave();
    list.push(Effect::BackupRegistrars(None));
    let error = place.performer().perform("configure slave", &list).unwrap_err();
    let text =
        "restore the former backup registrars and proxies: 127.0.0.1:9486: connection refused; everything";
    assert!(error.to_string().starts_with(text), "{error}");
    assert_eq!(place.tree(), before);
}

#[test]
fn a_call_that_was_done_in_part_is_undone() {
    let place = Place::new();
    place.file("/api/fails in the middle", b"", 0o600);
    let before = place.tree();
    let error = place.performer().perform("configure slave", &configure_slave()).unwrap_err();
    assert!(error.to_string().contains("status 503; everything was undone"), "{error}");
    assert_eq!(place.tree(), before);
}

#[test]
fn a_dry_run_compares_and_changes_nothing() {
    let place = Place::new();
    let before = place.tree();
    let mut list = configure_slave();
    list.push(Effect::Run(command("absent-program now")));
    list.push(Effect::Run(command("systemctl start asterisk")));
    let lines = place.performer().preview(&list);
    let would: Vec<_> = lines.iter().map(|line| line.would.clone()).collect();
    use Would::{Call, Change, Not, Nothing, Run};
    let absent = Not(format!("absent-program: not installed below {}", place.root.directory().display()));
    assert_eq!(would, [Change, Change, Change, Change, Change, Call, Change, Change, Nothing, absent, Run]);
    assert_eq!(place.tree(), before);
    assert!(!place.root.path("/var/lib/pbx-ha").exists());
}

/// Runs `configure_slave` (or a recovery) in a process of its own, killed at the given boundary; whether it was.
fn in_child(root: &Root, what: &str, kill_at: usize) -> bool {
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "effect::tests::perform_until_killed"])
        .env("EFFECT_ROOT", root.directory())
        .env("EFFECT_WHAT", what)
        .env("EFFECT_KILL_AT", kill_at.to_string())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success() || status.signal() == Some(9), "{status}");
    !status.success()
}

#[test]
#[ignore = "the other process of the tests that kill one"]
fn perform_until_killed() {
    let variable = |name| std::env::var(name).expect("started by another test");
    let root = Root::new(variable("EFFECT_ROOT")).unwrap();
    let kill_at: usize = variable("EFFECT_KILL_AT").parse().unwrap();
    let passed = AtomicUsize::new(0);
    let performer =
        Performer::new(root.clone(), "wazo-ha").with_api(Arc::new(FileApi(root))).on_boundary(move |_| {
            if passed.fetch_add(1, Ordering::Relaxed) == kill_at {
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
        });
    if variable("EFFECT_WHAT") == "recover" {
        performer.recover().unwrap();
    } else {
        performer.perform("configure slave", &configure_slave()).unwrap();
    }
}

#[test]
fn killed_at_any_boundary_everything_is_old_or_everything_is_new() {
    let old = Place::new().tree();
    let new = {
        let place = Place::new();
        place.performer().perform("configure slave", &configure_slave()).unwrap();
        place.tree()
    };
    let mut rolled_back = 0;
    for kill_at in 0.. {
        let place = Place::new();
        if !in_child(&place.root, "perform", kill_at) {
            assert_eq!(place.tree(), new);
            break;
        }
        // the recovery is killed as well, again and again, each time a little later
        for recovery in [0, 2] {
            in_child(&place.root, "recover", recovery);
        }
        let recovered = place.performer().recover().unwrap();
        let tree = place.tree();
        assert!(tree == old || tree == new, "killed at {kill_at}, {recovered:?}: {tree:#?}");
        rolled_back += usize::from(tree == old);
        assert!(place.log_is_gone());
        assert_eq!(place.performer().recover().unwrap(), None);
        // and it can be done again
        place.performer().perform("configure slave", &configure_slave()).unwrap();
        assert_eq!(place.tree(), new);
    }
    assert!(rolled_back > 20, "{rolled_back}");
}

#[test]
fn a_recovery_tells_what_it_found() {
    let place = Place::new();
    assert!(in_child(&place.root, "perform", 2));
    let recovered = place.performer().recover().unwrap().unwrap();
    let text = "configure slave: was interrupted; everything was undone";
    assert_eq!(recovered.to_string(), text);
}

#[test]
fn a_file_that_somebody_changed_after_the_crash_is_kept() {
    let place = Place::new();
    // logged, temporary, changed, done: the second effect has been logged
    assert!(in_child(&place.root, "perform", 4));
    fs::write(place.root.path("/etc/xivo/ha.conf"), "by hand").unwrap();
    let Some(Recovered::RolledBack { back, .. }) = place.performer().recover().unwrap() else { panic!() };
    assert_eq!(back.left.len(), 1);
    assert_eq!(back.left[0].again, Again::Never);
    assert_eq!(fs::read_to_string(place.root.path("/etc/xivo/ha.conf")).unwrap(), "by hand");
    assert!(place.log_is_gone());
}

#[test]
fn what_cannot_be_undone_yet_is_tried_again_and_nothing_is_begun_before() {
    let place = Place::new();
    let before = place.tree();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let other = Place::new();
    let counting = other.performer().on_boundary(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    counting.perform("configure slave", &configure_slave()).unwrap();
    let last = count.load(Ordering::Relaxed) - 1;
    assert!(in_child(&place.root, "perform", last - 1), "before the commit");
    let without_api = Performer::new(place.root.clone(), "wazo-ha");
    let error = without_api.perform("configure disabled", &[write("/etc/new", "x")]).unwrap_err();
    assert!(matches!(error, PerformError::Unfinished { .. }), "{error}");
    assert!(!place.root.path("/etc/new").exists());
    assert!(!place.log_is_gone());
    // a takeover runs commands alone, and does not wait for it
    without_api.perform("takeover", &[Effect::Run(command("systemctl start asterisk"))]).unwrap();
    let unless = Effect::RunUnless { check: command("fail"), commands: vec![command("systemctl start x")] };
    assert!(without_api.perform("takeover", &[unless]).unwrap().changed());
    place.performer().recover().unwrap().unwrap();
    assert_eq!(place.tree()["api/expiry"], before["api/expiry"]);
    assert!(place.log_is_gone());
}

#[test]
fn a_log_that_cannot_be_written_stops_the_first_change() {
    let place = Place::new();
    let before = place.tree();
    fs::write(place.root.path("/var/lib/pbx-ha"), "in the way").unwrap();
    let error = place.performer().perform("configure slave", &configure_slave()).unwrap_err();
    assert!(matches!(error, PerformError::Recover(_) | PerformError::Failed { .. }), "{error}");
    fs::remove_file(place.root.path("/var/lib/pbx-ha")).unwrap();
    assert_eq!(place.tree(), before);
}

#[test]
fn a_damaged_log_is_not_guessed_at() {
    let place = Place::new();
    assert!(in_child(&place.root, "perform", 6));
    let log = transaction::log_path(&place.root);
    let mut bytes = fs::read(&log).unwrap();
    bytes[5] = b'!';
    fs::write(&log, &bytes).unwrap();
    let error = place.performer().recover().unwrap_err();
    assert!(error.to_string().contains("then remove it"), "{error}");
    assert_eq!(fs::read(&log).unwrap(), bytes);
}

#[test]
fn the_log_is_readable_by_its_owner_alone() {
    let place = Place::new();
    assert!(in_child(&place.root, "perform", 0));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let log = transaction::log_path(&place.root);
    assert_eq!((mode(&log), mode(log.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn each_command_is_on_record_before_it_runs() {
    let place = Place::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let records = Arc::clone(&seen);
    let performer =
        place.performer().on_start(move |record| records.lock().unwrap().push(record.argv.join(" ")));
    performer.perform("configure slave", &configure_slave()).unwrap();
    assert_eq!(*seen.lock().unwrap(), ["systemctl restart postgresql.service"]);
}

#[test]
#[ignore = "runs on the small disk of a_full_disk_leaves_everything_old_or_everything_new"]
fn fill_the_disk() {
    let place = || {
        let place = Place::new();
        place.file("/etc/large", &[b'x'; 20_000], 0o644);
        place
    };
    let mut list = vec![Effect::RemoveFile { path: "/etc/large".to_owned() }];
    list.extend(configure_slave());
    list.extend((0..6).map(|number| write(&format!("/etc/new/{number}"), &"y".repeat(5000))));
    let old = place().tree();
    let mut failed = 0;
    for pages in 0.. {
        let place = place();
        crate::small_disk::fill(pages * 4096);
        let done = place.performer().perform("configure slave", &list);
        crate::small_disk::make_room();
        let Err(error) = done else { break };
        failed += 1;
        // what the full disk kept from being undone is undone when there is room
        if let Some(recovered) = place.performer().recover().unwrap() {
            assert!(error.to_string().contains("not everything was undone"), "{error}, {recovered:?}");
        }
        assert_eq!(place.tree(), old, "{pages} pages: {error}");
        assert!(place.log_is_gone());
    }
    assert!(failed > 10, "the disk was never full: {failed}");
}

#[test]
fn a_full_disk_leaves_everything_old_or_everything_new() {
    crate::small_disk::run_there("effect::tests::fill_the_disk");
}

#[test]
#[ignore = "runs on the small disk of a_takeover_needs_no_disk"]
fn take_over_without_a_disk() {
    use crate::{alert, journal, writer};
    let place = Place::new();
    // telephony's own state is not on the disk that fails
    place.file("/usr/bin/systemctl", b"#!/bin/sh\necho started", 0o755);
    place.file("/usr/bin/mail", b"#!/bin/sh\ncat > /dev/null", 0o755);
    let takeover = || {
        let log = journal::Journal::open(&place.root).unwrap();
        let entry = journal::Entry::new(chrono::Utc::now(), "transition", &"S1").unwrap();
        let written = log.append_within(LONG, &entry);
        let done = place.performer().perform("takeover", &[Effect::Run(command("systemctl start asterisk"))]);
        let alerts = alert::Alerts::open(&place.root, vec!["mail".to_owned()]).unwrap();
        let sent = alerts.raise("journal", "the journal cannot be written", "");
        assert!(matches!(sent, alert::Sent::Yes), "{sent:?}");
        assert!(matches!(
            alerts.raise("journal", "the journal cannot be written", ""),
            alert::Sent::NotNeeded
        ));
        assert!(done.unwrap().changed());
        written
    };
    crate::small_disk::fill(0);
    let writer::Written::Failed(error) = takeover() else { panic!("written to a full disk") };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    crate::small_disk::make_room();
    crate::small_disk::make_read_only();
    let writer::Written::Failed(error) = takeover() else { panic!("written to a read-only disk") };
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_takeover_needs_no_disk() {
    crate::small_disk::run_there("effect::tests::take_over_without_a_disk");
}

fn unless(check: &str, commands: Vec<Command>) -> Effect {
    Effect::RunUnless { check: command(check), commands }
}

#[test]
fn commands_behind_a_question_run_only_when_it_says_no() {
    let place = Place::new();
    let list = |check| [unless(check, vec![command("systemctl one"), command("systemctl two")])];
    let done = place.performer().perform("start", &list("systemctl asked")).unwrap();
    assert_eq!(done.steps[0].outcome, Outcome::Unchanged);
    assert_eq!(place.ran(), "asked\n");
    let done = place.performer().perform("start", &list("fail")).unwrap();
    assert_eq!(done.steps[0].outcome, Outcome::Changed);
    assert_eq!(place.ran(), "asked\none\ntwo\n");
}

#[test]
fn behind_a_question_a_helper_that_fails_is_told_and_a_needed_command_ends_the_list() {
    let place = Place::new();
    let helper = Command { on_failure: OnFailure::GoOn, ..command("fail") };
    let list = [unless("fail", vec![helper, command("systemctl go")])];
    let done = place.performer().perform("start", &list).unwrap();
    assert!(matches!(&done.steps[0].outcome, Outcome::WentOn { why } if why.contains("fail")), "{done:?}");
    assert_eq!(place.ran(), "go\n");
    let before = place.tree();
    let needed = unless("fail", vec![command("fail"), command("systemctl never")]);
    place.performer().perform("start", &[write("/etc/xivo/ha.conf", "x"), needed]).unwrap_err();
    assert_eq!(place.tree(), before);
}

#[test]
fn devices_that_cannot_be_told_do_not_take_the_list_back() {
    let place = Place::new();
    let list = [write("/etc/xivo/ha.conf", "x"), Effect::SynchronizeDevices];
    let done = place.performer().perform("configure", &list).unwrap();
    assert_eq!(done.steps[1].outcome, Outcome::WentOn { why: "no devices here".to_owned() });
}

#[test]
fn variables_are_set_in_a_file_that_a_shell_reads_as_they_are() {
    let place = Place::new();
    let effects = [
        variables("/etc/asha.conf", &[("HACLUSTERIP", "2001:db8::1")]),
        variables("/etc/new", &[("A", "1")]),
    ];
    let preview = place.performer().preview(&effects);
    assert_eq!(
        preview[0].effect,
        "set in /etc/asha.conf, everything else as it is\n    | HACLUSTERIP=2001:db8::1"
    );
    assert_eq!(preview.iter().map(|line| &line.would).collect::<Vec<_>>(), [&Would::Change, &Would::Change]);
    place.performer().perform("configure", &effects).unwrap();
    assert_eq!(fs::read(place.root.path("/etc/new")).unwrap(), b"A=1\n");
    assert!(!place.performer().perform("again", &effects).unwrap().changed());
    assert!(place.performer().preview(&effects).iter().all(|line| line.would == Would::Nothing));
}

#[test]
fn a_file_in_which_variables_cannot_be_set_is_named_and_left() {
    for (content, says) in [
        (&b"A=1\nif true; then"[..], "/etc/asha.conf: line 2: if true; then: a shell would run this"),
        (b"# \xe9\n", "/etc/asha.conf: is not UTF-8 from byte 2 on"),
    ] {
        let place = Place::new();
        place.file("/etc/asha.conf", content, 0o644);
        let before = place.tree();
        let list = [write("/etc/xivo/ha.conf", "x"), variables("/etc/asha.conf", &[("A", "2")])];
        let refusal = place.performer().perform("configure", &list).unwrap_err().to_string();
        assert!(refusal.contains(says), "{refusal}");
        assert_eq!(place.tree(), before);
    }
}

mod a_real_shell {
    use super::*;
    use ha_core::shell_vars::ShellVars;
    use proptest::prelude::*;

    /// What `sh` takes the variable for that it reads in this file; `None`: it fails, or prints more than that.
    fn taken(text: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vars");
        fs::write(&file, text).unwrap();
        let out = std::process::Command::new("/bin/sh")
            .args(["-c", r#"unset KEY; . "$0"; printf '<%s>' "$KEY""#])
            .arg(&file)
            .env_clear()
            .output()
            .unwrap();
        let printed = String::from_utf8(out.stdout).ok()?;
        let clean = out.status.success() && out.stderr.is_empty();
        clean.then(|| printed.strip_prefix('<')?.strip_suffix('>').map(str::to_owned)).flatten()
    }

    fn any_line() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            3 => "[a-z0-9/.:]{0,3}",
            1 => prop_oneof![Just("'"), Just("\""), Just(" "), Just("#"), Just("\t"), Just("~"), Just("="), Just("{a,b}")]
                .prop_map(str::to_owned),
            1 => "[!-/:-@\\[-`{-~]",
        ];
        let key = prop_oneof![4 => Just("KEY="), 1 => Just("export KEY="), 1 => Just("A="), 1 => Just("#")];
        (key, proptest::collection::vec(piece, 0..6))
            .prop_map(|(key, value)| key.to_owned() + &value.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn takes_what_is_read_for_the_same(lines in proptest::collection::vec(any_line(), 1..4)) {
            let text = lines.join("\n") + "\n";
            let Ok(vars) = ShellVars::parse(&text) else { return Ok(()) };
            // the values of others are the shell's affair: whatever it makes of them must not be run here
            prop_assume!(vars.value("A").is_ok());
            if let Ok(value) = vars.value("KEY") {
                let taken = taken(&text);
                prop_assert_eq!(taken.as_deref(), Some(value.unwrap_or_default()), "{:?}", text);
            }
        }
    }
}
