//! The scripts that this program stands in for, when it is called by their names.

use std::ffi::{OsStr, OsString};

use ha_core::profile::Script;

/// The verb that does what the script did. Err: its usage.
pub(super) fn translate(name: &str, script: Script, arguments: &[OsString]) -> Result<Vec<OsString>, String> {
    let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    // the scripts know no options but one
    let option = words.iter().any(|word| word.as_encoded_bytes().starts_with(b"-") && *word != "-i");
    let words = if option { Vec::from([OsStr::new(""), OsStr::new("")]) } else { words };
    let verb: Vec<&OsStr> = match (script, words.as_slice()) {
        (Script::CheckMaster, [ip]) => vec![OsStr::new("check-master"), ip],
        (Script::CheckMaster, _) => return Err(format!("usage: {name} <master_ip>")),
        (Script::ManageServices, [action]) if *action == "start" || *action == "stop" => {
            vec![OsStr::new("services"), action]
        }
        (Script::ManageServices, _) => return Err(format!("usage: {name} start|stop")),
        (Script::ReplicateDatabase, [ip]) => {
            vec![OsStr::new("replicate"), OsStr::new("database"), OsStr::new("--slave"), ip]
        }
        (Script::ReplicateDatabase, _) => return Err(format!("usage: {name} <slave_ip>")),
        (Script::Sync, []) => vec![OsStr::new("replicate"), OsStr::new("files")],
        (Script::Sync, [flag]) if *flag == "-i" => vec![OsStr::new("sync-key")],
        (Script::Sync, _) => return Err(format!("usage: {name} [-i]")),
    };
    Ok(std::iter::once(OsStr::new(name)).chain(verb).map(OsStr::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(script: Script, arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let words = translate("script", script, &arguments)?;
        Ok(words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_script_becomes_its_verb() {
        assert_eq!(said(Script::CheckMaster, &["10.0.0.1"]).unwrap(), "script check-master 10.0.0.1");
        assert_eq!(said(Script::ManageServices, &["stop"]).unwrap(), "script services stop");
        assert_eq!(
            said(Script::ReplicateDatabase, &["10.0.0.2"]).unwrap(),
            "script replicate database --slave 10.0.0.2"
        );
        assert_eq!(said(Script::Sync, &[]).unwrap(), "script replicate files");
        assert_eq!(said(Script::Sync, &["-i"]).unwrap(), "script sync-key");
    }

    #[test]
    fn a_script_without_its_argument_says_how_to_use_it() {
        assert_eq!(said(Script::CheckMaster, &[]).unwrap_err(), "usage: script <master_ip>");
        assert_eq!(said(Script::ManageServices, &["restart"]).unwrap_err(), "usage: script start|stop");
        assert_eq!(said(Script::ReplicateDatabase, &[]).unwrap_err(), "usage: script <slave_ip>");
        assert_eq!(said(Script::Sync, &["-x"]).unwrap_err(), "usage: script [-i]");
    }
}
