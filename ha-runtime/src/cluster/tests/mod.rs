//! Two machines with a wire between them, each a thread in a network namespace of its own: nothing outside is touched,
//! and all is gone with the threads. They need root.

mod address;
mod announce;
mod engine;
mod gate;
pub(super) mod native;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// The interface of either machine.
const WIRE: &str = "eth0";
/// This machine's, the other's, and the address that both share.
const HOST: &str = "10.9.0.1";
const PHONE: &str = "10.9.0.3";
const VIP: &str = "10.9.0.9";
const HOST6: &str = "fd09::1";
const PHONE6: &str = "fd09::3";
const VIP6: &str = "fd09::9";
/// Longer than anything takes on a machine that is slow.
const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The machine at the other end of the wire.
struct Phone {
    jobs: Sender<Job>,
}

impl Phone {
    /// In a network namespace of its own, without a wire; and the process that names it.
    fn start() -> (Phone, i32) {
        let (jobs, taken): (Sender<Job>, Receiver<Job>) = channel();
        let (sender, arrived) = channel();
        thread::spawn(move || {
            alone().unwrap();
            sender.send(rustix::thread::gettid()).unwrap();
            taken.into_iter().for_each(|job| job());
        });
        let there = arrived.recv().unwrap().as_raw_nonzero();
        (Phone { jobs }, there.get())
    }

    /// Has it do something.
    fn run<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        let job = move || {
            let _ = sender.send(catch_unwind(AssertUnwindSafe(what)));
        };
        self.jobs.send(Box::new(job)).unwrap();
        receiver.recv().unwrap().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// A shell command there.
    fn sh(&self, script: &str) -> String {
        let script = script.to_owned();
        self.run(move || sh(&script))
    }

    /// Reaches it, at the latest when a machine that is busy has come to it.
    fn comes_to_reach(&self, address: &str) {
        wait_until("the phone reaches it", || self.reaches(address));
    }

    /// Whether one ping is answered.
    fn reaches(&self, address: &str) -> bool {
        let address = address.to_owned();
        self.run(move || reaches(&address))
    }
}

/// Runs the test on a machine of its own.
fn elsewhere(test: impl FnOnce() + Send + 'static) {
    let machine = thread::spawn(move || {
        if let Err(errno) = alone() {
            eprintln!("SKIPPED: not root: no network namespace: {errno}");
            return;
        }
        if let Some(missing) = ["ip", "nft", "ping"].into_iter().find(|program| !is_installed(program)) {
            eprintln!("SKIPPED: {missing} is not installed");
            return;
        }
        test();
    });
    machine.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Runs the test on one machine, with another one beside it.
fn beside_a_phone(test: impl FnOnce(&Phone) + Send + 'static) {
    elsewhere(move || {
        let (phone, there) = Phone::start();
        let up = |own: &str, own6: &str| {
            format!(
                "ip link set lo up; ip link set {WIRE} up; ip addr add {own}/24 dev {WIRE};
                 ip addr add {own6}/64 dev {WIRE} nodad"
            )
        };
        sh(&format!("ip link add {WIRE} type veth peer name {WIRE} netns {there}"));
        sh(&up(HOST, HOST6));
        phone.sh(&up(PHONE, PHONE6));
        wait_until("the wire is up", || reaches(PHONE) && reaches(PHONE6));
        test(&phone);
    });
}

/// A network namespace for this thread, and for what it starts.
fn alone() -> Result<(), Errno> {
    // deprecated for what it does to tables of descriptors, which stay shared here
    #[expect(deprecated)]
    rustix::thread::unshare(UnshareFlags::NEWNET)
}

fn is_installed(program: &str) -> bool {
    output(&format!("command -v {program}")).status.success()
}

fn output(script: &str) -> Output {
    Command::new("sh").args(["-ec", script]).output().unwrap()
}

/// A shell command that succeeds.
fn sh(script: &str) -> String {
    let output = output(script);
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The Ethernet address of this machine's end of the wire.
fn hardware() -> String {
    hardware_of(WIRE)
}

fn hardware_of(interface: &str) -> String {
    let shown = sh(&format!("ip -o link show dev {interface}"));
    let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
    words.nth(1).unwrap().to_owned()
}

fn reaches(address: &str) -> bool {
    output(&format!("ping -n -c 1 -W 0.4 {address}")).status.success()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "not so in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
