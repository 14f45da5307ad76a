//! What Heartbeat needs of this machine, where it settles who has the address.

use std::fs;

use ha_core::health::Verdict;

use super::Check;
use crate::cluster::heartbeat::UNIT;
use crate::cluster::{Charter, heartbeat};
use crate::context::Context;
use crate::settings::Heartbeat;

pub(super) fn package(context: &Context) -> Check {
    match heartbeat::missing(&context.root) {
        None => Check::ok("heartbeat", "Heartbeat is installed"),
        Some(program) => Check::fail(
            "heartbeat",
            format!("{program} is not there: nobody settles which node has the address"),
            "install the package heartbeat on both nodes, or set [cluster] kind = \"native\"",
        ),
    }
}

/// What is written here is what the other node's engine writes, as long as both have the same values.
pub(super) fn files(context: &Context, charter: &Charter, terms: Heartbeat) -> Check {
    let wanted = match heartbeat::wanted(context, charter, terms) {
        Ok(wanted) => wanted,
        Err(failure) => {
            let todo = "do what it says: until then Heartbeat is not started";
            return Check::fail("heartbeat-files", failure.message, todo);
        }
    };
    match heartbeat::differing(&context.root, &wanted) {
        Err(error) => Check::warn("heartbeat-files", error.to_string(), "run `doctor` as root"),
        Ok(differing) if differing.is_empty() => {
            let found = "ha.cf, haresources, authkeys and the resource script are as the settings say";
            Check::ok("heartbeat-files", found)
        }
        Ok(differing) => {
            let paths: Vec<&str> = differing.iter().map(|file| file.path).collect();
            Check::warn(
                "heartbeat-files",
                format!("not as the settings and the product's own file say: {}", paths.join(", ")),
                format!(
                    "change those and not these files; `systemctl restart {}` writes them, and gives the address to the other node",
                    context.profile().program
                ),
            )
        }
    }
}

/// Nodes whose names, key or port differ do not hear each other, and both serve.
pub(super) fn peer(context: &Context, charter: &Charter) -> Check {
    let program = context.profile().program;
    match heartbeat::hears(context, charter) {
        (_, None) => Check::fail(
            "heartbeat-peer",
            "Heartbeat does not run here: this node takes nothing over",
            format!("start the engine, which starts it: `systemctl start {program}`"),
        ),
        (other, Some(Verdict::Up | Verdict::Degraded)) => {
            Check::ok("heartbeat-peer", format!("Heartbeat hears {other}"))
        }
        (other, Some(Verdict::Down | Verdict::Unknown)) => Check::fail(
            "heartbeat-peer",
            format!("Heartbeat does not hear {other}: both nodes serve if that one lives"),
            format!(
                "see that the engine runs there, that `uname -n` says {other} there, that both nodes have the same names, key and \
                 [cluster] port, and that UDP comes through"
            ),
        ),
    }
}

/// Heartbeat that comes before the engine finds nobody who could start telephony.
pub(super) fn at_boot(context: &Context) -> Check {
    let wants = format!("/etc/systemd/system/multi-user.target.wants/{UNIT}");
    match fs::symlink_metadata(context.root.path(&wants)) {
        Err(_) => Check::ok("heartbeat-at-boot", "the engine starts Heartbeat, and nothing else does"),
        Ok(_) => Check::warn(
            "heartbeat-at-boot",
            format!("{wants} is there: Heartbeat may take the address before the engine can start telephony"),
            format!("run `systemctl disable {UNIT}`; the engine starts it"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ha_adapters_sark::Sark;

    use super::super::Level;
    use super::super::testing::{Place, level};
    use super::*;

    fn place() -> Place {
        let place = Place::new();
        let node = rustix::system::uname();
        let node = node.nodename().to_string_lossy().into_owned();
        place.write(
            "/etc/asha.conf",
            &format!("HACLUSTERIP=192.0.2.100\nHAPRINODE={node}\nHASECNODE=sark2\n"),
        );
        place.write("/etc/pbx-ha/role.json", r#"{"node_type": "master", "remote_address": "10.77.0.12"}"#);
        let key = place.write("/etc/pbx-ha/cluster.key", "0123456789abcdef0123456789abcdef");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        place.settings("[cluster]\nkind = \"heartbeat\"\ninterface = \"nowhere0\"\n");
        place
    }

    fn examine(place: &Place) -> Vec<Check> {
        let context = Context::load(&Sark, place.root(), None).unwrap();
        super::super::address::checks(&context, &context.role().unwrap())
    }

    fn program(place: &Place, path: &str, script: &str) {
        let path = place.write(path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_package_that_is_missing_and_a_node_that_is_not_heard_fail() {
        let place = place();
        let found = examine(&place);
        assert_eq!(level(&found, "heartbeat"), Level::Fail);
        assert_eq!(level(&found, "heartbeat-peer"), Level::Fail);
        for name in ["hb_standby", "hb_takeover", "ResourceManager"] {
            program(&place, &format!("/usr/share/heartbeat/{name}"), "");
        }
        for (word, expected) in
            [("active", Level::Ok), ("dead", Level::Fail), ("none of that name", Level::Fail)]
        {
            program(
                &place,
                "/usr/bin/cl_status",
                &format!("echo {word}; [ $1 = hbstatus ] || [ $2 = sark2 ]"),
            );
            let found = examine(&place);
            assert_eq!(level(&found, "heartbeat"), Level::Ok);
            assert_eq!(level(&found, "heartbeat-peer"), expected, "{word}");
        }
    }

    #[test]
    fn files_that_cannot_be_or_are_others_and_a_start_at_boot_are_told() {
        let place = place();
        let found = examine(&place);
        assert_eq!(level(&found, "heartbeat-files"), Level::Fail);
        assert_eq!(level(&found, "heartbeat-at-boot"), Level::Ok);

        let context = Context::load(&Sark, place.root(), None).unwrap();
        let mut charter = Charter::of(&context, &context.role().unwrap()).unwrap().unwrap();
        (charter.address, charter.settings.interface) = ("127.1.2.3".parse().unwrap(), "lo".to_owned());
        let terms = Heartbeat {
            keepalive: std::time::Duration::from_secs(1),
            deadtime: std::time::Duration::from_secs(10),
            initdead: std::time::Duration::from_secs(120),
        };
        assert_eq!(files(&context, &charter, terms).level, Level::Warn, "none is there");
        for file in heartbeat::wanted(&context, &charter, terms).unwrap().files {
            let path = place.write(file.path, &file.text);
            fs::set_permissions(path, fs::Permissions::from_mode(file.mode)).unwrap();
        }
        assert_eq!(files(&context, &charter, terms).level, Level::Ok);
        place.write("/etc/ha.d/haresources", "sark2 IPaddr2::10.0.0.1/24/eth0\n");
        let told = files(&context, &charter, terms);
        assert_eq!(told.level, Level::Warn);
        assert!(told.finding.ends_with(": /etc/ha.d/haresources"), "{}", told.finding);

        place.write("/etc/systemd/system/multi-user.target.wants/heartbeat.service", "");
        assert_eq!(level(&examine(&place), "heartbeat-at-boot"), Level::Warn);
    }
}
