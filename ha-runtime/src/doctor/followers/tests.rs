use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use ha_adapters_wazo::Wazo;
use ha_adapters_xivo::Xivo;

use super::super::testing::{Place as Node, level};
use super::*;
use crate::ssh::tests::sshd::{Sshd, authorize, start, user};

const CC: &str = "[cc]\nmaster = \"127.0.0.1\"\nslave = \"127.0.0.2\"\n";
const EDGE: &str = "[edge]\nxivo_master = \"10.0.0.1\"\nxivo_slave = \"10.0.0.2\"\ncc_master = \"127.0.0.1\"\n\
                    cc_slave = \"127.0.0.2\"\nhost = \"127.0.0.1\"\n";
const ENV: &str = "XIVO_HOST=10.0.0.1\nXIVOCC_HOST=127.0.0.1\nTURN_ALLOWED_PEERS=10.0.0.1\nXIVO_MDS_HOST_DEFAULT=10.0.0.1\n";

fn context(node: &Node, settings: &str) -> Context {
    node.settings(settings);
    Context::load(&Xivo, node.root(), None).unwrap()
}

fn level_of(check: Option<Check>) -> Level {
    check.unwrap().level
}

/// `[ssh]` for this sshd, which is every machine beside the pair.
fn by(sshd: &Sshd) -> String {
    format!(
        "[ssh]\nuser = {:?}\nport = {}\nkey = {:?}\nknown_hosts = {:?}\n",
        user(),
        sshd.port,
        sshd.path("client"),
        sshd.path("known_hosts")
    )
}

/// Puts the gate before the client's key.
fn install(sshd: &Sshd, gate: &Gate) {
    fs::write(sshd.path("gate"), gate.script("it")).unwrap();
    fs::set_permissions(sshd.path("gate"), fs::Permissions::from_mode(0o755)).unwrap();
    admit(sshd, &format!("restrict,command=\"{}\" ", sshd.path("gate").display()));
}

fn admit(sshd: &Sshd, options: &str) {
    fs::remove_file(sshd.path("home/.ssh/authorized_keys")).unwrap();
    authorize(sshd.directory.path(), "client", options);
}

#[test]
fn a_master_that_does_not_see_the_slave_hand_back_is_told() {
    let node = Node::new();
    let found = |settings: &str, role| noticed(&context(&node, settings), role);
    let blind = format!("{CC}[probe]\nrungs = [\"host\"]\n");
    assert_eq!(found("", Role::Master), None);
    assert_eq!(level_of(found(CC, Role::Master)), Level::Ok);
    let check = found(&blind, Role::Master).unwrap();
    assert_eq!(check.level, Level::Warn);
    assert!(check.todo.unwrap().contains("rungs = [\"host\", \"service\"]"));
    assert_eq!(level_of(found(&blind, Role::Slave)), Level::Ok);
    let person = "a person makes them follow: `xivo-ha followers` says what is to be done";
    let by_hand = blind.replace("[cc]\n", "[cc]\nautomatic = false\n");
    assert_eq!(found(&by_hand, Role::Master).unwrap().finding, person);
    assert_eq!(found(&format!("preset = \"seed\"\n{CC}"), Role::Master).unwrap().finding, person);
}

#[test]
fn a_cc_behind_the_gate_is_well_and_one_with_a_shell_or_another_gate_is_told() {
    let Some(sshd) = start("") else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let answers = format!("answers = \"http://{{cc}}:{}/\"\n", server.local_addr().unwrap().port());
    let serving = std::thread::spawn(move || {
        while let Ok((mut stream, _)) = server.accept() {
            let mut buffer = [0; 4096];
            let asked = std::io::Read::read(&mut stream, &mut buffer).unwrap();
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").unwrap();
            if buffer[..asked].starts_with(b"GET /end") {
                break;
            }
        }
    });
    let node = Node::new();
    let context = context(&node, &format!("{CC}{answers}{}", by(&sshd)));
    let look = || contact_centre(&context, Side::Master, true).unwrap();
    let shell = look();
    assert_eq!(shell.level, Level::Warn, "{shell:?}");
    assert!(shell.todo.unwrap().contains("`xivo-ha followers gate cc` and `xivo-ha followers key cc`"));
    install(&sshd, &Gate::of(&context, &["127.0.0.1".parse().unwrap()]).unwrap());
    assert_eq!(look().level, Level::Ok, "{:?}", look());
    install(&sshd, &Gate::of(&context, &[]).unwrap());
    assert!(look().finding.contains("other settings or another release"), "{:?}", look());
    admit(&sshd, "restrict,command=\"cat\" ");
    assert!(look().finding.contains("starts something else on 127.0.0.1 (status 0)"), "{:?}", look());
    admit(&sshd, "restrict,command=\"exit 3\" ");
    assert!(look().finding.contains("starts something else on 127.0.0.1 (status 3)"), "{:?}", look());

    admit(&sshd, "");
    let Some(Task::Ask { url }) = asked(&context) else { panic!() };
    let _ = ureq::get(format!("{url}end")).call();
    serving.join().unwrap();
    let silent = look();
    assert_eq!(silent.level, Level::Warn);
    assert!(
        silent.finding.contains("opens a shell") && silent.finding.contains(" does not answer: "),
        "{silent:?}"
    );
}

/// How that side's contact centre is asked.
fn asked(context: &Context) -> Option<Task> {
    let steps = context.distribution.runbook(&context.settings.followers, Side::Master);
    steps.into_iter().filter_map(|step| step.check).find(|check| matches!(check, Task::Ask { .. }))
}

#[test]
fn a_cc_that_is_not_known_or_does_not_let_the_key_in_fails_with_what_helps() {
    let Some(sshd) = start("") else { return };
    let node = Node::new();
    let context = context(&node, &format!("{CC}{}", by(&sshd)));
    let look = || contact_centre(&context, Side::Master, false).unwrap();
    fs::write(sshd.path("home/.ssh/authorized_keys"), "").unwrap();
    let check = look();
    assert_eq!(check.level, Level::Fail);
    assert!(check.todo.unwrap().contains("`xivo-ha followers key cc`"));
    fs::rename(sshd.path("client"), sshd.path("away")).unwrap();
    assert!(look().todo.unwrap().contains("`xivo-ha followers key cc`"), "it makes the key: {:?}", look());
    fs::rename(sshd.path("away"), sshd.path("client")).unwrap();
    fs::write(sshd.path("known_hosts"), sshd.known_host_line("client")).unwrap();
    assert!(
        look().todo.unwrap().starts_with("find out whether 127.0.0.1 was installed anew"),
        "{:?}",
        look()
    );
    fs::write(sshd.path("known_hosts"), "").unwrap();
    assert!(look().finding.contains("`ssh-keyscan -p "), "{:?}", look());
    drop(sshd);
    let check = look();
    assert_eq!(check.level, Level::Fail);
    assert!(check.todo.unwrap().starts_with("let this node reach sshd on 127.0.0.1"));
}

#[test]
fn an_edge_must_relay_to_one_side_and_to_the_node_that_serves() {
    let Some(sshd) = start("") else { return };
    let node = Node::new();
    let file = sshd.path(".env");
    fs::write(&file, ENV).unwrap();
    let context = context(&node, &format!("{EDGE}file = {file:?}\n{}", by(&sshd)));
    let look = |side, active| edge(&context, side, active).unwrap();
    assert_eq!(look(Side::Master, true).level, Level::Warn, "it opens a shell");
    install(&sshd, &Gate::of(&context, &["127.0.0.1".parse().unwrap()]).unwrap());
    let well = look(Side::Master, true);
    assert_eq!(well.level, Level::Ok, "{well:?}");
    assert!(well.finding.ends_with("; it relays to the master"), "{well:?}");
    assert_eq!(look(Side::Slave, false).level, Level::Ok);
    let wrong = look(Side::Slave, true);
    assert_eq!(wrong.finding, "telephony is here, on the slave, and the Edge relays to the master");
    assert!(wrong.todo.unwrap().contains("`xivo-ha edge switch slave`"));

    fs::write(&file, ENV.replace("XIVO_HOST=10.0.0.1", "XIVO_HOST=10.0.0.2")).unwrap();
    let half = look(Side::Slave, false);
    assert_eq!(half.level, Level::Fail);
    assert!(
        half.finding.contains("to one side: XIVO_HOST names slave, XIVOCC_HOST names master, "),
        "{half:?}"
    );
    fs::write(&file, "SECRET=1\n").unwrap();
    assert!(
        look(Side::Slave, false).finding.contains("XIVO_HOST, XIVOCC_HOST, "),
        "{:?}",
        look(Side::Slave, false)
    );
    fs::remove_file(&file).unwrap();
    assert_eq!(look(Side::Master, true).level, Level::Fail);
}

#[test]
fn an_edge_that_a_person_switches_needs_no_key_of_ours() {
    let node = Node::new();
    let by_hand = |settings: &str| edge(&context(&node, settings), Side::Master, true).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let check = by_hand(&format!("{EDGE}automatic = false\n[ssh]\nport = {port}\n"));
    assert_eq!(check.level, Level::Warn, "{check:?}");
    assert_eq!(by_hand(&EDGE.replace("host = \"127.0.0.1\"\n", "")).level, Level::Ok);
}

#[test]
fn a_trunk_that_is_not_registered_is_named_where_telephony_is() {
    let node = Node::new();
    let registry =
        node.write("/usr/sbin/asterisk", "#!/bin/sh\necho 'mds1 Registered'; echo 'mds2 Rejected'\n");
    fs::set_permissions(registry, fs::Permissions::from_mode(0o755)).unwrap();
    let look = |servers: &str, active| {
        media_servers(&context(&node, &format!("[xds]\nservers = [{servers}]\n")), Side::Slave, active)
    };
    assert_eq!(level_of(look("\"mds1\"", true)), Level::Ok);
    let check = look("\"mds1\", \"mds2\"", true).unwrap();
    assert_eq!(check.level, Level::Warn);
    assert!(check.finding.contains("\"mds2\"") && !check.finding.contains("\"mds1\""), "{}", check.finding);
    assert!(look("\"mds2\"", false).unwrap().finding.starts_with("not checked: "));
}

#[tokio::test]
async fn only_what_is_set_is_looked_at() {
    let node = Node::new();
    assert_eq!(checks(&context(&node, ""), Role::Master, true).await, []);
    let wazo = Context::load(&Wazo, node.root(), None).unwrap();
    assert_eq!(checks(&wazo, Role::Slave, true).await, []);
    let all = format!("{CC}automatic = false\n[xds]\nservers = [\"mds1\"]\n");
    let found = checks(&context(&node, &all), Role::Slave, false).await;
    assert_eq!(found.iter().map(|check| check.id).collect::<Vec<_>>(), ["followers", "cc", "media-servers"]);
    assert_eq!(level(&found, "cc"), Level::Ok);
    assert_eq!(checks(&context(&node, &all), Role::Disabled, false).await, []);
}
