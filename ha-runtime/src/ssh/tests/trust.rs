use std::fs;
use std::process::Command;
use std::time::Duration;

use super::super::known_hosts::fingerprint;
use super::super::{Ssh, SshTarget};
use super::sshd::{Sshd, authorize, far_end, keygen, public, start};
use crate::far::{Far, FarError, Word};

const PATIENCE: Duration = Duration::from_secs(30);

fn know(sshd: &Sshd, text: &str) -> Result<Ssh, FarError> {
    fs::write(sshd.path("known_hosts"), text).unwrap();
    Ssh::connect(&sshd.target(&["far"]))
}

#[test]
fn an_unknown_host_gets_no_credentials() {
    let Some(sshd) = start("") else { return };
    for text in ["", "# nothing\n", "[127.0.0.1]:1 ssh-ed25519 AAAA\n", "not a line at all\n"] {
        let refused = know(&sshd, text).unwrap_err();
        assert!(matches!(refused, FarError::HostKeyUnknown { .. }), "{text:?}: {refused}");
        assert!(refused.to_string().contains("sync-key"), "{refused}");
    }
    fs::remove_file(sshd.path("known_hosts")).unwrap();
    assert!(matches!(Ssh::connect(&sshd.target(&["far"])), Err(FarError::HostKeyUnknown { .. })));
}

#[test]
fn another_host_key_is_refused_with_both_fingerprints_and_the_line() {
    let Some(sshd) = start("") else { return };
    keygen("ed25519", &sshd.path("other"));
    let line = format!("# by hand\n\n{}", sshd.known_host_line("other"));
    let refused = know(&sshd, &line).unwrap_err();
    let FarError::HostKeyChanged(changed) = &refused else { panic!("{refused}") };
    let shown = |key: &str| {
        let output = Command::new("ssh-keygen").arg("-lf").arg(sshd.path(key)).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(changed.offered, format!("ssh-ed25519 {}", shown("host_ed25519")));
    assert_eq!(changed.known, format!("ssh-ed25519 {}", shown("other")));
    assert_eq!(changed.line, 3);
}

#[test]
fn a_revoked_key_is_refused_even_when_another_line_knows_it() {
    let Some(sshd) = start("") else { return };
    let line = sshd.known_host_line("host_ed25519");
    let refused = know(&sshd, &format!("{line}@revoked {line}")).unwrap_err();
    assert!(matches!(&refused, FarError::HostKeyChanged(changed) if changed.line == 2), "{refused}");
}

#[test]
fn the_key_type_that_is_known_is_asked_for() {
    let Some(sshd) = start("") else { return };
    for key in ["host_ed25519", "host_rsa"] {
        know(&sshd, &sshd.known_host_line(key)).unwrap();
    }
}

#[test]
fn hashed_names_and_plain_addresses_are_understood() {
    let Some(sshd) = start("") else { return };
    fs::write(sshd.path("known_hosts"), sshd.known_host_line("host_ed25519")).unwrap();
    let hashed = Command::new("ssh-keygen").arg("-Hf").arg(sshd.path("known_hosts")).output().unwrap();
    assert!(hashed.status.success());
    assert!(fs::read_to_string(sshd.path("known_hosts")).unwrap().starts_with("|1|"));
    Ssh::connect(&sshd.target(&["far"])).unwrap();
    // as OpenSSH: a line without port vouches for the host on any port, but accuses nobody there
    know(&sshd, &format!("10.9.9.9,127.0.0.1 {}", public(&sshd.path("host_ed25519")))).unwrap();
    keygen("ed25519", &sshd.path("other"));
    let refused = know(&sshd, &format!("127.0.0.1 {}", public(&sshd.path("other")))).unwrap_err();
    assert!(matches!(refused, FarError::HostKeyUnknown { .. }), "{refused}");
}

#[test]
fn a_key_that_is_not_admitted_is_named() {
    let Some(sshd) = start("") else { return };
    keygen("ed25519", &sshd.path("other"));
    let target = SshTarget { key: sshd.path("other"), ..sshd.target(&["far"]) };
    let refused = Ssh::connect(&target).unwrap_err();
    assert!(matches!(&refused, FarError::NotAdmitted { key, .. } if *key == target.key), "{refused}");
    let missing = SshTarget { key: sshd.path("none"), ..target };
    assert!(matches!(Ssh::connect(&missing), Err(FarError::Key { .. })));
}

#[test]
fn nobody_at_the_port_is_a_matter_of_the_network() {
    let Some(sshd) = start("") else { return };
    let target = sshd.target(&["far"]);
    drop(sshd);
    let refused = Ssh::connect(&target).unwrap_err();
    // the key's directory is gone as well: the network comes first
    assert!(matches!(refused, FarError::Connect { .. }), "{refused}");
}

#[test]
fn a_restricted_key_starts_the_fixed_words_and_nothing_else() {
    let Some(sshd) = start("") else { return };
    fs::remove_file(sshd.path("home/.ssh/authorized_keys")).unwrap();
    authorize(sshd.directory.path(), "client", &format!("restrict,command=\"{} agent\" ", far_end()));
    let ssh = Ssh::connect(&sshd.target(&["/anything", "agent"])).unwrap();
    assert!(ssh.open(Word::Agent).unwrap().finish(PATIENCE).unwrap().is_success());
    let ending = ssh.open_command(Word::Agent, "cat /etc/passwd".into()).unwrap().finish(PATIENCE).unwrap();
    assert_eq!(
        ending.to_string(),
        "status 2: this key starts `agent`, `relay`, `source` or `lookout` only, not \"/etc/passwd\""
    );
    let mut relay = ssh.open(Word::Relay).unwrap();
    std::io::Write::write_all(&mut relay, b"10.0.0.1 5432\n").unwrap();
    let ending = relay.finish(PATIENCE).unwrap();
    assert!(ending.to_string().starts_with("status 2: relay: "), "{ending}");
}

#[test]
fn a_fingerprint_of_rubbish_is_still_one() {
    assert!(fingerprint(b"\0\0\0\xffshort").starts_with("unknown SHA256:"));
}
