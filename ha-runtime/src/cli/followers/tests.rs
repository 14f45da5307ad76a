use std::process::Command;

use clap::Parser;
use ha_adapters_wazo::Wazo;
use ha_adapters_xivo::Xivo;

use super::super::args::{Arguments, Verb};
use super::*;
use crate::report::Blame;
use crate::root::Root;

const ALL: &str = "[cc]\nmaster = \"127.0.0.21\"\nslave = \"127.0.0.22\"\n[xds]\nservers = [\"mds1\"]\n\
                   [edge]\nhost = \"127.0.0.31\"\nautomatic = false\nxivo_master = \"10.0.0.1\"\n\
                   xivo_slave = \"10.0.0.2\"\ncc_master = \"127.0.0.21\"\ncc_slave = \"127.0.0.22\"\n";

struct Node {
    directory: tempfile::TempDir,
    context: Context,
}

fn node(settings: &str) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pbx-ha.toml");
    let key = directory.path().join("key");
    std::fs::write(&file, format!("{settings}[ssh]\nkey = {key:?}\n")).unwrap();
    let context = Context::load(&Xivo, Root::new(directory.path()).unwrap(), Some(file)).unwrap();
    Node { directory, context }
}

#[test]
fn the_words_of_the_verb() {
    let parsed = |words: &str| {
        let arguments = Arguments::try_parse_from(["pbx"].into_iter().chain(words.split(' '))).ok()?;
        let Verb::Followers { what } = arguments.verb else { panic!("{words}") };
        Some(what)
    };
    assert_eq!(parsed("followers"), Some(None));
    assert_eq!(parsed("followers gate edge"), Some(Some(FollowersAction::Gate { at: Machine::Edge })));
    assert_eq!(parsed("followers key cc --json"), Some(Some(FollowersAction::Key { at: Machine::Cc })));
    assert_eq!((parsed("followers gate"), parsed("followers gate mds")), (None, None));
}

#[test]
fn a_person_reads_where_when_and_how_each_step_is_done_and_what_undoes_it() {
    let report = run(&node(ALL).context, None, false).unwrap();
    let (master, slave) = report.text.split_once("\n\n").unwrap();
    assert!(slave.contains("2. cc-restart: restart xuc on the slave's CC 127.0.0.22: "), "{slave}");
    let lines: Vec<&str> = master.lines().collect();
    assert_eq!(lines[0], "when telephony comes to the master, its daemon does:");
    let wait = [
        "1. services: wait until this node's services are ready",
        "   where  on the master",
        "   when   at once",
        "   how    asked until it holds; told when it does not after 5m",
        "   undo   nothing was done",
    ];
    assert_eq!(lines[1..6], wait);
    let restart = [
        "2. cc-restart: restart xuc on the master's CC 127.0.0.21: xivocc-dcomp restart xuc",
        "   where  on 127.0.0.21, over SSH",
        "   when   after services",
        "   how    2m an attempt; a failure is told once, and tried again until it succeeds",
        "   undo   a restart needs none; users log in to the CC of the side that serves",
    ];
    assert_eq!(lines[6..11], restart);
    assert!(master.contains("   how    by a person: an alert says"), "{master}");
    let steps = report.json["slave"].as_array().unwrap();
    let ids: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(ids, ["services", "cc-restart", "cc-answers", "mds-mds1", "edge-file", "edge-apply"]);
    let restart = json!({
        "step": "cc-restart",
        "says": "restart xuc on the slave's CC 127.0.0.22: xivocc-dcomp restart xuc",
        "host": "127.0.0.22",
        "after": ["services"],
        "automatic": true,
        "acts": true,
        "waits": false,
        "timeout_seconds": 120.0,
        "patience_seconds": 0.0,
        "undo": "a restart needs none; users log in to the CC of the side that serves",
    });
    assert_eq!(steps[1], restart);
}

#[test]
fn without_anything_beside_the_pair_it_says_what_to_set() {
    let refused = |context: &Context, what| {
        let failure = run(context, what, false).unwrap_err();
        assert_eq!(failure.blame, Blame::Usage, "{failure}");
        failure.message
    };
    let bare = node("").context;
    let gate = |at| Some(FollowersAction::Gate { at });
    assert!(
        refused(&bare, None).contains("pbx-ha.toml: nothing follows telephony: set [cc] (master, slave), ")
    );
    assert!(
        refused(&bare, gate(Machine::Cc)).contains("pbx-ha.toml: [cc] is missing: give master and slave")
    );
    assert!(refused(&bare, gate(Machine::Edge)).contains("pbx-ha.toml: edge.host is missing: give "));
    let wazo = Context::load(&Wazo, bare.root.clone(), None).unwrap();
    assert_eq!(refused(&wazo, None), "wazo has nothing beside the pair that follows");
}

#[test]
fn the_line_lets_this_nodes_key_in_from_this_nodes_address_to_the_gate_alone() {
    let node = node(ALL);
    let key = Some(FollowersAction::Key { at: Machine::Cc });
    let planned = run(&node.context, key, true).unwrap().text;
    assert!(planned.starts_with("would make "), "{planned}");
    let gate = || run(&node.context, Some(FollowersAction::Gate { at: Machine::Cc }), false).unwrap();
    assert_eq!(gate().json["authorized_keys"], Value::Null);
    assert!(!node.directory.path().join("key").exists(), "a look makes none");

    let made = run(&node.context, key, false).unwrap();
    let start = "restrict,command=\"/usr/local/sbin/pbx-ha-gate\",from=\"127.0.0.1\" ssh-rsa ";
    assert!(made.text.starts_with(start) && !made.text.contains('\n'), "{}", made.text);
    assert_eq!((&made.json["made"], &made.json["authorized_keys"]), (&json!(true), &json!(made.text)));
    assert_eq!(run(&node.context, key, false).unwrap().text, made.text, "the same key");
    assert_eq!(gate().json["authorized_keys"], made.json["authorized_keys"]);
}

#[test]
fn the_gate_of_a_cc_lets_the_restart_through_alone_and_any_shell_understands_it() {
    let node = node(ALL);
    let report = run(&node.context, Some(FollowersAction::Gate { at: Machine::Cc }), false).unwrap();
    let (_, rest) = report.text.split_once("3<<'END'\n").unwrap();
    assert_eq!(rest.split_once("\nEND\n").unwrap().0, "exec xivocc-dcomp restart xuc");
    assert!(report.text.contains("`xivo-ha followers gate cc`"), "{}", report.text);
    assert_eq!(report.json["path"], "/usr/local/sbin/pbx-ha-gate");
    assert_eq!(report.json["script"].as_str(), Some(format!("{}\n", report.text).as_str()));
    for shell in ["sh", "bash", "dash"] {
        if let Ok(parsed) = Command::new(shell).args(["-n", "-c", &report.text]).status() {
            assert!(parsed.success(), "{shell}");
        }
    }
}
