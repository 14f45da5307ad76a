//! An engine in a process of its own, which can be stopped: from outside at any time, or by itself at a certain call.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, getpid, kill_process};

use super::*;

/// Where such a process reads at which call it is to stop.
const ORDER: &str = "PBX_HA_STOP_AT";

pub(super) struct Process {
    child: Child,
    order: PathBuf,
}

impl Process {
    pub(super) fn start(pair: &Pair, index: usize) -> Process {
        let root = pair.nodes[index].root.path().to_owned();
        let order = root.join("stop-at");
        let stops_at = order.clone();
        let mut child = pair.nodes[index].machine.run(move || {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--ignored", "--nocapture"])
                .arg("cluster::tests::native::process::an_engine_of_its_own")
                .env("PBX_HA_NODE", index.to_string())
                .env("PBX_HA_ROOT", root)
                .env(ORDER, stops_at)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let mut said = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "it runs\n");
        Process { child, order }
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// It stops by itself when it comes to that call the next time.
    pub(super) fn is_to_stop_at(&self, call: &str) {
        let draft = self.order.with_extension("draft");
        fs::write(&draft, call).unwrap();
        fs::rename(draft, &self.order).unwrap();
    }

    /// It has come to that call.
    pub(super) fn stops(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        let stopped = || fs::read_to_string(&stat).unwrap().rsplit_once(") ").unwrap().1.starts_with('T');
        wait_until("it stops by itself", stopped);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "it is started by other tests, and ends when it is killed"]
fn an_engine_of_its_own() {
    let index = std::env::var("PBX_HA_NODE").unwrap().parse().unwrap();
    let root = Root::new(std::env::var("PBX_HA_ROOT").unwrap()).unwrap();
    let cluster = NativeCluster::start(setup(index, FAST), Key::new(KEY), &root).unwrap();
    cluster.standing(ABLE);
    eprintln!("it runs");
    loop {
        cluster.turned();
        thread::sleep(MILLI * 20);
    }
}

/// The engine is about to do that.
pub(in crate::cluster) fn call(name: &str) {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(order) = FILE.get_or_init(|| std::env::var_os(ORDER).map(PathBuf::from)) else { return };
    if fs::read(order).is_ok_and(|wanted| wanted == name.as_bytes()) {
        fs::remove_file(order).unwrap();
        kill_process(getpid(), Signal::STOP).unwrap();
        // the signal is the process's: until it has reached this thread, too
        thread::sleep(MILLI);
    }
}
