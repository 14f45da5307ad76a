//! What a returning node offers, against a voicemail of ours: refused, or a plan that overwrites nothing newer, names only
//! what was offered, and is the same when it is sent.

#![no_main]

#[path = "../spools.rs"]
mod spools;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use ha_core::carry::Carried;
use ha_core::replication::path::RelPath;
use ha_core::voicemail::{Base, NUMBERS, Plan, Spool, Step, plan};
use libfuzzer_sys::fuzz_target;

static THEIRS: LazyLock<Spool> = LazyLock::new(spools::own);

fuzz_target!(|data: &[u8]| {
    let Ok((mine, base)) = serde_json::from_slice::<(Spool, Base)>(data) else { return };
    let (offered, there) = (paths(&mine), paths(&THEIRS));
    let whole = plan(&base, &mine, &THEIRS);
    for step in &whole.steps {
        match step {
            Step::Put { from, to } => {
                assert!(mine.message_at(from).is_some(), "{step}");
                assert_eq!(from.mailbox, to.mailbox, "{step}");
                let parts = mine.message_at(from).into_iter().flat_map(|message| message.parts.keys());
                let mut into = parts.filter_map(|extension| to.path(extension));
                assert!(to.number < NUMBERS && into.all(|path| !there.contains(&path)), "{step}");
            }
            Step::Move { from, to, identity } => {
                let message = THEIRS.message_at(from).unwrap_or_else(|| panic!("{step}"));
                assert_eq!((&message.identity, &from.mailbox), (identity, &to.mailbox), "{step}");
            }
            Step::Write { path, over } => {
                assert!(mine.files.0.contains_key(path), "{step}");
                assert_eq!(THEIRS.files.0.get(path), over.as_ref(), "{step}");
            }
            Step::SetAside { paths, .. } => {
                assert!(paths.iter().all(|path| offered.contains(path)), "{step}")
            }
        }
    }
    let nothing = whole.clone().limited_to(Carried::Nothing, &mine);
    assert!(nothing.steps.iter().all(|step| matches!(step, Step::SetAside { .. })), "{nothing}");
    let sent = serde_json::to_vec(&whole).expect("it has a text");
    assert_eq!(serde_json::from_slice::<Plan>(&sent).expect("it is read as it was written"), whole);
});

/// Every file of a spool.
fn paths(spool: &Spool) -> BTreeSet<RelPath> {
    let files = spool.files.0.keys().chain(spool.torn.0.keys()).cloned();
    files.chain(spool.messages.iter().flat_map(|message| message.paths())).collect()
}
