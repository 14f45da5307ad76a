use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clap::Parser;
use ha_adapters_wazo::Wazo;
use ha_adapters_xivo::Xivo;

use super::super::args::{Arguments, Verb};
use super::*;
use crate::report::Blame;
use crate::root::Root;
use crate::ssh::tests::sshd::{Sshd, start, user};

const ADDRESSES: &str = "[edge]\nxivo_master = \"10.0.0.1\"\nxivo_slave = \"10.0.0.2\"\n\
                         cc_master = \"10.0.0.21\"\ncc_slave = \"10.0.0.22\"\n";
const MASTER: &str = "PASSWORD=10.0.0.1\nXIVO_HOST=10.0.0.1\nXIVOCC_HOST=10.0.0.21\n\
                      TURN_ALLOWED_PEERS=10.0.0.1,10.0.0.9\nXIVO_MDS_HOST_DEFAULT=10.0.0.1\n";
const SLAVE: &str = "PASSWORD=10.0.0.1\nXIVO_HOST=10.0.0.2\nXIVOCC_HOST=10.0.0.22\n\
                     TURN_ALLOWED_PEERS=10.0.0.2,10.0.0.9\nXIVO_MDS_HOST_DEFAULT=10.0.0.2\n";
const HALF: &str = "PASSWORD=10.0.0.1\nXIVO_HOST=10.0.0.1\nXIVOCC_HOST=10.0.0.22\n\
                    TURN_ALLOWED_PEERS=10.0.0.2,10.0.0.9\nXIVO_MDS_HOST_DEFAULT=10.0.0.2\n";

struct Node {
    directory: tempfile::TempDir,
    context: Context,
}

impl Node {
    fn new(settings: &str) -> Node {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pbx-ha.toml");
        fs::write(&file, settings).unwrap();
        let root = Root::new(directory.path()).unwrap();
        let context = Context::load(&Xivo, root, Some(file)).unwrap();
        Node { directory, context }
    }

    fn file(&self, text: &str) -> PathBuf {
        let file = self.directory.path().join(".env");
        fs::write(&file, text).unwrap();
        file
    }

    fn ask(&self, action: EdgeAction, file: Option<&PathBuf>, dry_run: bool) -> Verdict {
        run(&self.context, &EdgeArguments { action, file: file.cloned() }, dry_run)
    }
}

const TO_SLAVE: EdgeAction = EdgeAction::Switch { to: To::Slave };

#[test]
fn the_file_may_be_named_before_and_behind_what_is_done_with_it() {
    for words in ["edge --file F switch slave --dry-run", "--dry-run edge switch slave --file F"] {
        let arguments = Arguments::try_parse_from(["pbx"].into_iter().chain(words.split(' '))).unwrap();
        let Verb::Edge(edge) = arguments.verb else { panic!("{words}") };
        assert_eq!((edge.action, edge.file, arguments.dry_run), (TO_SLAVE, Some("F".into()), true));
    }
    for words in ["edge", "edge switch", "edge switch both"] {
        assert!(Arguments::try_parse_from(["pbx"].into_iter().chain(words.split(' '))).is_err(), "{words}");
    }
}

#[test]
fn a_file_here_is_switched_without_an_edge_to_apply_it() {
    let node = Node::new(ADDRESSES);
    let file = node.file(MASTER);
    let report = node.ask(TO_SLAVE, Some(&file), false).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), SLAVE);
    let name = fs::canonicalize(&file).unwrap().display().to_string();
    let text = format!(
        "{name} points at the slave now\n- XIVO_HOST=10.0.0.1\n+ XIVO_HOST=10.0.0.2\n- XIVOCC_HOST=10.0.0.21\n\
         + XIVOCC_HOST=10.0.0.22\n- TURN_ALLOWED_PEERS=10.0.0.1,10.0.0.9\n+ TURN_ALLOWED_PEERS=10.0.0.2,10.0.0.9\n\
         - XIVO_MDS_HOST_DEFAULT=10.0.0.1\n+ XIVO_MDS_HOST_DEFAULT=10.0.0.2"
    );
    assert_eq!(report.text, text);
    assert_eq!((report.exit, &report.json["applied"]), (0, &json!(false)));
    let again = node.ask(TO_SLAVE, Some(&file), false).unwrap();
    assert_eq!(again.text, format!("nothing to do: {name} points at the slave already"));
    assert_eq!(again.json["changed"], json!([]));
}

#[test]
fn a_dry_run_shows_the_variables_that_differ_and_changes_nothing() {
    let node = Node::new(ADDRESSES);
    let file = node.file(HALF);
    let report = node.ask(TO_SLAVE, Some(&file), true).unwrap();
    let lines: Vec<&str> = report.text.lines().skip(1).collect();
    assert_eq!(lines, ["- XIVO_HOST=10.0.0.1", "+ XIVO_HOST=10.0.0.2"]);
    assert_eq!(
        report.json["changed"],
        json!([{ "name": "XIVO_HOST", "from": "10.0.0.1", "to": "10.0.0.2" }])
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), HALF);
}

#[test]
fn a_look_says_which_side_each_variable_names() {
    let node = Node::new(ADDRESSES);
    let good = node.ask(EdgeAction::Status, Some(&node.file(SLAVE)), false).unwrap();
    assert_eq!((good.exit, &good.json["side"]), (0, &json!("slave")));
    let half = node.ask(EdgeAction::Status, Some(&node.file(HALF)), false).unwrap();
    assert_eq!((half.exit, &half.json["side"]), (1, &Value::Null));
    let lines: Vec<&str> = half.text.lines().collect();
    assert_eq!(lines[0], "XIVO_HOST              10.0.0.1           master");
    assert_eq!(lines[1], "XIVOCC_HOST            10.0.0.22          slave");
    assert!(
        lines[4].ends_with("does not point at one side: `edge switch` mends it, or says what is wrong"),
        "{}",
        half.text
    );
}

#[test]
fn one_endless_value_does_not_widen_every_line() {
    let node = Node::new(ADDRESSES);
    let many = format!("{MASTER}XIVO_HOST={}\n{}", "x".repeat(20_000), "XIVO_HOST=10.0.0.1\n".repeat(1000));
    let look = node.ask(EdgeAction::Status, Some(&node.file(&many)), false).unwrap();
    assert!(look.text.len() < 200_000, "{} bytes", look.text.len());
}

#[test]
fn what_cannot_be_done_is_bad_input_with_what_would_be_right() {
    let node = Node::new(ADDRESSES);
    let file = node.file(&MASTER.replace("XIVO_HOST=10.0.0.1", "XIVO_HOST=pbx"));
    let refused = |node: &Node, file: Option<&PathBuf>| {
        let failure = node.ask(TO_SLAVE, file, false).unwrap_err();
        assert_eq!(failure.blame, Blame::Usage, "{failure}");
        failure.message
    };
    assert!(refused(&node, Some(&file)).contains("XIVO_HOST=\"pbx\" names neither side: right is 10.0.0.1"));
    assert!(refused(&node, Some(&"/nonexistent/.env".into())).starts_with("--file /nonexistent/.env: "));
    let directory = file.parent().unwrap().to_owned();
    assert!(refused(&node, Some(&directory)).ends_with(": is not a file: give the Edge's, as .env"));
    assert!(refused(&node, None).contains("pbx-ha.toml: edge.host is missing: "));
    assert!(refused(&Node::new(""), Some(&file)).contains("pbx-ha.toml: [edge] is missing: "));
    let wazo = Context::load(&Wazo, node.context.root.clone(), None).unwrap();
    let arguments = EdgeArguments { action: EdgeAction::Status, file: Some(file) };
    assert_eq!(run(&wazo, &arguments, false).unwrap_err(), Failure::usage("wazo has no Edge"));
}

/// A node whose Edge is behind this sshd; its `edge-dcomp` notes where and how it was called.
fn beside(sshd: &Sshd) -> (Node, PathBuf) {
    let stack = sshd.path("edge");
    fs::create_dir(&stack).unwrap();
    fs::write(stack.join(".env"), MASTER).unwrap();
    let program = sshd.path("edge-dcomp");
    fs::write(
        &program,
        "#!/bin/sh\necho \"$PWD $*\" >> calls\ntest ! -e broken || { echo 'no daemon' >&2; exit 1; }\n",
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = format!(
        "{ADDRESSES}host = \"127.0.0.1\"\nfile = {:?}\napply = [{program:?}, \"up\", \"-d\"]\n\
         [ssh]\nuser = {:?}\nport = {}\nkey = {:?}\nknown_hosts = {:?}\n",
        stack.join(".env"),
        user(),
        sshd.port,
        sshd.path("client"),
        sshd.path("known_hosts"),
    );
    (Node::new(&settings), stack)
}

#[test]
fn an_edge_is_switched_and_applied_even_when_only_the_applying_is_left() {
    let Some(sshd) = start("") else { return };
    let (node, stack) = beside(&sshd);
    let calls = || fs::read_to_string(stack.join("calls")).unwrap_or_default().lines().count();
    let shown = node.ask(TO_SLAVE, None, true).unwrap();
    assert!(shown.text.ends_with(&format!("up -d` in {} on 127.0.0.1", stack.display())), "{}", shown.text);
    assert_eq!((calls(), fs::read_to_string(stack.join(".env")).unwrap().as_str()), (0, MASTER));

    fs::write(stack.join("broken"), "").unwrap();
    let failure = node.ask(TO_SLAVE, None, false).unwrap_err();
    assert_eq!(failure.blame, Blame::Environment);
    assert!(
        failure.message.contains("but it is not in force yet: ") && failure.message.contains("no daemon")
    );
    assert_eq!((calls(), fs::read_to_string(stack.join(".env")).unwrap().as_str()), (1, SLAVE));

    fs::remove_file(stack.join("broken")).unwrap();
    let again = node.ask(TO_SLAVE, None, false).unwrap();
    assert!(again.text.starts_with("nothing to do: ") && again.text.contains("\nran `"), "{}", again.text);
    assert_eq!((calls(), &again.json["applied"]), (2, &json!(true)));
    let call = fs::read_to_string(stack.join("calls")).unwrap();
    assert_eq!(call.lines().next().unwrap(), format!("{} up -d", stack.display()));
    assert_eq!(node.ask(EdgeAction::Status, None, false).unwrap().json["side"], "slave");
}
