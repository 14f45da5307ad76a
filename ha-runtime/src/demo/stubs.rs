//! The PBX's programs, as far as the engine calls them: small shell scripts below a node's root.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ha_core::Profile;

use crate::root::Root;

/// What every script begins with.
const HEAD: &str = r#"#!/bin/sh
# Stands in for a program of the PBX.
echo "${0##*/} $*" >>@log@
"#;

/// The program that the engine asks whether telephony runs is the one that starts and stops it.
const SERVICE: &str = r#"
alive() {
    pid=$(cat @pid_file@ 2>/dev/null) && [ -n "$pid" ] || return 1
    stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
    case "${stat##*) }" in Z* | X*) return 1 ;; esac
}

start() {
    [ -e @disabled@ ] && return 0
    alive && return 0
    rm -f @pid_file@
    @telephony@ </dev/null >>@log@ 2>&1 &
    tries=0
    until [ -s @pid_file@ ]; do
        tries=$((tries + 1))
        [ "$tries" -gt 200 ] && { echo "telephony does not start: $(tail -n 1 @log@)" >&2; return 1; }
        sleep 0.05
    done
}

stop() {
    alive || return 0
    kill "$pid"
    tries=0
    while alive; do
        tries=$((tries + 1))
        [ "$tries" -gt 200 ] && return 1
        sleep 0.05
    done
    rm -f @pid_file@
}

case "$1" in
status | -rx) alive ;;
enable) rm -f @disabled@ ;;
disable) : >@disabled@ ;;
start) start ;;
stop) stop ;;
restart) stop && start ;;
esac
"#;

/// The machine's own program, which finds the others below the root first.
const PASS_ON: &str = r#"
exec "/usr/bin/${0##*/}" "$@"
"#;

/// Telephony as a unit: the program that starts and stops it, and the one that asks it.
const UNITS: [&str; 2] = ["systemctl", "asterisk"];

/// Writes every program that the distribution's lists name, where systemd starts and stops telephony; and the one that is
/// run after data have come.
pub(super) fn write_units(
    root: &Root,
    profile: &Profile,
    telephony: &str,
    afterwards: Option<&str>,
) -> io::Result<()> {
    let status = [profile.services.status];
    let lists = [profile.services.start, profile.services.stop, &status];
    let named = lists.into_iter().flatten().filter_map(|step| step.argv.first().copied());
    let names: BTreeSet<&str> = named.chain(UNITS).chain(afterwards).collect();
    for name in names {
        let text = match name {
            name if UNITS.contains(&name) => SERVICE,
            "env" => PASS_ON,
            _ => "",
        };
        program_of(root, profile, name, text, telephony)?;
    }
    Ok(())
}

/// Writes every program that the distribution's lists name.
pub(super) fn write(
    root: &Root,
    profile: &Profile,
    program: &Path,
    until: u32,
    listen: SocketAddr,
) -> io::Result<()> {
    let service = profile.services.status.argv.first().copied().unwrap_or_default();
    let pid_file = quoted(&root.path(profile.observe.pid_file));
    let telephony = format!(
        "{} demo-part --until {until} telephony --listen {listen} --pid-file {pid_file}",
        quoted(program)
    );
    let lists = [profile.services.start, profile.services.stop, profile.restart];
    let names: BTreeSet<&str> =
        lists.into_iter().flatten().filter_map(|step| step.argv.first().copied()).collect();
    for name in names.into_iter().chain([service]) {
        program_of(root, profile, name, if name == service { SERVICE } else { "" }, &telephony)?;
    }
    Ok(())
}

/// One program, with what stands behind its name.
fn program_of(root: &Root, profile: &Profile, name: &str, text: &str, telephony: &str) -> io::Result<()> {
    let disabled = root.path(profile.observe.disabled_file.unwrap_or("/run/telephony-disabled"));
    let text = format!("{HEAD}{text}")
        .replace("@log@", &quoted(&root.path(LOG)))
        .replace("@disabled@", &quoted(&disabled))
        .replace("@telephony@", telephony)
        .replace("@pid_file@", &quoted(&root.path(profile.observe.pid_file)));
    let path = if name.contains('/') { root.path(name) } else { root.path("/usr/bin").join(name) };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
}

/// Where the scripts write that they were called.
pub(super) const LOG: &str = "/var/log/called";

/// One word for a shell.
pub(super) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        assert_eq!(quoted(Path::new("/tmp/it's here")), r"'/tmp/it'\''s here'");
    }
}
