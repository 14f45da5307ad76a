//! Replication of files: what arrives, and what must not when something fails in the middle.

use std::thread;

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Pair, Product, Ran};

/// A large file in one of them.
const BIG: &str = "/var/lib/asterisk/moh/default/big.wav";

/// Every entry of the trees: path, kind, mode, owner, time, target, and the content's digest.
fn trees(pair: &Pair, host: Host) -> String {
    let trees = pair.product.trees;
    let script = format!(
        "find {trees} ! -type d -printf '%p %y %m %u %g %TY%Tm%Td%TH%TM%TS %l\\n' | sort; find {trees} -type f -print0 | sort -z | xargs -0 sha256sum"
    );
    pair.lab.sh(host, &script).ok()
}

/// Only which files there are.
fn names(pair: &Pair, host: Host) -> String {
    pair.lab.sh(host, &format!("find {} ! -type d | sort", pair.product.trees)).ok()
}

fn replicate(pair: &Pair) -> Ran {
    pair.ha(Host::Master, "replicate files --json")
}

fn files_arrive_as_they_are_and_recordings_stay_where_they_were_made(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    pair.lab
        .sh(Host::Master, "ln /var/lib/asterisk/moh/default/song1.wav /var/lib/asterisk/moh/default/same.wav")
        .ok();
    let report = replicate(&pair).ok();
    assert!(report.contains("\"verified\":true") || report.contains("\"verified\": true"), "{report}");
    assert_eq!(trees(&pair, Host::Slave), trees(&pair, Host::Master));
    let links = pair.lab.sh(Host::Slave, "stat -c %h /var/lib/asterisk/moh/default/song1.wav").ok();
    assert_eq!(links.trim(), "2", "hard links stay hard links");
    pair.lab.sh(Host::Slave, &format!("ls {}/call.wav", product.recordings)).exits(2);
    pair.lab.sh(Host::Slave, "grep -q slave /etc/xivo/ha.conf").ok();

    pair.lab
        .sh(
            Host::Master,
            "rm /var/lib/asterisk/moh/default/song8.wav; echo x >> /var/lib/asterisk/moh/default/song7.wav",
        )
        .ok();
    replicate(&pair).ok();
    assert_eq!(trees(&pair, Host::Slave), trees(&pair, Host::Master));
}

fn a_slave_that_dies_in_the_middle_of_a_file_has_the_old_one_or_the_new_one(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    pair.lab.sh(Host::Master, &format!("head -c 100000 /dev/urandom > {BIG}")).ok();
    replicate(&pair).ok();
    let digest = |host| pair.lab.sh(host, &format!("sha256sum {BIG}")).ok();
    let old = digest(Host::Slave);
    pair.lab.sh(Host::Master, &format!("head -c 300000000 /dev/urandom > {BIG}")).ok();

    let before = pair.lab.received(Host::Slave);
    thread::scope(|scope| {
        let running = scope.spawn(|| replicate(&pair));
        wait::until("a part of the file has arrived", seconds(30.0), || {
            (pair.lab.received(Host::Slave) > before + 30_000_000).then_some(())
        });
        pair.lab.crash(Host::Slave);
        let ran = running.join().expect("the verb returns");
        ran.exits(1).says(&["slave"]);
    });
    pair.boot(Host::Slave);
    assert_eq!(digest(Host::Slave), old, "half a file was put in place");
    pair.await_peace(seconds(30.0));
    replicate(&pair).ok();
    assert_eq!(digest(Host::Slave), digest(Host::Master));
    assert_eq!(names(&pair, Host::Slave), names(&pair, Host::Master), "nothing temporary is left");
}

/// Has the master make a big file by that command, cuts its transfer each time so many bytes came, and says how many come
/// after that.
fn cut_and_go_on(make: &str, cuts: &[u64]) -> Option<u64> {
    let pair = Pair::wazo().without_daemons().up()?;
    replicate(&pair).ok();
    pair.lab.sh(Host::Master, &format!("{make} {BIG}")).ok();
    for cut in cuts {
        let before = pair.lab.received(Host::Slave);
        thread::scope(|scope| {
            let running = scope.spawn(|| replicate(&pair));
            wait::until("a part of the file has arrived", seconds(120.0), || {
                (pair.lab.received(Host::Slave) > before + cut).then_some(())
            });
            pair.lab.cut(Host::Master);
            running.join().expect("the verb returns").exits(1).says(&["cut"]);
        });
        pair.lab.heal(Host::Master);
        wait::until("the slave can be reached again", seconds(10.0), || {
            (pair.lab.sh(Host::Master, "ping -c 1 -W 1 10.77.0.12").code == 0).then_some(())
        });
        pair.lab.sh(Host::Slave, &format!("test ! -e {BIG}")).ok();
    }
    let before = pair.lab.received(Host::Slave);
    let report = replicate(&pair).ok();
    let rest = pair.lab.received(Host::Slave) - before;
    assert!(report.contains("\"resumed\":1"), "{report}");
    let digest = |host| pair.lab.sh_within(host, &format!("sha256sum {BIG}"), seconds(300.0)).ok();
    assert_eq!(digest(Host::Slave), digest(Host::Master));
    assert_eq!(names(&pair, Host::Slave), names(&pair, Host::Master), "nothing temporary is left");
    Some(rest)
}

#[test]
fn a_large_file_whose_transfer_is_cut_goes_on_where_it_was_cut() {
    let cuts = [100_000_000; 2];
    let Some(rest) = cut_and_go_on("head -c 300000000 /dev/urandom >", &cuts) else { return };
    assert!(rest < 130_000_000, "{rest} bytes came after two cuts behind 100 MB each");
}

#[test]
#[ignore = "the long form: ./check --long"]
fn a_file_that_is_cut_behind_its_fourth_gigabyte_goes_on_there() {
    // holes, and something behind them
    let make = "f() { truncate -s 4400000000 $1; head -c 150000000 /dev/urandom | dd of=$1 bs=1M seek=4096 conv=notrunc status=none; }; f";
    let Some(rest) = cut_and_go_on(make, &[4_350_000_000]) else { return };
    assert!(rest < 120_000_000, "{rest} bytes came after a cut behind 4.35 GB");
}

fn a_full_disk_at_the_far_end_leaves_the_old_files_and_says_so(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    replicate(&pair).ok();
    let mount = "cp -a /var/lib/asterisk/moh /root/; mount -t tmpfs -o size=1m,mode=755 moh /var/lib/asterisk/moh; cp -a /root/moh/. /var/lib/asterisk/moh";
    pair.lab.sh(Host::Slave, mount).ok();
    let old = trees(&pair, Host::Slave);
    pair.lab.sh(Host::Master, "head -c 5000000 /dev/urandom > /var/lib/asterisk/moh/default/big.wav").ok();
    replicate(&pair).exits(1).says(&["space"]);
    assert_eq!(trees(&pair, Host::Slave), old, "neither lost nor half written");
    pair.lab.sh(Host::Slave, "mount -o remount,size=50m /var/lib/asterisk/moh").ok();
    replicate(&pair).ok();
    assert_eq!(trees(&pair, Host::Slave), trees(&pair, Host::Master));
}

fn an_empty_or_half_empty_source_tree_deletes_nothing_and_is_refused(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    replicate(&pair).ok();
    let old = trees(&pair, Host::Slave);
    // the whole tree first, as when its disk is not mounted; then more of it than a person deletes in an hour
    let most = format!("rm {}/greeting[1-7].wav", product.greetings);
    for loss in ["rm -rf /var/lib/asterisk/moh/*", &most] {
        let keep = format!("cp -a /var/lib/asterisk/moh {}/sounds /root/; {loss}", product.state);
        pair.lab.sh(Host::Master, &keep).ok();
        let ran = replicate(&pair).exits(3);
        let said = ran.said();
        assert!(
            said.contains("empty") || said.contains("max_delete_"),
            "what would lift the guard is named: {said}"
        );
        assert_eq!(trees(&pair, Host::Slave), old);
        let back = format!("cp -a /root/moh /var/lib/asterisk/; cp -a /root/sounds {}/", product.state);
        pair.lab.sh(Host::Master, &back).ok();
    }
    replicate(&pair).ok();
    assert_eq!(trees(&pair, Host::Slave), old);
}

fn a_host_key_that_is_not_the_known_one_stops_everything(product: Product) {
    let Some(pair) = Pair::of(product).database(3, 1).up() else { return };
    let old = trees(&pair, Host::Slave);
    let known = pair.lab.sh(Host::Master, "cat /root/.ssh/known_hosts").ok();
    let other_key =
        "rm /etc/ssh/ssh_host_ed25519_key*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
        kill $(cat /run/sshd.pid); sleep 0.2; /usr/sbin/sshd";
    pair.lab.sh(Host::Slave, other_key).ok();
    for part in ["files", "database"] {
        let ran = pair.ha(Host::Master, &format!("replicate {part}"));
        assert!(ran.code == 1 || ran.code == 3, "{ran:?}");
        ran.says(&["host key", "10.77.0.12"]);
    }
    assert_eq!(trees(&pair, Host::Slave), old);
    assert_eq!(pair.sql(Host::Slave, "select count(*) from userfeatures").trim(), "1");
    assert_eq!(
        pair.lab.sh(Host::Master, "cat /root/.ssh/known_hosts").ok(),
        known,
        "the strange key is not learnt"
    );
}

fn sync_key_installs_a_key_that_opens_nothing_but_the_agent(product: Product) {
    let Some(pair) = Pair::of(product).up() else { return };
    pair.lab.sh(Host::Master, "rm /root/.ssh/xivo_id_rsa /root/.ssh/xivo_id_rsa.pub").ok();
    pair.lab.sh(Host::Slave, "rm /root/.ssh/authorized_keys").ok();
    for _ in 0..2 {
        let sync_key = format!("timeout 60 sshpass -p secret {} sync-key", product.program);
        pair.lab.sh(Host::Master, &sync_key).ok();
    }
    replicate(&pair).ok();
    let shell = "ssh -o BatchMode=yes -i /root/.ssh/xivo_id_rsa root@10.77.0.12 'uname -n' </dev/null";
    assert!(!pair.lab.sh(Host::Master, shell).stdout.contains("slave"), "the key opens a shell");
    let keys = pair
        .lab
        .sh(Host::Slave, "cat /root/.ssh/authorized_keys; stat -c %a /root/.ssh/authorized_keys")
        .ok();
    assert_eq!(keys.matches("ssh-").count(), 1, "safe to run again: {keys}");
    for word in ["restrict", "command=", "from=", "600"] {
        assert!(keys.contains(word), "{word}: {keys}");
    }
}

for_every_product! {
    a_slave_that_dies_in_the_middle_of_a_file_has_the_old_one_or_the_new_one,
    files_arrive_as_they_are_and_recordings_stay_where_they_were_made,
    a_full_disk_at_the_far_end_leaves_the_old_files_and_says_so,
    an_empty_or_half_empty_source_tree_deletes_nothing_and_is_refused,
    a_host_key_that_is_not_the_known_one_stops_everything,
    sync_key_installs_a_key_that_opens_nothing_but_the_agent,
}
