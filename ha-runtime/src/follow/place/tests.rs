use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use ha_adapters_wazo::Wazo;
use ha_adapters_xivo::Xivo;
use ha_core::Distribution;
use ha_core::follow::{Edge, Sides};

use super::*;
use crate::root::Root;
use crate::ssh::tests::sshd::{Sshd, start, user};

const LONG: Duration = Duration::from_secs(30);
const THERE: Place = Place::There(IpAddr::V4(Ipv4Addr::LOCALHOST));
const MASTER: &str = "# secret below\nXIVO_HOST=10.0.0.1\r\nXIVOCC_HOST=10.0.0.21\nSECRET='10.0.0.1'\n\
                      TURN_ALLOWED_PEERS=10.0.0.1\nXIVO_MDS_HOST_DEFAULT=10.0.0.1";

fn slave() -> String {
    MASTER.replace("_HOST=10.0.0.1", "_HOST=10.0.0.2").replace("10.0.0.21", "10.0.0.22").replace(
        "TURN_ALLOWED_PEERS=10.0.0.1\nXIVO_MDS_HOST_DEFAULT=10.0.0.1",
        "TURN_ALLOWED_PEERS=10.0.0.2\nXIVO_MDS_HOST_DEFAULT=10.0.0.2",
    )
}

fn sides(master: &str, slave: &str) -> Sides<IpAddr> {
    Sides { master: master.parse().unwrap(), slave: slave.parse().unwrap() }
}

fn names() -> EnvFile {
    let edge = Edge {
        automatic: true,
        host: None,
        file: String::new(),
        apply: Vec::new(),
        xivo: sides("10.0.0.1", "10.0.0.2"),
        cc: sides("10.0.0.21", "10.0.0.22"),
    };
    Xivo.edge(&edge).unwrap()
}

fn point_to(path: impl Into<PathBuf>, to: Side) -> Task {
    Task::Point { path: path.into().display().to_string(), names: names(), to }
}

fn run(argv: &[&str], directory: Option<&str>, output: Wanted) -> Task {
    let argv = argv.iter().map(ToString::to_string).collect();
    Task::Run { argv, directory: directory.map(str::to_owned), output }
}

/// A node below a directory of its own, which reaches other machines through this sshd.
fn node(sshd: Option<&Sshd>) -> (tempfile::TempDir, Context) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("etc/pbx-ha")).unwrap();
    fs::create_dir_all(directory.path().join("usr/bin")).unwrap();
    if let Some(sshd) = sshd {
        let text = format!(
            "[ssh]\nuser = {:?}\nport = {}\nkey = {:?}\nknown_hosts = {:?}\n",
            user(),
            sshd.port,
            sshd.path("client"),
            sshd.path("known_hosts"),
        );
        fs::write(directory.path().join("etc/pbx-ha/pbx-ha.toml"), text).unwrap();
    }
    let context = Context::load(&Wazo, Root::new(directory.path()).unwrap(), None).unwrap();
    (directory, context)
}

fn program(directory: &tempfile::TempDir, name: &str, script: &str) {
    let path = directory.path().join("usr/bin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A file behind a link, with a mode of its own.
fn linked_file(directory: &std::path::Path) -> (PathBuf, PathBuf) {
    let (file, link) = (directory.join("real.env"), directory.join("a link's name"));
    fs::write(&file, MASTER).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    symlink("real.env", &link).unwrap();
    (file, link)
}

fn assert_pointed_once(context: &Context, place: Place, path: impl Into<PathBuf>, file: &PathBuf) {
    let task = point_to(path, Side::Slave);
    let before = fs::read_dir(file.parent().unwrap()).unwrap().count();
    assert_eq!(carry_out(context, place, &task, LONG).unwrap(), Outcome::Pointed { changed: true });
    assert_eq!(fs::read_to_string(file).unwrap(), slave());
    let meta = fs::metadata(file).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o604);
    assert_eq!(carry_out(context, place, &task, LONG).unwrap(), Outcome::Pointed { changed: false });
    let again = fs::symlink_metadata(file).unwrap();
    assert_eq!((again.ino(), again.mtime_nsec()), (meta.ino(), meta.mtime_nsec()), "nothing is written");
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), before, "a temporary file was left");
}

#[test]
fn a_file_here_is_pointed_once_and_keeps_its_mode_and_its_link() {
    let (directory, context) = node(None);
    let (file, link) = linked_file(&directory.path().join("etc"));
    assert_pointed_once(&context, Place::Here, "/etc/a link's name", &file);
    assert!(link.is_symlink());
}

#[test]
fn a_file_there_is_pointed_once_and_keeps_its_mode_and_its_link() {
    let Some(sshd) = start("") else { return };
    let (_directory, context) = node(Some(&sshd));
    fs::create_dir(sshd.path("edge")).unwrap();
    let (file, link) = linked_file(&sshd.path("edge"));
    assert_pointed_once(&context, THERE, &link, &file);
    assert!(link.is_symlink());
}

#[test]
fn a_file_that_names_neither_side_or_is_not_there_is_left_and_named() {
    let Some(sshd) = start("") else { return };
    let (directory, context) = node(Some(&sshd));
    let bad = MASTER.replace("_HOST=10.0.0.1\r", "_HOST=10.0.0.9\r");
    fs::write(directory.path().join(".env"), &bad).unwrap();
    fs::write(sshd.path(".env"), &bad).unwrap();
    for (place, file) in [(Place::Here, PathBuf::from("/.env")), (THERE, sshd.path(".env"))] {
        let error = carry_out(&context, place, &point_to(&file, Side::Slave), LONG).unwrap_err().to_string();
        assert!(error.contains("XIVO_HOST=\"10.0.0.9\" names neither side"), "{error}");
    }
    assert_eq!(fs::read_to_string(sshd.path(".env")).unwrap(), bad);
    let none = sshd.path("none");
    let error = carry_out(&context, THERE, &point_to(&none, Side::Slave), LONG).unwrap_err().to_string();
    let start = format!("{} on 127.0.0.1: status 1: cat: ", none.display());
    assert!(error.starts_with(&start), "{error}");
}

#[test]
fn what_somebody_else_wrote_meanwhile_is_kept() {
    let Some(sshd) = start("") else { return };
    let (directory, context) = node(Some(&sshd));
    fs::write(directory.path().join(".env"), "theirs").unwrap();
    fs::write(sshd.path("edge.env"), "theirs").unwrap();
    for (place, path) in [(Place::Here, "/.env".into()), (THERE, sshd.path("edge.env"))] {
        let file = text_file(&context, place, &path.display().to_string()).unwrap();
        let error = file
            .replace(&names(), "what was read", "ours", Instant::now() + LONG, &|| true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("somebody changed it meanwhile"), "{error}");
        assert_eq!(file.read(Instant::now() + LONG).unwrap(), "theirs");
    }
    assert_eq!(fs::read_dir(sshd.directory.path()).unwrap().filter(is_temporary).count(), 0);
    assert_eq!(fs::read_dir(directory.path()).unwrap().filter(is_temporary).count(), 0);
}

#[test]
fn a_file_is_not_pointed_when_telephony_moves_on_while_the_machine_is_being_reached() {
    let Some(sshd) = start("") else { return };
    let (directory, context) = node(Some(&sshd));
    for (place, task, file, questions) in [
        (Place::Here, point_to("/.env", Side::Slave), directory.path().join(".env"), 2),
        (THERE, point_to(sshd.path("edge.env"), Side::Slave), sshd.path("edge.env"), 2),
    ] {
        fs::write(&file, MASTER).unwrap();
        let pointed = |times: usize| {
            let asked = Cell::new(0);
            let still_wanted = || asked.replace(asked.get() + 1) < times;
            carry_out_while(&context, place, &task, LONG, &still_wanted)
        };
        for times in 0..questions {
            let refused = pointed(times).unwrap_err();
            assert!(matches!(refused, TaskError::Stale), "{times}: {refused}");
            assert_eq!(fs::read_to_string(&file).unwrap(), MASTER, "{times}");
        }
        assert_eq!(pointed(questions).unwrap(), Outcome::Pointed { changed: true });
    }
    assert_eq!(fs::read_dir(sshd.directory.path()).unwrap().filter(is_temporary).count(), 0);
    assert_eq!(fs::read_dir(directory.path()).unwrap().filter(is_temporary).count(), 0);
}

fn is_temporary(entry: &std::io::Result<fs::DirEntry>) -> bool {
    let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
    name.starts_with("edge.env.") || name.starts_with(".pbx-ha.")
}

#[test]
fn a_command_here_runs_below_the_root_and_its_output_is_looked_at() {
    let (directory, context) = node(None);
    program(&directory, "registry", "echo 'mds1  Registered'; echo 'mds2  Unregistered'");
    let wanted = |name: &str| Wanted::LineWith(vec![name.to_owned(), "Registered".to_owned()]);
    let here = |task| carry_out(&context, Place::Here, &task, LONG);
    assert!(matches!(here(run(&["registry"], None, wanted("mds1"))), Ok(Outcome::Ran(_))));
    let error = here(run(&["registry"], None, wanted("mds2"))).unwrap_err().to_string();
    assert_eq!(error, "registry: no line of its output has the words \"mds2\" and \"Registered\"");
    assert!(matches!(here(run(&["nobody"], None, Wanted::Anything)), Err(TaskError::Command(_))));
}

#[test]
fn a_command_there_runs_in_its_directory_and_its_failure_is_told() {
    let Some(sshd) = start("") else { return };
    let (_directory, context) = node(Some(&sshd));
    let there = |task| carry_out(&context, THERE, &task, LONG);
    let line = Wanted::LineWith(vec!["bin".to_owned()]);
    assert_eq!(there(run(&["pwd"], Some("/usr/bin"), line)).unwrap(), Outcome::Ran("/usr/bin\n".to_owned()));
    let script = "echo 'no such service: xuc' >&2; exit 4";
    let error = there(run(&["sh", "-c", script], None, Wanted::Anything)).unwrap_err().to_string();
    assert_eq!(error, format!("sh -c {script} on 127.0.0.1: status 4: no such service: xuc"));
    let error = there(run(&["/nonexistent/dcomp"], None, Wanted::Anything)).unwrap_err().to_string();
    assert!(
        error.contains("status 127: ") && error.ends_with("name it with its path in the settings"),
        "{error}"
    );
}

#[test]
fn whoever_answers_with_any_status_answers() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 503 Starting\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let (_directory, context) = node(None);
    let task = Task::Ask { url: url.clone() };
    assert_eq!(carry_out(&context, Place::Here, &task, LONG).unwrap(), Outcome::Answered(503));
    asked.join().unwrap();
    let error = carry_out(&context, THERE, &task, LONG).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{url} does not answer: ")), "{error}");
}
