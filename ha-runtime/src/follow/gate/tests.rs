use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use ha_adapters_xivo::Xivo;
use ha_core::Distribution;

use super::*;
use crate::far::Word;
use crate::follow::carry_out;
use crate::root::Root;
use crate::ssh::Ssh;
use crate::ssh::tests::sshd::{Sshd, authorize, start, user};

const PATIENCE: Duration = Duration::from_secs(30);
const ENV: &str = "IMAGE=edge:1\nXIVO_HOST=10.0.0.1\nXIVOCC_HOST=127.0.0.1\nTURN_ALLOWED_PEERS=10.0.0.1\nXIVO_MDS_HOST_DEFAULT=10.0.0.1\n";

/// A node, and a machine that is its contact centre and its Edge, with the gate before the node's key.
struct Gated {
    sshd: Sshd,
    _directory: tempfile::TempDir,
    context: Context,
}

fn gated() -> Option<Gated> {
    let sshd = start("Subsystem sftp internal-sftp")?;
    fs::create_dir(sshd.path("it's edge")).unwrap();
    fs::write(sshd.path("it's edge/.env"), ENV).unwrap();
    program(
        &sshd.path("dcomp"),
        &format!("#!/bin/sh\necho \"$PWD $*\" >> {}\n", sshd.path("calls").display()),
    );
    let directory = tempfile::tempdir().unwrap();
    let settings = format!(
        "[cc]\nmaster = \"127.0.0.1\"\nslave = \"127.0.0.2\"\nrestart = [{dcomp:?}, \"restart\", \"xuc\"]\nanswers = \"\"\n\
         [edge]\nhost = \"127.0.0.1\"\nfile = {file:?}\napply = [{dcomp:?}, \"up\", \"-d\"]\nxivo_master = \"10.0.0.1\"\n\
         xivo_slave = \"10.0.0.2\"\ncc_master = \"127.0.0.1\"\ncc_slave = \"127.0.0.2\"\n\
         [ssh]\nuser = {user:?}\nport = {port}\nkey = {key:?}\nknown_hosts = {known:?}\n",
        dcomp = sshd.path("dcomp"),
        file = sshd.path("it's edge/.env"),
        user = user(),
        port = sshd.port,
        key = sshd.path("client"),
        known = sshd.path("known_hosts"),
    );
    let file = directory.path().join("pbx-ha.toml");
    fs::write(&file, settings).unwrap();
    let context = Context::load(&Xivo, Root::new(directory.path()).unwrap(), Some(file)).unwrap();
    let gated = Gated { sshd, _directory: directory, context };
    gated.install(&gated.gate());
    Some(gated)
}

fn program(path: &std::path::Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Gated {
    fn gate(&self) -> Gate {
        Gate::of(&self.context, &["127.0.0.1".parse().unwrap()]).unwrap()
    }

    fn install(&self, gate: &Gate) {
        program(&self.sshd.path("gate"), &format!("{}\n", gate.script("pbx-ha followers gate edge")));
        let options = format!("restrict,command=\"{}\" ", self.sshd.path("gate").display());
        self.admit(&options);
    }

    fn admit(&self, options: &str) {
        fs::remove_file(self.sshd.path("home/.ssh/authorized_keys")).unwrap();
        authorize(self.sshd.directory.path(), "client", options);
    }

    fn steps(&self, side: Side) -> Vec<Step> {
        let steps = self.context.distribution.runbook(&self.context.settings.followers, side);
        steps.into_iter().filter(|step| step.place == Place::There([127, 0, 0, 1].into())).collect()
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.sshd.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn env(&self) -> String {
        fs::read_to_string(self.sshd.path("it's edge/.env")).unwrap()
    }

    /// Asks for this line; what it wrote, and how it ended.
    fn ask(&self, line: &str) -> (Vec<u8>, Ending) {
        let ssh = Ssh::connect(&self.sshd.target(&["far"])).unwrap();
        let mut stream = ssh.open_command(Word::Agent, line.to_owned()).unwrap();
        stream.close_input().unwrap();
        let mut output = Vec::new();
        stream.read_to_end(&mut output).unwrap();
        (output, stream.into_parts().1.wait(PATIENCE).unwrap())
    }

    fn look(&self, gate: &Gate) -> Door {
        gate.look(&self.sshd.target(&["far"]), PATIENCE).unwrap()
    }
}

#[test]
fn every_step_of_the_runbook_goes_through_the_gate() {
    let Some(gated) = gated() else { return };
    for side in [Side::Slave, Side::Master] {
        let steps = gated.steps(side);
        let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
        let of_side: &[&str] = if side == Side::Master { &["cc-restart"] } else { &[] };
        assert_eq!(ids, [of_side, &["edge-file", "edge-apply"]].concat());
        for step in &steps {
            carry_out(&gated.context, step.place, step.act.as_ref().unwrap(), PATIENCE)
                .unwrap_or_else(|error| panic!("{}: {error}", step.id));
        }
        let address = if side == Side::Slave { "XIVO_HOST=10.0.0.2\n" } else { "XIVO_HOST=10.0.0.1\n" };
        assert!(gated.env().contains(address), "{}", gated.env());
    }
    assert_eq!(gated.env(), ENV, "there and back");
    let edge = gated.sshd.path("it's edge");
    let home = gated.calls()[1].split(' ').next().unwrap().to_owned();
    let up = format!("{} up -d", edge.display());
    assert_eq!(gated.calls(), [up.clone(), format!("{home} restart xuc"), up]);
}

#[test]
fn nothing_else_goes_through_the_gate() {
    let Some(gated) = gated() else { return };
    let gate = gated.gate();
    let [restart, cat, replace, apply] = gate.lines.as_slice() else { panic!("{gate:?}") };
    let mut hostile: Vec<String> = [
        "id",
        "sh",
        "sh -i",
        "bash -c id",
        "cat /etc/passwd",
        "exec cat -- /etc/passwd",
        "internal-sftp",
        "/usr/lib/openssh/sftp-server",
        "scp -t /root/.ssh/authorized_keys",
        "exec",
        "*",
        "?",
        "[a-z]*",
        "$line",
        "END",
        "$(id)",
        "`id`",
        "!",
        "-n",
        "(",
        "=",
        "\\",
        "exec true || exec id",
    ]
    .map(str::to_owned)
    .to_vec();
    for line in [restart, cat, replace, apply] {
        hostile.extend([
            format!("{line} "),
            format!(" {line}"),
            format!("{line} x"),
            format!("{line}; id"),
            format!("{line}\nid"),
            format!("{line}\n"),
            format!("id\n{line}"),
            format!("{line} $(id)"),
            format!("{line} && id"),
            format!("{line} | id"),
            format!("{line} > {}", gated.sshd.path("calls").display()),
            format!("{line}\\"),
            line.replacen("exec ", "exec  ", 1),
            line.to_uppercase(),
            line[..line.len() - 1].to_owned(),
        ]);
    }
    hostile.push(cat.replace(".env", "*"));
    hostile.push(cat.replace(".env", "../client"));
    hostile.push(replace.replace("XIVO_HOST|", "IMAGE|XIVO_HOST|"));
    hostile.push(replace.replace(".env'", "calls'"));
    hostile.push(apply.replace("edge", "."));
    hostile.push([cat.as_str(), restart].join("\n"));
    for line in &hostile {
        let (output, ending) = gated.ask(line);
        assert_eq!((output, &ending.exit), (Vec::new(), &Exit::Code(REFUSED)), "{line}");
        assert!(ending.stderr.starts_with(&format!("{}: ", gate.refusal())), "{line}: {}", ending.stderr);
        assert_eq!(ending.stderr.lines().count(), 1, "{line}: {}", ending.stderr);
    }
    assert_eq!((gated.env().as_str(), gated.calls()), (ENV, vec![]));
    let (output, ending) = gated.ask(cat);
    assert_eq!((output, ending.is_success()), (ENV.as_bytes().to_vec(), true), "the gate was there");
}

#[test]
fn no_shell_no_terminal_no_files_and_no_ports_are_behind_the_gate() {
    let Some(gated) = gated() else { return };
    let session = gated.sshd.session();
    let mut shell = session.channel_session().unwrap();
    assert!(shell.request_pty("xterm", None, None).is_err());
    let mut shell = session.channel_session().unwrap();
    shell.shell().unwrap();
    assert_eq!(said(&mut shell), (String::new(), REFUSED));
    let mut sftp = session.channel_session().unwrap();
    sftp.subsystem("sftp").unwrap();
    assert_eq!(said(&mut sftp), (String::new(), REFUSED));
    assert!(session.channel_direct_tcpip("127.0.0.1", gated.sshd.port, None).is_err());
    assert_eq!((gated.env().as_str(), gated.calls()), (ENV, vec![]));
}

fn said(channel: &mut ssh2::Channel) -> (String, i32) {
    let mut output = String::new();
    channel.send_eof().unwrap();
    channel.read_to_string(&mut output).unwrap();
    channel.close().unwrap();
    channel.wait_close().unwrap();
    (output, channel.exit_status().unwrap())
}

#[test]
fn who_may_replace_the_file_may_not_choose_the_edges_containers() {
    let Some(gated) = gated() else { return };
    let (file, names) = {
        let edge = gated.context.settings.followers.edge.as_ref().unwrap();
        let place = Place::There([127, 0, 0, 1].into());
        (place::text_file(&gated.context, place, &edge.file).unwrap(), Xivo.edge(edge).unwrap())
    };
    let evil = ENV.replace("edge:1", "evil:1");
    let deadline = std::time::Instant::now() + PATIENCE;
    let refused = file.replace(&names, ENV, &evil, deadline, &|| true).unwrap_err().to_string();
    assert!(refused.contains("only addresses in XIVO_HOST|XIVOCC_HOST|"), "{refused}");
    assert_eq!(gated.env(), ENV);
}

#[test]
fn what_the_key_opens_is_told_without_doing_anything() {
    let Some(gated) = gated() else { return };
    let gate = gated.gate();
    assert_eq!(gated.look(&gate), Door::Gate);
    let other = Gate { lines: vec!["exec xivocc-dcomp restart xuc".to_owned()] };
    assert_eq!(gated.look(&other), Door::OtherGate);
    gated.admit("");
    assert_eq!(gated.look(&gate), Door::Shell);
    gated.admit("restrict,command=\"echo busy >&2; exit 126\" ");
    assert!(matches!(gated.look(&gate), Door::Unknown(ending) if ending.stderr == "busy\n"));
    assert_eq!(gated.calls(), Vec::<String>::new());
}

#[test]
fn a_machine_that_is_a_cc_and_the_edge_has_one_gate_whatever_it_was_made_for() {
    let of = |lines: &[&str]| Gate { lines: lines.iter().map(ToString::to_string).collect() }.refusal();
    assert_eq!(of(&["exec restart", "exec cat"]), of(&["exec cat", "exec restart"]));
    assert_ne!(of(&["exec restart"]), of(&["exec cat"]));
}

#[test]
fn machines_that_have_nothing_to_do_let_nothing_through() {
    let Some(gated) = gated() else { return };
    let none = Gate::of(&gated.context, &["192.0.2.1".parse().unwrap()]).unwrap();
    assert_eq!(none.lines, Vec::<String>::new());
    gated.install(&none);
    for line in ["", " ", "true"] {
        assert_eq!(gated.ask(line).1.exit, Exit::Code(REFUSED), "{line:?}");
    }
}
