//! A replication that is cut, killed or runs out of room at a random moment: the slave has all of it, files and database,
//! or nothing, and the next one brings it up to date.
//!
//! `FAULT_POINTS` says how many moments each fault strikes at (4; the long form takes 100), `FAULT_SEED` which. XiVO takes
//! two: what differs from Wazo there are names.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Pair, Product, Ran, Settings};

use crate::commit::{noted, start_proxy};
use crate::database;

/// What changes from one state to the next: small files come, change, go and become links, a large one changes in places,
/// and rows change in several tables. `$1` is the number of the state.
const CHANGE: &str = r#"
    n=$1; t=/var/lib/asterisk/moh/default/t; mkdir -p $t/$((n % 5)); rm -rf $t/old$((n - 2)); mkdir $t/old$n
    for i in $(seq 60); do echo "$n $i" > $t/$((n % 5))/$i; done
    for i in $(seq 20); do echo "$n $i" > $t/old$n/$i; done
    ln -f $t/old$n/1 $t/hard; ln -sfn old$n $t/soft
    # a name that is a directory in one state and a file in the next
    rm -rf $t/turns; if [ $((n % 2)) = 0 ]; then echo $n > $t/turns; else mkdir $t/turns; echo $n > $t/turns/in; fi
    [ -e $t/large ] || head -c 6000000 /dev/urandom > $t/large
    for i in 1 2 3; do printf '%08d' $n | dd of=$t/large bs=1 seek=$((i * 1500000)) conv=notrunc status=none; done
    head -c 3000000 /dev/urandom > $t/old$n/new
"#;

/// Every entry of the tree but what waits in it, and the contents.
const TREE: &str = "cd /var/lib/asterisk/moh
    find . -name '.pbx-ha*' -prune -o -type d -printf '%p %y %m %u %g\\n' -o -printf '%p %y %m %u %g %n %l\\n' | sort
    find . -name '.pbx-ha*' -prune -o -type f -print0 | sort -z | xargs -0 sha256sum";

/// Both parts of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    files: String,
    database: String,
}

fn state(pair: &Pair, host: Host) -> State {
    State { files: pair.lab.sh(host, TREE).ok(), database: database::digest(pair, host) }
}

/// Takes the master to its state `number`.
fn change(pair: &Pair, number: u64) {
    pair.lab.exec(Host::Master, &["bash", "-ec", CHANGE, "change", &number.to_string()]).ok();
    let sql = format!(
        "update userfeatures set lastname = 'state {number}';
         update endpoint_sip set label = 'state {number}';
         delete from dialaction where actionarg1 = 'state {}';",
        number.saturating_sub(2)
    );
    pair.sql(Host::Master, &sql);
}

fn replicate(pair: &Pair) -> Ran {
    // signed, to be killed
    let program = pair.product.program;
    let script = format!("echo $$ > /run/lab/near.pid; exec /usr/bin/{program} replicate --json </dev/null");
    pair.lab.sh(Host::Master, &script)
}

/// Numbers that are the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        let seed = std::env::var("FAULT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
        println!("FAULT_SEED={seed}");
        Dice(seed)
    }

    /// Evenly from 0 to 1.
    fn throw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn points(product: Product) -> u64 {
    let points = std::env::var("FAULT_POINTS").ok().and_then(|points| points.parse().ok()).unwrap_or(4);
    if product == Product::WAZO { points } else { points.min(2) }
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after the verb began.
    After(Duration),
    /// So long after the slave has promised the switch, in the window of the commit.
    Promised(Duration),
}

/// A fault: a script that one host runs once it finds the file `strike` in its mailbox, and what mends it.
struct Fault<'a> {
    host: Host,
    strike: &'a str,
    /// Done right after it, from outside.
    then: fn(&Pair),
    /// Done before the slave is looked at.
    mend: fn(&Pair),
}

/// Strikes at random moments; after each the slave has one of two states, and the next replication brings the newer.
fn strike_at_random(pair: &Pair, fault: &Fault<'_>) {
    let mut dice = Dice::new();
    change(pair, 1);
    replicate(pair).ok();
    change(pair, 2);
    let begin = Instant::now();
    replicate(pair).ok();
    let mut whole = begin.elapsed();
    let mut old = state(pair, Host::Master);
    assert_eq!(state(pair, Host::Slave), old);
    let (mut met, mut kept_old, mut made_new, mut resumed) = (0, 0, 0, 0);
    let points = points(pair.product);
    for number in 3..3 + (3 * points).max(12) {
        // few moments may all be too late on a machine that is busy with something else: then there are more
        if number >= 3 + points && met > 0 {
            break;
        }
        change(pair, number);
        let new = state(pair, Host::Master);
        let moment = match number % 2 {
            0 => Moment::Promised(Duration::from_secs_f64(0.05 * dice.throw())),
            _ => Moment::After(whole.mul_f64(0.3 + 0.7 * dice.throw())),
        };
        met += u32::from(struck(pair, fault, moment, whole));
        (fault.mend)(pair);
        let settle = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/settle.py");
        let settled = pair.lab.exec(Host::Slave, &[settle, pair.product.name]).ok();
        let now = state(pair, Host::Slave);
        assert!(
            now == old || now == new,
            "{moment:?}: neither state {} nor {number}, {settled}\nfiles {} {}, database {} {}",
            number - 1,
            now.files == old.files,
            now.files == new.files,
            now.database == old.database,
            now.database == new.database
        );
        let ready: Vec<&str> = settled.split_whitespace().collect();
        assert_eq!(ready.first(), Some(&"ready"), "{moment:?}: {settled}");
        if now == new && new != old {
            made_new += 1
        } else {
            kept_old += 1
        }
        resumed += u32::from(ready.get(2).is_some_and(|kept| *kept != "0"));
        let begin = Instant::now();
        replicate(pair).ok();
        // what a busy machine made long at first would put every moment behind the end
        whole = whole.min(begin.elapsed());
        assert_eq!(state(pair, Host::Slave), new, "{moment:?}: the next replication");
        let look = format!(
            "find /var/lib/asterisk/moh {} -name '.pbx-ha*'; ls /var/lib/pbx-ha/intent",
            pair.product.state
        );
        let left = pair.lab.sh(Host::Slave, &look).ok();
        assert_eq!(left.trim(), "", "{moment:?}: left behind");
        old = new;
    }
    println!(
        "{} moments, {met} of which met it: {kept_old} old, {made_new} new, {resumed} with contents that need not come again",
        kept_old + made_new
    );
    assert!(met > 0, "no replication was struck");
    // few moments may all be early, or late
    if points >= 20 {
        assert!(kept_old > 0 && made_new > 0 && resumed > 0, "these moments prove too little");
    }
}

/// One replication that is struck, or has ended before. Whether it failed.
fn struck(pair: &Pair, fault: &Fault<'_>, moment: Moment, whole: Duration) -> bool {
    let strike = pair.lab.mailbox(fault.host, "strike");
    let _ = fs::remove_file(&strike);
    let promise = pair.lab.root(Host::Slave).join("var/lib/pbx-ha/intent/intent.json");
    thread::scope(|scope| {
        let script = format!("while [ ! -e /run/lab/strike ]; do sleep 0.002; done; {}", fault.strike);
        let striking = scope.spawn(move || pair.lab.sh(fault.host, &script));
        let running = scope.spawn(|| replicate(pair));
        match moment {
            Moment::After(time) => thread::sleep(time),
            Moment::Promised(time) => {
                let end = Instant::now() + whole * 4;
                while !promise.exists() && !running.is_finished() && Instant::now() < end {
                    thread::sleep(Duration::from_micros(300));
                }
                thread::sleep(time);
            }
        }
        fs::write(&strike, "").expect("the mailbox can be written");
        striking.join().expect("it strikes");
        (fault.then)(pair);
        !running.join().expect("the verb returns").succeeded()
    })
}

/// A pair in which nothing but the test replicates.
fn pair(product: Product) -> Option<Pair> {
    Pair::of(product).database(60, 4).without_daemons().up()
}

const KILL_NEAR: &str = "kill -KILL $(cat /run/lab/near.pid)";

fn nothing(_: &Pair) {}

/// What lists the agents of that user.
fn agents_of(user: &str, product: Product) -> String {
    format!("pgrep -u {user} -f '^/usr/bin/{} agent'", product.program)
}

/// Waits until no agent is left at work that was let go by its near end.
fn await_agents(pair: &Pair) {
    wait::until("the agents have ended", seconds(10.0), || {
        let agents = pair.lab.sh(Host::Slave, &agents_of("root", pair.product));
        (!agents.succeeded()).then_some(())
    });
}

fn a_master_that_is_killed_at_any_moment_leaves_the_slave_one_whole_replication(product: Product) {
    let Some(pair) = pair(product) else { return };
    let fault = Fault { host: Host::Master, strike: KILL_NEAR, then: nothing, mend: await_agents };
    strike_at_random(&pair, &fault);
}

fn an_agent_or_its_relay_that_is_killed_at_any_moment_leaves_the_slave_one_whole_replication(
    product: Product,
) {
    let Some(pair) = pair(product) else { return };
    // one or the other
    let strike = format!(
        "if [ $((RANDOM % 3)) = 0 ]; then who=postgres; else who=root; fi; kill -KILL $({})",
        agents_of("$who", product)
    );
    strike_at_random(&pair, &Fault { host: Host::Slave, strike: &strike, then: nothing, mend: await_agents });
}

fn a_cable_that_is_pulled_at_any_moment_leaves_the_slave_one_whole_replication(product: Product) {
    let Some(pair) = pair(product) else { return };
    // the slave hears nothing any more, not even that the master is gone: its agent waits on
    let then = |pair: &Pair| {
        pair.lab.cut(Host::Slave);
        pair.lab.sh(Host::Master, KILL_NEAR);
    };
    let mend = |pair: &Pair| {
        pair.lab.heal(Host::Slave);
    };
    strike_at_random(&pair, &Fault { host: Host::Slave, strike: "true", then, mend });
}

/// Not a power cut: what the kernel was told stays.
fn a_slave_whose_processes_all_die_at_any_moment_has_one_whole_replication(product: Product) {
    let Some(pair) = pair(product) else { return };
    let then = |pair: &Pair| {
        pair.lab.crash(Host::Slave);
        pair.lab.sh(Host::Master, KILL_NEAR);
    };
    let mend = |pair: &Pair| {
        pair.power_on(Host::Slave);
    };
    strike_at_random(&pair, &Fault { host: Host::Slave, strike: "true", then, mend });
}

fn a_disk_that_fills_up_at_any_moment_leaves_the_slave_one_whole_replication(product: Product) {
    let Some(pair) = pair(product) else { return };
    // trees, the engine's state and the database on one small disk
    let small = "set -e; version=$(ls /etc/postgresql | head -1); ctl='pg_ctlcluster --skip-systemctl-redirect'
        $ctl $version main stop
        mkdir -p /srv/small /var/lib/asterisk/moh /var/lib/pbx-ha; mount -t tmpfs -o size=400m,mode=755 small /srv/small
        for part in /var/lib/asterisk/moh /var/lib/pbx-ha /var/lib/postgresql; do
          cp -a $part /srv/small/; mount --bind /srv/small/$(basename $part) $part
        done
        $ctl $version main start";
    pair.lab.sh(Host::Slave, small).ok();
    let mend = |pair: &Pair| {
        let start = "rm -f /srv/small/filler; version=$(ls /etc/postgresql | head -1)
            pg_ctlcluster --skip-systemctl-redirect $version main status || pg_ctlcluster --skip-systemctl-redirect $version main start";
        pair.lab.sh(Host::Slave, start).ok();
        await_agents(pair);
    };
    let strike = "cat /dev/zero > /srv/small/filler 2>/dev/null";
    strike_at_random(&pair, &Fault { host: Host::Slave, strike, then: nothing, mend });
}

fn a_takeover_after_the_commit_and_before_the_switch_finishes_the_replication(product: Product) {
    let settings =
        Settings::modern().with("postgres", "remote", "\"host=/run/lab/pg user=postgres dbname=asterisk\"");
    let Some(pair) = Pair::of(product).settings(settings).database(20, 4).without_daemons().up() else {
        return;
    };
    start_proxy(&pair, "");
    change(&pair, 1);
    pair.start_daemon(Host::Master);
    pair.start_daemon(Host::Slave);
    pair.await_peace(seconds(20.0));
    replicate(&pair).ok();
    change(&pair, 2);
    let new = state(&pair, Host::Master);
    fs::write(pair.lab.mailbox(Host::Slave, "hold"), "").expect("the mailbox can be written");
    thread::scope(|scope| {
        let running = scope.spawn(|| replicate(&pair));
        wait::until("COMMIT is on its way", seconds(30.0), || noted(&pair, "held"));
        pair.lab.sh(Host::Slave, &format!("kill -STOP $({})", agents_of("root", product))).ok();
        fs::write(pair.lab.mailbox(Host::Slave, "release"), "").expect("the mailbox can be written");
        wait::until("COMMIT goes on", seconds(10.0), || noted(&pair, "released"));
        wait::until("it is committed", seconds(10.0), || {
            (database::digest(&pair, Host::Slave) == new.database).then_some(())
        });
        assert_ne!(state(&pair, Host::Slave).files, new.files, "the switch waits for its agent");
        let cut = pair.lab.cut(Host::Master);
        pair.await_start(Host::Slave, cut, seconds(15.0));
        assert_eq!(state(&pair, Host::Slave), new, "what was committed is there as a whole");
        wait::until("it is in the journal", seconds(5.0), || {
            pair.lab.sh(Host::Slave, "grep -rq 'it has all of it' /var/lib/pbx-ha").succeeded().then_some(())
        });
        pair.lab.heal(Host::Master);
        running.join().expect("the verb returns");
    });
    fs::remove_file(pair.lab.mailbox(Host::Slave, "hold")).expect("it stands");
    pair.await_peace(seconds(60.0));
    replicate(&pair).ok();
    assert_eq!(state(&pair, Host::Slave), new);
}

for_every_product! {
    a_master_that_is_killed_at_any_moment_leaves_the_slave_one_whole_replication,
    an_agent_or_its_relay_that_is_killed_at_any_moment_leaves_the_slave_one_whole_replication,
    a_cable_that_is_pulled_at_any_moment_leaves_the_slave_one_whole_replication,
    a_slave_whose_processes_all_die_at_any_moment_has_one_whole_replication,
    a_disk_that_fills_up_at_any_moment_leaves_the_slave_one_whole_replication,
    a_takeover_after_the_commit_and_before_the_switch_finishes_the_replication,
}
