//! Both ends over a line: what comes of it, also when it is cut or an end is killed.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread;

use ha_core::carry::{Carried, FileState, Files};
use ha_core::replication::manifest::Digest;
use ha_core::replication::path::RelPath;
use ha_core::replication::wire::{ErrorKind, Frame};
use ha_core::voicemail::Spool;

use super::*;
use crate::sync::{Link, SyncError, TreeError};

/// The node that serves.
struct Serving {
    holdings: Vec<Holding>,
    state: PathBuf,
    /// How many steps it goes on serving.
    steps: std::cell::Cell<usize>,
}

impl Serving {
    fn of(pair: &Pair, carried: Carried) -> Serving {
        let tree =
            Tree::new(&pair.theirs.root(), "/vm", Filter::new(&["default"], &["default/secret"]).unwrap());
        let holdings = vec![Holding { tree: tree.unwrap(), carried }];
        Serving { holdings, state: pair.theirs.dir.join("state"), steps: usize::MAX.into() }
    }
}

impl TakingHost for Serving {
    fn holdings(&self) -> &[Holding] {
        &self.holdings
    }
    fn directory(&self, _: &Tree) -> PathBuf {
        self.state.clone()
    }
    fn way(&self) -> LockWay {
        LockWay::LockFile
    }
    fn still(&self, tree: &Tree) -> Result<Tree, TreeError> {
        Ok(tree.clone())
    }
    fn serves(&self) -> Result<(), String> {
        let left = self.steps.get().checked_sub(1).ok_or("guard \"passive\"")?;
        self.steps.set(left);
        Ok(())
    }
}

fn serve(stream: UnixStream, host: &Serving) -> Result<(Option<Frame>, usize), SyncError> {
    let (mut link, mut placed) = (Link::new(stream), 0);
    let next = match link.asked()? {
        Some(first) => take(&mut link, first, host, &mut placed)?,
        None => None,
    };
    Ok((next, placed))
}

fn offers(pair: &Pair, stream: UnixStream) -> Result<Given, CarryError> {
    give(&mut Link::new(stream), &pair.mine.tree(), &pair.mine.scan(), None, &mut pair.mine.aside())
}

/// The whole conversation; what both ends say of it.
fn carry(pair: &Pair, host: &Serving) -> (Result<Given, CarryError>, usize) {
    let (mine, theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let given = scope.spawn(|| offers(pair, mine));
        let (next, placed) = serve(theirs, host).unwrap();
        assert_eq!(next, None);
        (given.join().unwrap(), placed)
    })
}

#[test]
fn what_the_returning_node_holds_newer_goes_over_a_line_once() {
    let pair = Pair::parted();
    let host = Serving::of(&pair, Carried::Messages);
    let (given, placed) = carry(&pair, &host);
    assert_eq!(given.unwrap(), Given { carried: 4, aside: 2 });
    assert_eq!(placed, 3, "two messages came, one was moved");
    assert_eq!(pair.theirs.heard(), Pair::carried());
    assert_eq!(fs::read_to_string(pair.theirs.path("601/unavail.wav")).unwrap(), "my greeting");
    let lines = pair.mine.aside().lines().unwrap();
    assert_eq!(lines.len(), 2);
    let (given, placed) = carry(&pair, &host);
    assert_eq!((given.unwrap(), placed), (Given { carried: 0, aside: 2 }, 0));
    assert_eq!((pair.theirs.heard(), pair.mine.aside().lines().unwrap()), (Pair::carried(), lines));
}

#[test]
fn greetings_come_where_there_are_none_and_nothing_of_other_trees_comes() {
    for (carried, expected) in [(Carried::NewFiles, 1), (Carried::Nothing, 0)] {
        let pair = Pair::new();
        pair.mine.write("greetings/new.wav", "new");
        pair.mine.write("greetings/both.wav", "mine");
        pair.theirs.write("greetings/both.wav", "theirs");
        let host = Serving::of(&pair, carried);
        let (given, _) = carry(&pair, &host);
        assert_eq!(given.unwrap(), Given { carried: expected, aside: 2 - expected }, "{carried:?}");
        assert_eq!(pair.theirs.path("greetings/new.wav").exists(), expected == 1);
        assert_eq!(fs::read_to_string(pair.theirs.path("greetings/both.wav")).unwrap(), "theirs");
        let aside = pair.mine.aside().lines().unwrap();
        assert!(aside.iter().any(|line| line.path.to_string() == "default/greetings/both.wav"), "{aside:?}");
    }
}

/// A line that is cut after so many bytes of the returning node's.
fn cut_after(bytes: u64, mine: UnixStream, theirs: UnixStream) {
    let back = (theirs.try_clone().unwrap(), mine.try_clone().unwrap());
    let answers = thread::spawn(move || {
        let _ = io::copy(&mut &back.0, &mut &back.1);
    });
    let _ = io::copy(&mut (&mine).take(bytes), &mut &theirs);
    // what was on the way arrives
    let _ = theirs.shutdown(Shutdown::Write);
    answers.join().unwrap();
    let _ = mine.shutdown(Shutdown::Both);
}

#[test]
fn cut_anywhere_and_begun_again_no_message_is_lost_or_doubled() {
    let (mut bytes, mut cuts) = (0, 0);
    loop {
        let pair = Pair::parted();
        let host = Serving::of(&pair, Carried::Messages);
        let ((mine, near), (far, theirs)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let given = thread::scope(|scope| {
            scope.spawn(|| cut_after(bytes, near, far));
            let given = scope.spawn(|| offers(&pair, mine));
            let _ = serve(theirs, &host);
            given.join().unwrap()
        });
        let heard = pair.theirs.heard();
        for said in [10, 11, 30] {
            assert_eq!(
                heard.values().filter(|other| **other == said).count(),
                1,
                "cut at {bytes}: {heard:?}"
            );
        }
        let whole = given.is_ok();
        carry(&pair, &host).0.unwrap();
        assert_eq!(pair.theirs.heard(), Pair::carried(), "cut at {bytes}");
        assert_eq!(pair.mine.aside().lines().unwrap().len(), 2, "cut at {bytes}");
        if whole {
            break;
        }
        // every frame of a content, and some places in the list
        (bytes, cuts) = (bytes + if bytes < 2000 { 199 } else { 17 }, cuts + 1);
    }
    assert!(cuts > 20, "only {cuts}");
}

const END: &str = "PBX_HA_TEST_CARRY_END";
const SOCKET: &str = "PBX_HA_TEST_CARRY_SOCKET";

/// Not a test of its own: the end that is killed.
#[test]
#[ignore = "it is started by other tests"]
fn one_end() {
    let Some(dir) = std::env::var_os(kill::DIRECTORY) else { return };
    let pair = Pair::at(Path::new(&dir));
    let stream = UnixStream::connect(std::env::var_os(SOCKET).unwrap()).unwrap();
    match std::env::var(END).unwrap().as_str() {
        "mine" => drop(offers(&pair, stream).unwrap()),
        _ => drop(serve(stream, &Serving::of(&pair, Carried::Messages)).unwrap()),
    }
}

/// Runs one end as a process that is killed after so many points, the other one here. Whether it came to its end.
fn run(pair: &Pair, end: &str, points: usize) -> bool {
    let socket = pair.mine.dir.parent().unwrap().join("socket");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "carry::tests::conversation::one_end", "--ignored"])
        .env(kill::DIRECTORY, pair._dir.as_ref().unwrap().path())
        .env(kill::POINTS, points.to_string())
        .env(END, end)
        .env(SOCKET, &socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    match end {
        "mine" => drop(serve(stream, &Serving::of(pair, Carried::Messages))),
        _ => drop(offers(pair, stream)),
    }
    child.wait().unwrap().success()
}

fn killed_everywhere(end: &str, least: usize) {
    let mut deaths = 0;
    loop {
        let pair = Pair::parted();
        let whole = run(&pair, end, deaths);
        let rests =
            files(&pair.theirs.dir).iter().any(|name| name.contains(".lock") || name.contains("placing"));
        let is_seen = Receiver::left_something(&pair.theirs.tree(), &pair.theirs.dir.join("state")).unwrap();
        assert!(is_seen || !rests, "killed at {deaths}: nobody would end it when the engine starts");
        // the next one may be killed, too
        if deaths % 3 == 0 {
            run(&pair, end, deaths % 7);
        }
        assert!(run(&pair, end, usize::MAX), "killed at {deaths}");
        assert_eq!(pair.theirs.heard(), Pair::carried(), "{end} killed at {deaths}");
        let lines = pair.mine.aside().lines().unwrap();
        assert_eq!(lines.len(), 2, "killed at {deaths}: {lines:?}");
        let left: Vec<_> = files(&pair.theirs.dir.join("vm"));
        assert!(!left.iter().any(|name| name.contains(".lock") || name.contains("stage")), "{left:?}");
        if whole {
            break;
        }
        deaths += 1;
    }
    assert!(deaths >= least, "only {deaths} points");
    eprintln!("{end} killed at {deaths} points");
}

#[test]
fn the_serving_end_is_killed_at_any_point_and_the_next_comes_to_the_same() {
    killed_everywhere("theirs", 50);
}

#[test]
fn the_returning_end_is_killed_at_any_point_and_the_next_comes_to_the_same() {
    killed_everywhere("mine", 8);
}

#[test]
fn a_node_that_ceases_to_serve_takes_no_further_step() {
    let pair = Pair::parted();
    for (steps, placed) in [(0, 0), (1, 0), (2, 1)] {
        let host = Serving { steps: steps.into(), ..Serving::of(&pair, Carried::Messages) };
        let (given, came) = carry(&pair, &host);
        let error = given.unwrap_err();
        let refused = matches!(&error, CarryError::Link(refused) if refused.is_refusal());
        assert!(refused && error.to_string().contains("guard \"passive\""), "{error}");
        assert_eq!(came, placed, "after {steps}");
    }
}

/// What the serving node says to these frames, and that it changes nothing.
fn refused(frames: &[Frame]) -> (ErrorKind, String) {
    let pair = Pair::parted();
    let before = files(&pair.theirs.dir);
    let (mine, theirs) = UnixStream::pair().unwrap();
    let said = thread::scope(|scope| {
        scope.spawn(|| serve(theirs, &Serving::of(&pair, Carried::Messages)));
        let mut link = Link::new(mine);
        frames.iter().for_each(|frame| link.send(frame).unwrap());
        link.flush().unwrap();
        loop {
            match link.receive("something") {
                Ok(_) => {}
                Err(SyncError::Remote { kind, message }) => break (kind, message),
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(files(&pair.theirs.dir), before);
    said
}

fn offer(spool: &Spool) -> Frame {
    let part = serde_json::to_vec(&serde_json::json!({ "spool": spool, "base": null })).unwrap();
    Frame::Offer { dataset: "/vm".to_owned(), part, last: true }
}

#[test]
fn what_our_own_rules_do_not_let_in_is_refused_as_a_whole() {
    let state = FileState { size: 1, digest: Digest([0; 32]) };
    for path in ["elsewhere/file", "default/secret", "default/secret/deep", "default/.pbx-ha-stage-x/file"] {
        let files = Files([(RelPath::new(path).unwrap(), state)].into());
        let (kind, why) = refused(&[offer(&Spool { files, ..Spool::default() })]);
        assert_eq!(kind, ErrorKind::NotAccepted);
        assert!(why.contains(path) && why.contains("excluded"), "{why}");
    }
    // a message whose parts lie elsewhere than it says
    let pair = Pair::parted();
    let mut spool = pair.mine.scan();
    spool.messages[0].place.number = ha_core::voicemail::NUMBERS;
    assert_eq!(refused(&[offer(&spool)]).0, ErrorKind::NotAccepted);
    let unknown = Frame::Offer { dataset: "/etc".to_owned(), part: b"{}".to_vec(), last: true };
    assert_eq!(refused(&[unknown]).0, ErrorKind::NotAccepted);
    let nonsense = Frame::Offer { dataset: "/vm".to_owned(), part: b"{\"../x\"".to_vec(), last: true };
    assert_eq!(refused(&[nonsense]).0, ErrorKind::Protocol);
}

#[test]
fn steps_that_were_not_planned_and_contents_that_were_not_offered_are_refused() {
    let pair = Pair::parted();
    let mine = pair.mine.scan();
    assert_eq!(refused(&[offer(&mine), Frame::CarryOut { step: 99 }]).0, ErrorKind::Protocol);
    // more than was offered, sent for ever
    let piece = || Frame::Piece { bytes: vec![7; 1000], last: false };
    let sent = [offer(&mine), Frame::CarryOut { step: 0 }, piece(), piece()];
    let (kind, why) = refused(&sent);
    assert_eq!(kind, ErrorKind::Corrupt, "{why}");
    let other = [offer(&mine), Frame::CarryOut { step: 0 }, Frame::AskState];
    assert_eq!(refused(&other).0, ErrorKind::Failed);
}

#[test]
fn a_plan_that_names_what_was_not_offered_is_not_followed() {
    let pair = Pair::parted();
    pair.mine.write("elsewhere/file", "mine");
    let (mine, theirs) = UnixStream::pair().unwrap();
    let given = thread::scope(|scope| {
        scope.spawn(|| {
            let mut link = Link::new(theirs);
            link.asked().unwrap();
            let plan = br#"{"steps": [{"set_aside": {"paths": ["other"], "why": "incomplete"}}]}"#;
            link.send(&Frame::Plan { part: plan.to_vec(), last: true }).unwrap();
            link.flush().unwrap();
            let _ = link.asked();
        });
        offers(&pair, mine)
    });
    assert!(matches!(given, Err(CarryError::Link(SyncError::Unexpected { .. }))), "{given:?}");
    assert_eq!(pair.mine.aside().lines().unwrap(), []);
}

#[test]
fn how_asterisk_locks_is_read_as_asterisk_reads_it() {
    for (text, way) in [
        ("", LockWay::LockFile),
        ("[options]\nlockmode = flock ; of NFS\n", LockWay::Flock),
        ("[directories](!)\nlockmode=flock\n[options]\n;lockmode=flock\n", LockWay::LockFile),
        ("[options]\nLockMode => FLOCK\n", LockWay::Flock),
        ("[options]\nlockmode=flock\nlockmode=lockfile\n", LockWay::LockFile),
        ("[options]\nlockmode=other\n", LockWay::LockFile),
    ] {
        assert_eq!(LockWay::of_conf(text), way, "{text}");
    }
}

#[test]
fn a_content_of_exactly_one_frame_and_one_of_none_come_to_their_ends() {
    let pair = Pair::new();
    pair.mine.write("601/unavail.wav", &"x".repeat(256 << 10));
    pair.mine.write("601/empty.wav", "");
    let (given, _) = carry(&pair, &Serving::of(&pair, Carried::Messages));
    assert_eq!(given.unwrap(), Given { carried: 2, aside: 0 });
    let size = |name| fs::metadata(pair.theirs.path(name)).unwrap().len();
    assert_eq!((size("601/unavail.wav"), size("601/empty.wav")), (256 << 10, 0));
}

#[test]
fn what_only_the_returning_node_can_know_of_both_is_believed() {
    let pair = Pair::new();
    pair.theirs.message("601/INBOX/msg0000", 1);
    pair.theirs.message("602/INBOX/msg0000", 2);
    pair.mine.pull(&pair.theirs);
    let base = pair.mine.kept().base().clone();
    // heard here, and deleted there
    for extension in ["wav", "gsm", "txt"] {
        fs::create_dir_all(pair.mine.path("601/Old")).unwrap();
        let path = |place: &str| pair.mine.path(&format!("{place}.{extension}"));
        fs::rename(path("601/INBOX/msg0000"), path("601/Old/msg0000")).unwrap();
    }
    fs::remove_dir_all(pair.theirs.path("602")).unwrap();
    let mut receiver = pair.theirs.receiver();
    let steps = |plan: &Plan| plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    let unknown = receiver.offer(pair.mine.scan()).unwrap();
    assert_eq!(steps(unknown), ["carry default/602/INBOX/msg0000 to default/602/INBOX/msg0000"]);
    let known = receiver.offer_of(pair.mine.scan(), Some(base), Carried::Messages).unwrap();
    let moved = "move default/601/INBOX/msg0000 to default/601/Old/msg0000, as on the returning node";
    assert_eq!(steps(known), [moved]);
}
