//! The backup fields of every registrar: where phones go when the first server is silent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::http::{Session, Target, id_of};
use super::{Change, PbxError, Plan};

/// The same two fields under each service's names.
const CONFD: [&str; 2] = ["backup_host", "proxy_backup_host"];
const PROVD: [&str; 2] = ["registrar_backup", "proxy_backup"];

/// The stored document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stored {
    /// What the fields were last set to.
    set: String,
    /// By id; a field that is not here was not there.
    registrars: BTreeMap<String, BTreeMap<String, Value>>,
}

pub(super) fn plan(
    session: &Session<'_>,
    address: Option<IpAddr>,
    stored: Option<&Value>,
) -> Result<Plan, PbxError> {
    let stored: Option<Stored> = stored
        .cloned()
        .map(serde_json::from_value)
        .transpose()
        .map_err(|err| PbxError::Answer { what: "the stored registrars".to_owned(), why: err.to_string() })?;
    let mut kept = stored.as_ref().map(|stored| stored.registrars.clone()).unwrap_or_default();
    let mut changes = Vec::new();
    for Registrar { id, provd, fields, before } in registrars(session)? {
        let mut after = before.clone();
        match address {
            Some(address) => {
                let set = stored.as_ref().map(|stored| stored.set.as_str());
                kept.entry(id.clone()).or_insert_with(|| former(&before, fields, set));
                fields.iter().for_each(|field| drop(after.insert((*field).to_owned(), json!(address))));
            }
            None => restore(&mut after, fields, stored.as_ref(), &id),
        }
        if after == before {
            continue;
        }
        changes.push(match provd {
            None => Change { target: Target::Registrar(id), before: before.into(), after: after.into() },
            Some(version) => Change {
                target: Target::ProvdConfig(version, id),
                before: json!({ "config": before }),
                after: json!({ "config": after }),
            },
        });
    }
    let store = address.map(|address| {
        let kept = Stored { set: address.to_string(), registrars: kept };
        serde_json::to_value(kept).expect("maps with text keys are JSON")
    });
    Ok(Plan { changes, store })
}

/// One registrar as it is.
struct Registrar {
    id: String,
    /// The version in provd's paths; `None`: it is confd's.
    provd: Option<String>,
    /// The two backup fields' names.
    fields: [&'static str; 2],
    /// Whole: a PUT may replace all of it.
    before: Map<String, Value>,
}

fn registrars(session: &Session<'_>) -> Result<Vec<Registrar>, PbxError> {
    let (fields, items, provd) = match session.items("/registrars")? {
        Some(items) => (CONFD, items, None),
        None => {
            let (version, items) = session.provd_registrars()?;
            (PROVD, items, Some(version))
        }
    };
    let mut registrars = Vec::new();
    for item in items {
        let id = id_of(&item, "id")?;
        if let Value::Object(mut before) = item {
            // about the resource, not part of it
            before.remove("links");
            registrars.push(Registrar { id, provd: provd.clone(), fields, before });
        }
    }
    Ok(registrars)
}

/// A registrar that was made while the pair stood has the pair's address from the start: its former value is none.
fn former(registrar: &Map<String, Value>, fields: [&str; 2], set: Option<&str>) -> BTreeMap<String, Value> {
    let keep = |field: &str| {
        let value = registrar.get(field)?;
        let ours = set.is_some() && value.as_str() == set;
        Some((field.to_owned(), if ours { Value::Null } else { value.clone() }))
    };
    fields.into_iter().filter_map(keep).collect()
}

fn restore(registrar: &mut Map<String, Value>, fields: [&str; 2], stored: Option<&Stored>, id: &str) {
    for field in fields {
        let known = stored.and_then(|stored| stored.registrars.get(id));
        match (known, registrar.get(field)) {
            (Some(former), _) => match former.get(field) {
                Some(value) => drop(registrar.insert(field.to_owned(), value.clone())),
                None => drop(registrar.remove(field)),
            },
            (None, Some(value)) => {
                let ours = stored.is_none_or(|stored| value.as_str() == Some(&stored.set));
                if ours {
                    registrar.insert(field.to_owned(), Value::Null);
                }
            }
            (None, None) => {}
        }
    }
}
