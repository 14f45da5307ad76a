use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::super::connection::{Connection, SocketOptions};
use super::super::{
    Ask, KeySync, KeySyncError, KeySynced, NewHost, Origin, Ssh, SshTarget, agent_starts, sync_key,
};
use super::sshd::{Sshd, authorize, far_end, keygen, public, start};
use crate::far::{FarError, Word};

const PATIENCE: Duration = Duration::from_secs(30);

/// A person with fixed answers, who remembers the questions.
#[derive(Default)]
struct Person {
    trusts: bool,
    passwords: Vec<&'static str>,
    asked: Vec<String>,
}

impl Ask for Person {
    fn trusts(&mut self, _: SocketAddr, fingerprint: &str) -> io::Result<bool> {
        self.asked.push(fingerprint.to_owned());
        Ok(self.trusts)
    }

    fn password(&mut self, user: &str, host: IpAddr) -> io::Result<Option<String>> {
        self.asked.push(format!("{user}@{host}"));
        Ok(self.passwords.pop().map(str::to_owned))
    }
}

/// A pair of which this end has a key of its own user that the far end admits, but no pair key yet.
fn pair(sshd: &Sshd) -> SshTarget {
    let home = sshd.path("near/.ssh");
    fs::create_dir_all(&home).unwrap();
    fs::copy(sshd.path("client"), home.join("id_ed25519")).unwrap();
    SshTarget { key: sshd.path("near/.ssh/xivo_id_rsa"), ..sshd.target(&[&far_end(), "agent"]) }
}

fn sync(sshd: &Sshd, target: &SshTarget, person: &mut Person) -> Result<KeySynced, KeySyncError> {
    let home = sshd.path("near");
    let request = KeySync { target, comment: "XiVO HA", home: &home, new_host: NewHost::Ask };
    sync_key(&request, person, &mut agent_starts)
}

/// The lines for the pair's key at the far end.
fn lines(sshd: &Sshd, target: &SshTarget) -> Vec<String> {
    let public = public(&target.key);
    let blob = public.split(' ').nth(1).unwrap();
    sshd.authorized_keys().lines().filter(|line| line.contains(blob)).map(str::to_owned).collect()
}

#[test]
fn the_key_is_installed_once_and_restricted() {
    let Some(sshd) = start("") else { return };
    let target = pair(&sshd);
    let first = sync(&sshd, &target, &mut Person::default()).unwrap();
    assert_eq!((first.key, first.installed), (Origin::Made, true));
    let second = sync(&sshd, &target, &mut Person::default()).unwrap();
    assert_eq!((second.key, second.installed), (Origin::Found, false));
    let expected =
        format!("restrict,command=\"{} agent\",from=\"127.0.0.1\" {}", far_end(), public(&target.key));
    assert_eq!(lines(&sshd, &target), [expected.trim_end()]);
    assert!(sshd.authorized_keys().starts_with(&public(&sshd.path("client"))), "the other line is gone");
}

#[test]
fn an_installed_key_opens_nothing_but_the_fixed_words() {
    let Some(sshd) = start("AllowTcpForwarding yes") else { return };
    let target = pair(&sshd);
    sync(&sshd, &target, &mut Person::default()).unwrap();
    let ssh = Ssh::connect(&target).unwrap();
    let answer = ssh.open_command(Word::Agent, "touch /tmp/nothing; sh".into()).unwrap();
    let ending = answer.finish(PATIENCE).unwrap();
    assert!(
        ending
            .to_string()
            .starts_with("status 2: this key starts `agent`, `relay`, `source` or `lookout` only"),
        "{ending}"
    );

    let connection = Connection::open(&target, SocketOptions::default()).unwrap();
    connection.verify_host().unwrap();
    connection.authenticate().unwrap();
    assert!(connection.session.channel_direct_tcpip("127.0.0.1", sshd.port, None).is_err());
    assert!(connection.session.channel_forward_listen(0, None, None).is_err());
    let mut channel = connection.session.channel_session().unwrap();
    assert!(channel.request_pty("xterm", None, None).is_err());
}

#[test]
fn a_line_without_restrictions_is_replaced_by_means_of_itself() {
    let Some(sshd) = start("") else { return };
    let target = pair(&sshd);
    keygen("rsa", &target.key);
    fs::copy(&target.key, sshd.path("pair")).unwrap();
    fs::copy(target.key.with_extension("pub"), sshd.path("pair.pub")).unwrap();
    fs::remove_file(sshd.path("home/.ssh/authorized_keys")).unwrap();
    authorize(sshd.directory.path(), "pair", "");
    let synced = sync(&sshd, &target, &mut Person::default()).unwrap();
    assert_eq!((synced.key, synced.installed), (Origin::Found, true));
    let lines = lines(&sshd, &target);
    assert!(lines.len() == 1 && lines[0].starts_with("restrict,command="), "{lines:?}");
}

#[test]
fn a_line_for_another_program_is_replaced_by_means_of_another_key() {
    let Some(sshd) = start("") else { return };
    let target = pair(&sshd);
    sync(&sshd, &target, &mut Person::default()).unwrap();
    let keys = sshd.authorized_keys().replace("far-end agent", "far-end-of-old agent");
    fs::write(sshd.path("home/.ssh/authorized_keys"), keys).unwrap();
    assert!(sync(&sshd, &target, &mut Person::default()).unwrap().installed);
    assert_eq!(lines(&sshd, &target).len(), 1);
    agent_starts(&Ssh::connect(&target).unwrap()).unwrap();
}

#[test]
fn success_is_never_told_of_an_agent_that_does_not_start() {
    let Some(sshd) = start("") else { return };
    let target = SshTarget { command: vec!["/nonexistent/far".into(), "agent".into()], ..pair(&sshd) };
    let failed = sync(&sshd, &target, &mut Person::default()).unwrap_err();
    assert!(matches!(&failed, KeySyncError::NotVerified(why) if why.contains("status 127")), "{failed}");
}

#[test]
fn success_is_never_told_of_a_line_that_is_not_in_force() {
    // The script's home is not where this sshd looks.
    let Some(sshd) = start("SetEnv HOME={dir}/near") else { return };
    let target = pair(&sshd);
    let failed = sync(&sshd, &target, &mut Person::default()).unwrap_err();
    assert!(matches!(&failed, KeySyncError::NotVerified(why) if why.contains("does not admit")), "{failed}");
}

#[test]
fn an_unknown_host_is_asked_about_once_and_recorded() {
    let Some(sshd) = start("") else { return };
    let target = SshTarget { known_hosts: sshd.path("near/new/known_hosts"), ..pair(&sshd) };
    let declined = sync(&sshd, &target, &mut Person::default()).unwrap_err();
    assert!(matches!(declined, KeySyncError::HostDeclined { .. }), "{declined}");
    assert!(!target.known_hosts.exists());

    let mut person = Person { trusts: true, ..Person::default() };
    sync(&sshd, &target, &mut person).unwrap();
    assert_eq!(person.asked.len(), 1, "{:?}", person.asked);
    assert!(person.asked[0].contains("SHA256:"));
    assert_eq!(fs::metadata(&target.known_hosts).unwrap().permissions().mode() & 0o777, 0o600);
    Ssh::connect(&target).unwrap();
}

#[test]
fn a_new_host_is_recorded_behind_a_last_line_without_its_end() {
    let Some(sshd) = start("") else { return };
    let target = pair(&sshd);
    fs::write(&target.known_hosts, "10.0.0.9 ssh-rsa AAAA").unwrap();
    sync(&sshd, &target, &mut Person { trusts: true, ..Person::default() }).unwrap();
    let text = fs::read_to_string(&target.known_hosts).unwrap();
    assert!(text.starts_with(&format!("10.0.0.9 ssh-rsa AAAA\n[127.0.0.1]:{} ", sshd.port)), "{text}");
}

#[test]
fn a_changed_host_is_refused_without_a_question() {
    let Some(sshd) = start("") else { return };
    let target = pair(&sshd);
    keygen("ed25519", &sshd.path("other"));
    fs::write(&target.known_hosts, sshd.known_host_line("other")).unwrap();
    let mut person = Person { trusts: true, passwords: vec!["secret"], ..Person::default() };
    let refused = sync(&sshd, &target, &mut person).unwrap_err();
    assert!(matches!(refused, KeySyncError::Far(FarError::HostKeyChanged(_))), "{refused}");
    assert!(person.asked.is_empty());
}

#[test]
fn who_has_no_way_in_is_told_what_the_far_end_offers() {
    let Some(sshd) = start("") else { return };
    let target = pair(&sshd);
    fs::remove_file(sshd.path("near/.ssh/id_ed25519")).unwrap();
    let refused = sync(&sshd, &target, &mut Person::default()).unwrap_err();
    assert!(
        matches!(&refused, KeySyncError::NotAdmitted { methods, .. } if methods == "publickey"),
        "{refused}"
    );
    // the key stays for the next try
    assert!(target.key.is_file());
}

#[test]
fn a_wrong_password_is_asked_for_three_times() {
    let Some(sshd) = start("PasswordAuthentication yes\nPermitRootLogin yes") else { return };
    let target = pair(&sshd);
    fs::remove_file(sshd.path("near/.ssh/id_ed25519")).unwrap();
    let mut person = Person { passwords: vec!["d", "c", "b", "a"], ..Person::default() };
    let refused = sync(&sshd, &target, &mut person).unwrap_err();
    assert!(matches!(refused, KeySyncError::NotAdmitted { .. }), "{refused}");
    assert_eq!(person.asked.len(), 3);
}
