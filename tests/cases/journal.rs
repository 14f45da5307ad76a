//! A journal that cannot be written when the master dies: telephony starts all the same, and somebody is told.

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Moment, Pair, Product};

/// Where the engine keeps its state, its journal among it.
const STATE: &str = "/var/lib/pbx-ha";

/// Every sync of the process in `daemon.pid` takes longer from now on than any wait for a takeover does.
pub(crate) const STALL: &str = "setsid strace -f -qq -o /dev/null -e trace=fsync,fdatasync,sync_file_range \
    -e inject=fsync,fdatasync,sync_file_range:delay_enter=40s -p $(cat /run/lab/daemon.pid) \
    </dev/null >/run/lab/strace.err 2>&1 & echo $! >/run/lab/strace.pid; sleep 0.5; kill -0 $!";

/// The end of it; a sync that has begun still takes its time.
pub(crate) const UNSTALL: &str = "kill $(cat /run/lab/strace.pid)";

/// A pair whose slave keeps its state on a small file system of its own.
fn pair_with_small_disk(product: Product) -> Option<Pair> {
    let pair = Pair::of(product).without_daemons().up()?;
    let mount = format!(
        "mkdir -p -m 700 {STATE}; cp -a {STATE} /root/state; mount -t tmpfs -o size=512k,nr_inodes=64,mode=700 state {STATE}; cp -a /root/state/. {STATE}"
    );
    pair.lab.sh(Host::Slave, &mount).ok();
    pair.start_daemon(Host::Master);
    pair.start_daemon(Host::Slave);
    pair.await_peace(seconds(20.0));
    Some(pair)
}

/// Lines in the journal.
fn lines(pair: &Pair) -> usize {
    let count = pair.lab.sh(Host::Slave, &format!("cat {STATE}/journal.jsonl | wc -l")).ok();
    count.trim().parse().expect("a count")
}

/// The takeover, and what must hold after it.
fn takes_over(pair: &Pair) {
    let cut = pair.lab.cut(Host::Master);
    pair.await_start(Host::Slave, cut, seconds(8.0));
    pair.await_serving(&[Host::Slave], seconds(10.0));
    wait::until("an alert names the journal", seconds(15.0), || {
        pair.mails(Host::Slave).to_lowercase().contains("journal").then_some(())
    });
    assert_eq!(pair.starts(Host::Slave, cut).len(), 1);
}

/// Once the journal, of `before` lines at the fault, can be written again, the takeover is in it and survives a restart.
fn remembers(pair: &Pair, before: usize) {
    wait::until("the state is on the disk", seconds(30.0), || {
        let takeover = format!("tail -n +{} {STATE}/journal.jsonl | grep -q .", before + 1);
        pair.lab.sh(Host::Slave, &takeover).succeeded().then_some(())
    });
    let generation = pair.status(Host::Slave).generation();
    let restart = Moment::now();
    pair.kill_daemon(Host::Slave);
    pair.start_daemon(Host::Slave);
    let status = pair.await_status(Host::Slave, "serving", seconds(10.0), |status| status.active());
    assert!(status.generation() >= generation, "a generation was forgotten");
    pair.assert_untouched(Host::Slave, restart);
}

fn a_full_disk_does_not_keep_the_slave_from_taking_over(product: Product) {
    let Some(pair) = pair_with_small_disk(product) else { return };
    let before = lines(&pair);
    // no block and no name is left: a replaced file alone would give back the block that it needs
    let fill = format!("cat /dev/zero > {STATE}/filler; i=0; while : > {STATE}/full$i; do i=$((i+1)); done");
    pair.lab.sh(Host::Slave, &format!("({fill}) 2>/dev/null; true")).ok();
    assert!(
        !pair.lab.sh(Host::Slave, &format!("echo 12345 > {STATE}/probe")).succeeded(),
        "the disk is full"
    );
    takes_over(&pair);
    pair.lab.sh(Host::Slave, &format!("rm {STATE}/filler {STATE}/full*")).ok();
    remembers(&pair, before);
}

fn a_read_only_disk_does_not_keep_the_slave_from_taking_over(product: Product) {
    let Some(pair) = pair_with_small_disk(product) else { return };
    let before = lines(&pair);
    pair.lab.sh(Host::Slave, &format!("mount -o remount,ro {STATE}")).ok();
    takes_over(&pair);
    pair.lab.sh(Host::Slave, &format!("mount -o remount,rw {STATE}")).ok();
    remembers(&pair, before);
}

fn a_stalled_disk_does_not_keep_the_slave_from_taking_over(product: Product) {
    let Some(pair) = pair_with_small_disk(product) else { return };
    let before = lines(&pair);
    pair.lab.sh(Host::Slave, STALL).ok();
    takes_over(&pair);
    pair.lab.sh(Host::Slave, UNSTALL).ok();
    remembers(&pair, before);
}

for_every_product! {
    a_full_disk_does_not_keep_the_slave_from_taking_over,
    a_read_only_disk_does_not_keep_the_slave_from_taking_over,
    a_stalled_disk_does_not_keep_the_slave_from_taking_over,
}
