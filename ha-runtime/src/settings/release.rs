//! Which release of the distribution the settings are for.

use std::path::Path;

use ha_core::Distribution;
use serde::Deserialize;

use super::error::{self, Invalid};
use super::{SettingsError, read};

/// The one key that is looked at before the others: what they default to depends on it.
#[derive(Default, Deserialize)]
struct Head {
    release: Option<String>,
}

/// The distribution as of the release that the file names; without the key (or without a file) the one that is given.
///
/// # Errors
///
/// The file cannot be read, or names a release that there is not; the error names those that there are.
pub fn release(
    path: &Path,
    base: &'static dyn Distribution,
) -> Result<&'static dyn Distribution, SettingsError> {
    let Some(text) = read(path)? else { return Ok(base) };
    let head: Head = toml::from_str(&text).map_err(|err| error::from_parser(path, &text, &err))?;
    let Some(wanted) = head.release else { return Ok(base) };
    let releases = base.releases();
    let found = releases.iter().find(|(word, _)| *word == wanted);
    found.map(|(_, distribution)| *distribution).ok_or_else(|| {
        let known: Vec<String> = releases.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let instead = match known.as_slice() {
            [] => "leave the key out: all releases are alike".to_owned(),
            known => format!("give {}, or leave the key out for today's", known.join(" or ")),
        };
        let name = base.profile().name;
        let why = format!("\"{wanted}\" is no release of {name} that is treated differently: {instead}");
        Invalid { key: "release", why }.at(path, &text)
    })
}
