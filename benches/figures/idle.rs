use std::thread;
use std::time::{Duration, Instant};

use ha_tests::Host;

use crate::process::{self, CpuTime, Process};
use crate::sql::Sql;
use crate::stage::{Daemons, Stage};

/// What a pair costs in which nothing changes that is replicated, while calls leave their records. Shares of a core.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Idle {
    /// The master's daemon.
    pub(crate) daemon: f64,
    /// The slave's daemon and agent.
    pub(crate) slave: f64,
    /// What the master's PostgreSQL does more than without the daemon.
    pub(crate) postgres: f64,
}

/// Before a window.
const REST: Duration = Duration::from_secs(2);
/// Records of calls.
const CEL_PER_SECOND: u32 = 50;

/// Measures it: first without daemons, to know what PostgreSQL does anyway.
pub(crate) fn take(stage: &mut Stage, window: Duration) -> Idle {
    stage.daemons(Daemons::Stopped);
    let [without, ..] = shares(stage, window);
    stage.daemons(Daemons::OnChange);
    let [with, daemon, slave] = shares(stage, window);
    Idle { daemon, slave, postgres: (with - without).max(0.0) }
}

/// Shares of PostgreSQL without the writer, of the program on the master, of the program on the slave.
fn shares(stage: &Stage, window: Duration) -> [f64; 3] {
    let writer = Sql::open(stage.lab(), Host::Master);
    let number = writer.column("SELECT pg_backend_pid()").remove(0);
    let writer_process = process::numbered(stage, Host::Master, &number).expect("it answered");
    let used = || {
        let writer = writer_process.cpu_time().map_or(Duration::ZERO, |time| time.own);
        [
            all(process::named(stage, Host::Master, &["postgres"])).saturating_sub(writer),
            all(process::named(stage, Host::Master, &["wazo-ha"])),
            all(process::named(stage, Host::Slave, &["wazo-ha"])),
        ]
    };
    // what the start of a daemon left to do is over by then
    thread::sleep(REST);
    let (begin, before) = (Instant::now(), used());
    let records = window.as_secs() as u32 * CEL_PER_SECOND;
    for record in 0..records {
        let due = window * record / records;
        thread::sleep(due.saturating_sub(begin.elapsed()));
        writer.run(RECORD);
    }
    let (elapsed, after) = (begin.elapsed(), used());
    let mut shares = [0.0; 3];
    for (share, (after, before)) in shares.iter_mut().zip(after.into_iter().zip(before)) {
        *share = after.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64();
    }
    shares
}

/// CPU time of these processes, and of the children of PostgreSQL's first one that have ended.
fn all(processes: Vec<Process>) -> Duration {
    let each = processes.iter().filter_map(|process| {
        let CpuTime { own, children } = process.cpu_time()?;
        Some(own + children)
    });
    each.sum()
}

const RECORD: &str = "INSERT INTO cel (eventtype, eventtime, userdeftype, cid_name, cid_num, cid_ani, cid_rdnis, cid_dnid,
    exten, context, channame, appname, appdata, amaflags, accountcode, peeraccount, uniqueid, linkedid, userfield, peer)
    VALUES ('CHAN_START', now(), '', 'Alice', '1001', '1001', '', '', '1002', 'default', 'PJSIP/x-1', 'Dial', '', 3, '',
    '', '1700000000.1', '1700000000.1', '', '')";
