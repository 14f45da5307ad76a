//! What becomes of the address of an engine that is stopped or killed, seen from another machine.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::gate::{LEASE, gate, open, renew};
use super::*;

/// An engine that holds the address, in a process of its own.
fn engine() -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "cluster::tests::engine::an_engine_that_renews"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "open\n");
    (child, said)
}

#[test]
#[ignore = "it is started by other tests, and ends when it is refused or killed"]
fn an_engine_that_renews() {
    let mut gate = gate(VIP);
    open(&mut gate, LEASE);
    eprintln!("open");
    loop {
        thread::sleep(Duration::from_millis(50));
        if let Err(error) = renew(&mut gate, LEASE) {
            eprintln!("{error}");
            return;
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The address falls silent within a lease, as a phone sees it that asks all the time.
fn falls_silent(phone: &Phone, since: Instant) {
    let vip = VIP.to_owned();
    let last = phone.run(move || {
        let mut last = since;
        while last.elapsed() < Duration::from_millis(1500) && since.elapsed() < PATIENCE {
            let asked = Instant::now();
            if output(&format!("ping -n -c 1 -W 0.05 {vip}")).status.success() {
                last = asked;
            }
        }
        last
    });
    let answered = last - since;
    assert!(answered <= LEASE, "still answered {answered:?} after it was stopped");
    eprintln!("the last answer was to a ping {answered:?} after it was stopped");
}

#[test]
fn a_stopped_engine_falls_silent_and_is_refused_when_it_goes_on() {
    beside_a_phone(|phone| {
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        let (mut child, mut said) = engine();
        thread::sleep(LEASE * 2);
        phone.comes_to_reach(VIP);
        signal(&child, Signal::STOP);
        falls_silent(phone, Instant::now());
        signal(&child, Signal::CONT);
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        // the permit, if it was stopped between that and the grant
        assert!(line.contains("the lease had run out") || line.contains("the permit had run out"), "{line}");
        child.wait().unwrap();
        assert!(!phone.reaches(VIP));
    });
}

#[test]
fn a_stopped_engine_falls_silent_although_all_rules_are_flushed() {
    beside_a_phone(|phone| {
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        let (mut child, mut said) = engine();
        phone.comes_to_reach(VIP);
        signal(&child, Signal::STOP);
        sh("nft flush ruleset");
        falls_silent(phone, Instant::now());
        signal(&child, Signal::CONT);
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("missing"), "{line}");
        child.wait().unwrap();
    });
}

#[test]
fn a_killed_engine_falls_silent_and_stays_so() {
    beside_a_phone(|phone| {
        sh(&format!("ip addr add {VIP}/32 dev {WIRE}"));
        let (mut child, _said) = engine();
        phone.comes_to_reach(VIP);
        signal(&child, Signal::KILL);
        falls_silent(phone, Instant::now());
        child.wait().unwrap();
        let tables = sh("nft list tables");
        assert!(tables.contains("inet pbx_ha\n") && !tables.contains("owned"), "{tables}");
    });
}
