//! What Heartbeat needs of this machine, where it settles who has the address.

use std::fs;

use super::Check;
use crate::cluster::{Charter, heartbeat};
use crate::context::Context;
use crate::settings::Heartbeat;

const UNIT: &str = "heartbeat.service";

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
