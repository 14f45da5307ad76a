//! One setting changed in its file, everything else as it was.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{self, Place};
use super::{Policy, SettingsError, raw};

/// The text with `[failback] policy` set; every other byte is as it was.
///
/// # Errors
///
/// The text is no settings file, or is written in a way in which the key has no place that is known here.
pub fn with_policy(text: &str, path: &Path, policy: Policy) -> Result<String, SettingsError> {
    let file: raw::File = toml::from_str(text).map_err(|err| error::from_parser(path, text, &err))?;
    let mut wanted = file.clone();
    wanted.failback.get_or_insert_default().policy = Some(policy);
    if file == wanted {
        return Ok(text.to_owned());
    }
    // whether a place is right depends on how the section is written: each is tried, and read again
    let fits = |candidate: &String| toml::from_str::<raw::File>(candidate).is_ok_and(|read| read == wanted);
    candidates(text, word(policy)).into_iter().find(fits).ok_or_else(|| {
        let key = "failback.policy".to_owned();
        let place = Place { path: path.to_owned(), line: None, key };
        let why = format!("could not be set: write policy = \"{}\" below [failback] by hand", word(policy));
        SettingsError::Invalid { place, why }
    })
}

fn word(policy: Policy) -> &'static str {
    match policy {
        Policy::Automatic => "automatic",
        Policy::Manual => "manual",
        Policy::Window => "window",
    }
}

/// The text with the key at each place where it may belong, the likeliest first.
fn candidates(text: &str, word: &str) -> Vec<String> {
    let pair = format!("policy = \"{word}\"");
    let put = |at: usize, until: usize, new: &str| format!("{}{new}{}", &text[..at], &text[until..]);
    let line_start = |at: usize| text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line_end = |at: usize| text[at..].find('\n').map_or(text.len(), |length| at + length);
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    let section = table.get_ref().iter().find(|(name, _)| name.get_ref() == "failback");
    let Some((name, DeValue::Table(keys))) = section.map(|(name, value)| (name, value.get_ref())) else {
        let gap = match text {
            "" => "",
            text if text.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        return vec![format!("{text}{gap}[failback]\n{pair}\n")];
    };
    if let Some((_, value)) = keys.iter().find(|(name, _)| name.get_ref() == "policy") {
        let place = value.span();
        return vec![put(place.start, place.end, &format!("\"{word}\""))];
    }
    let header_end = line_end(name.span().end);
    let mut all = vec![put(header_end, header_end, &format!("\n{pair}"))];
    if let Some(first) = keys.iter().map(|(name, _)| name.span().start).min() {
        let line = line_start(first);
        all.push(put(first, first, &format!("{pair}, ")));
        all.push(put(line, line, &format!("failback.{pair}\n")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, policy: Policy) -> String {
        with_policy(text, Path::new("/etc/pbx-ha/pbx-ha.toml"), policy).unwrap()
    }

    #[test]
    fn the_policy_is_set_however_the_file_is_written() {
        for (text, wanted) in [
            ("", "[failback]\npolicy = \"manual\"\n"),
            ("# mine", "# mine\n\n[failback]\npolicy = \"manual\"\n"),
            ("[ssh]\nport = 23\n", "[ssh]\nport = 23\n\n[failback]\npolicy = \"manual\"\n"),
            (
                "[failback] # why\npolicy = 'automatic' # so\nhold = \"1s\"",
                "[failback] # why\npolicy = \"manual\" # so\nhold = \"1s\"",
            ),
            ("[failback]", "[failback]\npolicy = \"manual\""),
            (
                "[failback]\n# gently\nhold = \"9s\"\n[ssh]\nport = 23\n",
                "[failback]\npolicy = \"manual\"\n# gently\nhold = \"9s\"\n[ssh]\nport = 23\n",
            ),
            ("failback = { hold = \"9s\" }\n", "failback = { policy = \"manual\", hold = \"9s\" }\n"),
            (
                "preset = \"seed\"\nfailback.hold = \"9s\"\n",
                "preset = \"seed\"\nfailback.policy = \"manual\"\nfailback.hold = \"9s\"\n",
            ),
        ] {
            let once = set(text, Policy::Manual);
            assert_eq!(once, wanted);
            assert_eq!(set(&once, Policy::Manual), once);
            assert_eq!(set(&set(&once, Policy::Automatic), Policy::Manual), once);
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_a_place_that_is_unknown_named() {
        let refusal = |text| with_policy(text, Path::new("/f"), Policy::Manual).unwrap_err().to_string();
        assert!(refusal("[failback]\nholt = \"1s\"").starts_with("/f:2: failback.holt: unknown field"));
        assert_eq!(
            refusal("failback = {}\n"),
            "/f: failback.policy: could not be set: write policy = \"manual\" below [failback] by hand"
        );
    }
}
