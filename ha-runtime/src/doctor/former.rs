//! The product's own engine, which must not go on beside this one.

use std::fs;
use std::io;
use std::path::Path;

use super::{Check, read_text};
use crate::context::Context;

/// Where lines are that start something by themselves.
const FILES: [&str; 3] = ["/etc/inittab", "/etc/crontab", "/var/spool/cron/root"];
const DIRECTORIES: [&str; 2] = ["/etc/cron.d", "/var/spool/cron/crontabs"];
const FILE_MAX: u64 = 1 << 20;

/// Whether cron or init starts it. It is called as its file of settings is; `None`: the product has none.
pub(super) fn engine(context: &Context) -> Option<Check> {
    let settings = Path::new(context.profile().conf_file?);
    let name = settings.file_stem()?.to_str()?;
    Some(match lines(context, name) {
        Err(why) => Check::warn("former-engine", why, "run `doctor` as root"),
        Ok(found) if found.is_empty() => {
            Check::ok("former-engine", format!("no line of cron or init starts {name}"))
        }
        Ok(found) => Check::fail(
            "former-engine",
            format!("{name} is started by {}: it copies over what this engine carries", found.join(", ")),
            "take these lines out, on both nodes",
        ),
    })
}

/// The lines that name it. Err: what cannot be read, and why.
fn lines(context: &Context, name: &str) -> Result<Vec<String>, String> {
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut paths: Vec<_> = FILES.map(|path| context.root.path(path)).into();
    for directory in DIRECTORIES {
        let directory = context.root.path(directory);
        match fs::read_dir(&directory) {
            Ok(entries) => paths.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&directory, error)),
        }
    }
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let text = read_text(&path, FILE_MAX).map_err(|error| failed(&path, error))?.unwrap_or_default();
        let lines = (1..).zip(text.lines()).filter(|(_, line)| starts(line, name));
        found.extend(lines.map(|(number, _)| format!("{} line {number}", path.display())));
    }
    Ok(found)
}

/// Whether a line that is no comment names it as a word, and not only its settings.
fn starts(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    let goes_on = |next: Option<char>| next.is_some_and(char::is_alphanumeric);
    let mut places = line.match_indices(name).map(|(at, _)| (&line[..at], &line[at + name.len()..]));
    let names = |(before, after): (&str, &str)| {
        !goes_on(before.chars().next_back()) && !goes_on(after.chars().next()) && !after.starts_with(".conf")
    };
    !line.starts_with('#') && places.any(names)
}

#[cfg(test)]
mod tests {
    use ha_adapters_sark::Sark;
    use ha_adapters_wazo::Wazo;

    use super::super::Level;
    use super::super::testing::Place;
    use super::*;

    #[test]
    fn a_line_that_starts_the_products_own_engine_fails_and_names_itself() {
        let place = Place::new();
        let examine = |place: &Place| {
            let context = Context::load(&Sark, place.root(), None).unwrap();
            engine(&context).unwrap()
        };
        assert_eq!(examine(&place).level, Level::Ok);
        place.write(
            "/etc/cron.d/backup",
            "# asha was here\n0 3 * * * natasha cp /etc/asha.conf /home/sasha\n",
        );
        assert_eq!(examine(&place).level, Level::Ok);
        place.write("/etc/inittab", "\nwd:345:respawn:/opt/asha/watchdog\n");
        place.write("/var/spool/cron/root", "* * * * * /usr/sbin/asha sync\n");
        let check = examine(&place);
        assert_eq!(check.level, Level::Fail);
        for words in ["/etc/inittab line 2", "/var/spool/cron/root line 1"] {
            assert!(check.finding.contains(words), "{}", check.finding);
        }
    }

    #[test]
    fn a_product_whose_engine_is_known_by_its_files_needs_no_such_look() {
        let context = Context::load(&Wazo, Place::new().root(), None).unwrap();
        assert_eq!(engine(&context), None);
    }
}
