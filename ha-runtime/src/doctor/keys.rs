//! The pair's key: on the master a file that only its owner reads, on the slave a line that allows one program.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Check;
use crate::context::Context;

/// Where the far end's user is admitted, below the root.
const AUTHORIZED: &str = "/root/.ssh/authorized_keys";
const SECOND: &str = "/root/.ssh/authorized_keys2";
const FILE_MAX: u64 = 1 << 20;

/// The master's private key.
pub(super) fn private_key(context: &Context) -> Check {
    let path = &context.settings.ssh.key;
    let make = format!("run `{} sync-key`", context.profile().program);
    match fs::metadata(path) {
        Err(error) => Check::fail("ssh-key", format!("{}: {error}", path.display()), make),
        Ok(meta) => match meta.permissions().mode() & 0o777 {
            0o600 | 0o400 => Check::ok("ssh-key", format!("{} is there, for its owner only", path.display())),
            mode => Check::fail(
                "ssh-key",
                format!(
                    "{} has mode {mode:04o}: others may use it to become root on the other node",
                    path.display()
                ),
                format!("make it 0600; if it may have been read, delete it, and {make} for a new one"),
            ),
        },
    }
}

/// The file that SARK's page has the key put into. OpenSSH still reads it unless its configuration says otherwise, as Red
/// Hat's does; Debian's announces that it will not.
pub(super) fn second_file(context: &Context) -> Option<Check> {
    let path = context.root.path(SECOND);
    let is_there = fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
    is_there.then(|| {
        Check::warn(
            "authorized-keys2",
            format!("{SECOND}: one sshd does not read it, for another whoever has a key in it is root here"),
            format!(
                "run `{} sync-key` on the other node, which admits its key in {AUTHORIZED}, restricted; then remove {SECOND}",
                context.profile().program
            ),
        )
    })
}

/// The lines for the pair's key on the node that it opens.
pub(super) fn authorized_key(context: &Context) -> Check {
    let profile = context.profile();
    let todo = format!("run `{} sync-key` on the other node, which replaces them", profile.program);
    let text = match super::read_text(&context.root.path(AUTHORIZED), FILE_MAX) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => {
            return Check::warn("authorized-key", format!("{AUTHORIZED}: {error}"), "run `doctor` as root");
        }
    };
    let lines: Vec<(usize, &str)> = (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !line.starts_with('#') && line.ends_with(profile.key_comment))
        .collect();
    if lines.is_empty() {
        return Check::warn(
            "authorized-key",
            format!("{AUTHORIZED} has no line for the pair's key ({})", profile.key_comment),
            format!("run `{} sync-key` on the other node: it cannot reach this one", profile.program),
        );
    }
    let loose: Vec<String> = lines
        .iter()
        .filter_map(|(number, line)| {
            let missing = missing_options(line);
            (!missing.is_empty())
                .then(|| format!("{AUTHORIZED} line {number} has no {}", missing.join(", no ")))
        })
        .collect();
    match loose.as_slice() {
        [] => {
            Check::ok("authorized-key", "the pair's key may run the agent only, and from the other node only")
        }
        loose => {
            Check::fail("authorized-key", format!("{}: who has the key is root here", loose.join("\n")), todo)
        }
    }
}

/// What a line should have before the key's type.
fn missing_options(line: &str) -> Vec<&'static str> {
    let types = ["ssh-", "ecdsa-", "sk-"];
    // options stand first; a line without any begins with the key's type
    let options = if types.iter().any(|kind| line.starts_with(kind)) { "" } else { line };
    let names = option_names(options);
    let has = |name: &str| names.iter().any(|one| one.eq_ignore_ascii_case(name));
    ["restrict", "command", "from"].into_iter().filter(|name| !has(name)).collect()
}

/// Names of options up to the first blank outside quotes (`sshd(8)`, AUTHORIZED_KEYS FILE FORMAT).
fn option_names(line: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let (mut quoted, mut value, mut escaped) = (false, false, false);
    for c in line.chars() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            ' ' | '\t' => break,
            ',' => {
                names.push(String::new());
                value = false;
            }
            '=' => value = true,
            _ if !value => names.last_mut().into_iter().for_each(|name| name.push(c)),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::testing::Place;
    use super::*;

    #[test]
    fn a_key_that_is_missing_or_that_others_read_fails() {
        let place = Place::new();
        let mut context = place.context();
        context.settings.ssh.key = place.path("/root/.ssh/xivo_id_rsa");
        let check = private_key(&context);
        assert_eq!(check.level, Level::Fail);
        assert_eq!(check.todo.unwrap(), "run `wazo-ha sync-key`");
        let path = place.write("/root/.ssh/xivo_id_rsa", "secret");
        for (mode, expected) in
            [(0o600, Level::Ok), (0o400, Level::Ok), (0o644, Level::Fail), (0o660, Level::Fail)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(private_key(&context).level, expected, "{mode:o}");
        }
    }

    #[test]
    fn the_documents_second_file_is_a_warning_as_long_as_it_admits_anybody() {
        let place = Place::new();
        assert_eq!(second_file(&place.context()), None);
        place.write(SECOND, "");
        assert_eq!(second_file(&place.context()), None);
        place.write(SECOND, "ssh-rsa AAAA root@standby\n");
        let check = second_file(&place.context()).unwrap();
        assert_eq!(check.level, Level::Warn);
        assert!(check.todo.unwrap().contains("sync-key"));
    }

    #[test]
    fn a_line_that_makes_the_master_root_here_fails() {
        let place = Place::new();
        let level = || authorized_key(&place.context()).level;
        assert_eq!(level(), Level::Warn, "no file");
        place.write(AUTHORIZED, "ssh-ed25519 AAAA admin@desk\n");
        assert_eq!(level(), Level::Warn, "no line for the pair");
        for (line, expected) in [
            ("ssh-rsa AAAA XiVO HA", Level::Fail),
            (r#"command="wazo-ha agent" ssh-rsa AAAA XiVO HA"#, Level::Fail),
            (r#"restrict,from="192.0.2.11" ssh-rsa AAAA XiVO HA"#, Level::Fail),
            (r#"restrict,command="echo \", from=" ssh-rsa AAAA XiVO HA"#, Level::Fail),
            (r#"restrict,command="wazo-ha agent",from="192.0.2.11" ssh-rsa AAAA XiVO HA"#, Level::Ok),
        ] {
            place.write(AUTHORIZED, &format!("ssh-ed25519 AAAA admin@desk\n{line}\n"));
            let check = authorized_key(&place.context());
            assert_eq!(check.level, expected, "{line}: {}", check.finding);
        }
        place.write(AUTHORIZED, r#"from="192.0.2.11" ssh-rsa AAAA XiVO HA"#);
        let finding = authorized_key(&place.context()).finding;
        assert!(finding.contains("line 1 has no restrict, no command"), "{finding}");
    }
}
