//! Messages that were left on both nodes of a pair that shares one address: nobody loses one, however it fails over.

use std::collections::BTreeMap;

use ha_tests::wait::{self, seconds};
use ha_tests::{Host, Pair, Settings, Status};

const VOICEMAIL: &str = "/var/spool/asterisk/voicemail/default";

/// Leaves a message as Asterisk does, behind the last of the folder; what is said is its number.
fn leave(pair: &Pair, host: Host, folder: &str, said: u32) {
    let script = format!(
        "umask 022; mkdir -p {VOICEMAIL}/{folder}; cd {VOICEMAIL}/{folder}; name=$(printf msg%04d $(ls | grep -c 'txt$'))
         echo 'said {said}' > $name.wav
         printf '[message]\\ncallerid=<602>\\norigtime={said}\\nmsg_id={said}-1\\nduration=5\\n' > $name.txt"
    );
    pair.lab.sh(host, &script).ok();
}

/// Its owner hears the only message of a mailbox.
fn hear(pair: &Pair, host: Host, mailbox: &str) {
    let script = format!(
        "cd {VOICEMAIL}/{mailbox}; mkdir -p Old; mv INBOX/msg0000.wav INBOX/msg0000.txt Old/; rmdir INBOX"
    );
    pair.lab.sh(host, &script).ok();
}

/// Each message by its place, with what is said in it.
fn heard(pair: &Pair, host: Host) -> BTreeMap<String, String> {
    let script = format!(
        "cd {VOICEMAIL}; find . -name '*.wav' | sort | while read -r one; do
           [ -s ${{one%.wav}}.txt ] || echo \"$one has no text\"
           echo \"$one $(head -c 20 \"$one\" | grep -a '^said' || sha256sum < \"$one\" | cut -c1-12)\"; done"
    );
    let said = pair.lab.sh(host, &script).ok();
    said.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(place, said)| (place.to_owned(), said.to_owned()))
        .collect()
}

/// Whether the numbers of each folder begin with 0 and have no gap.
fn without_gaps(heard: &BTreeMap<String, String>) -> bool {
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    heard.keys().all(|place| {
        let (folder, name) = place.rsplit_once('/').unwrap_or_default();
        let number = next.entry(folder).or_default();
        *number += 1;
        *name == format!("msg{:04}.wav", *number - 1)
    })
}

fn count(heard: &BTreeMap<String, String>, said: u32) -> usize {
    heard.values().filter(|other| **other == format!("said {said}")).count()
}

fn serves(pair: &Pair, host: Host) {
    pair.await_status(host, "serving", seconds(20.0), |status| {
        status.document()["address"]["held"] == true && status.services() == "running"
    });
}

/// Until the node has carried what it held newer, and fetched the rest.
fn returns(pair: &Pair, host: Host) -> Status {
    pair.await_status(host, "done with carrying", seconds(40.0), |status| {
        let replication = &status.document()["replication"];
        status.services() == "stopped"
            && replication["owes"] == false
            && replication["files"]["age_seconds"].is_u64()
    })
}

/// Both nodes have the same, each of these once, and no number is missing.
#[track_caller]
fn all_on_both(pair: &Pair, said: &[u32]) -> BTreeMap<String, String> {
    let both = || [Host::Master, Host::Slave].map(|host| heard(pair, host));
    // what was carried is fetched right behind it
    let [master, slave] =
        wait::within(seconds(10.0), || Some(both()).filter(|[one, other]| one == other)).unwrap_or_else(both);
    assert_eq!(master, slave, "{}", pair.daemon_log(Host::Master));
    for one in said {
        assert_eq!(count(&master, *one), 1, "{one} in {master:?}");
    }
    assert!(without_gaps(&master), "{master:?}");
    master
}

#[test]
fn messages_left_on_both_nodes_survive_every_way_there_and_back() {
    let settings =
        Settings::sark().fast_lease().with("alert", "command", "[\"mail\", \"-s\", \"{subject}\", \"root\"]");
    let Some(pair) = Pair::sark().settings(settings).up() else { return };
    let (primary, standby) = (Host::Master, Host::Slave);
    serves(&pair, primary);
    pair.ha(standby, "replicate").ok();
    let before = all_on_both(&pair, &[]);
    assert_eq!(before.len(), 5, "{before:?}");

    // in the last minute of the primary
    leave(&pair, primary, "1000/INBOX", 1);
    leave(&pair, primary, "1002/INBOX", 2);
    hear(&pair, primary, "1001");
    pair.lab.sh(primary, "echo recorded > /var/lib/asterisk/sounds/late.wav").ok();
    pair.lab.sh(primary, "echo '; late' >> /etc/asterisk/extra1.conf").ok();
    pair.lab.crash(primary);
    serves(&pair, standby);
    leave(&pair, standby, "1000/INBOX", 3);
    pair.boot(primary);
    returns(&pair, primary);
    let both = all_on_both(&pair, &[1, 2, 3]);
    assert_eq!(both.len(), 8, "{both:?}");
    assert_eq!(both["./1000/INBOX/msg0003.wav"], "said 3", "the serving node's keeps its number");
    assert!(both.contains_key("./1001/Old/msg0000.wav"), "heard is heard: {both:?}");
    for host in [primary, standby] {
        pair.lab.sh(host, "grep -q recorded /var/lib/asterisk/sounds/late.wav").ok();
        pair.lab.sh(host, "! grep -q late /etc/asterisk/extra1.conf").ok();
    }
    pair.lab.sh(primary, "grep -rq '; late' /var/lib/pbx-ha/aside/*/etc/asterisk/extra1.conf").ok();
    let told = || pair.mails(primary).contains("/var/lib/pbx-ha/aside/").then_some(());
    wait::until("told what was set aside", seconds(5.0), told);
    let reload = pair.calls(standby).into_iter().any(|call| call.rest.contains("voicemail reload"));
    assert!(reload, "Asterisk was told of new messages");

    // the primary stands by, and has what was left until it fetched last; then the standby dies
    leave(&pair, standby, "1000/INBOX", 4);
    pair.ha(primary, "replicate").ok();
    leave(&pair, standby, "1000/INBOX", 5);
    pair.lab.crash(standby);
    serves(&pair, primary);
    let kept = heard(&pair, primary);
    assert_eq!((1..=5).map(|said| count(&kept, said)).collect::<Vec<_>>(), [1, 1, 1, 1, 0], "{kept:?}");
    leave(&pair, primary, "1000/INBOX", 6);
    pair.boot(standby);
    returns(&pair, standby);
    all_on_both(&pair, &[1, 2, 3, 4, 5, 6]);

    // there and back on purpose: the way back waits until all of it is carried
    leave(&pair, primary, "1003/INBOX", 7);
    pair.await_status(primary, "ready to hand over", seconds(20.0), |status| status.peer() == "up");
    pair.ha(primary, "switchover").ok();
    serves(&pair, standby);
    leave(&pair, standby, "1003/INBOX", 8);
    pair.await_status(standby, "ready to hand back", seconds(40.0), |status| status.peer() == "up");
    assert_eq!(count(&heard(&pair, standby), 7), 1, "the way back was open before it was carried");
    pair.ha(standby, "failback").ok();
    serves(&pair, primary);
    returns(&pair, standby);
    all_on_both(&pair, &[1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn what_was_left_on_the_standby_is_not_overwritten_after_the_planned_way_back() {
    let settings =
        Settings::sark().fast_lease().with("cluster", "kind", "\"native\"").with("", "preset", "\"seed\"");
    let Some(pair) = Pair::sark().settings(settings).up() else { return };
    let (primary, standby) = (Host::Master, Host::Slave);
    serves(&pair, primary);
    pair.ha(standby, "replicate").ok();
    leave(&pair, primary, "1000/INBOX", 1);
    pair.await_status(primary, "ready to hand over", seconds(20.0), |status| status.peer() == "up");
    pair.ha(primary, "switchover").ok();
    serves(&pair, standby);
    leave(&pair, standby, "1000/INBOX", 2);
    hear(&pair, standby, "1001");
    // nothing is fetched by a node that serves, whoever asks for it
    pair.ha(standby, "replicate").exits(3);
    pair.await_status(standby, "ready to hand back", seconds(20.0), |status| status.peer() == "up");
    pair.ha(standby, "failback").ok();
    serves(&pair, primary);
    returns(&pair, standby);
    let both = all_on_both(&pair, &[1, 2]);
    assert!(both.contains_key("./1001/Old/msg0000.wav"), "{both:?}");
    assert_eq!(both.len(), 7, "{both:?}");
}
