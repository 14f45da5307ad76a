//! SIP registration expiry: three options in one of three places.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::profile::{SipPlan, SipTimers};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::{Session, Target, id_of};
use super::{Change, PbxError, Plan, Row, SipTable};

/// Where a document keeps options, and what it calls the three.
struct Layout {
    /// A list of `[name, value]` pairs whose order matters to Asterisk.
    list: &'static str,
    /// A map of options without an order.
    map: Option<&'static str>,
    /// Minimum, default, maximum.
    names: [&'static str; 3],
}

/// Older releases: `/asterisk/sip/general`.
const GENERAL: Layout = Layout {
    list: "ordered_options",
    map: Some("options"),
    names: ["minexpiry", "defaultexpiry", "maxexpiry"],
};

/// Releases whose API has neither: rows of a table.
const TABLE: Layout = Layout { list: "staticsip", map: None, names: GENERAL.names };

/// Today's: the SIP template labelled `global` of each tenant.
const TEMPLATE: Layout = Layout {
    list: "aor_section_options",
    map: None,
    names: ["minimum_expiration", "default_expiration", "maximum_expiration"],
};

/// What one option was: every occurrence in the list, and at most one in the map. Both empty: it was not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Former {
    listed: Vec<Value>,
    mapped: Vec<Value>,
}

type FormerOptions = BTreeMap<String, Former>;

/// The stored document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Stored {
    general: Option<FormerOptions>,
    #[serde(default)]
    table: Option<FormerOptions>,
    /// By UUID.
    templates: BTreeMap<String, FormerOptions>,
}

pub(super) fn plan(
    session: &Session<'_>,
    sip: &SipPlan,
    timers: Option<SipTimers>,
    stored: Option<&Value>,
) -> Result<Plan, PbxError> {
    let mut kept: Stored = match stored {
        Some(stored) => serde_json::from_value(stored.clone()).map_err(|err| PbxError::Answer {
            what: "the stored SIP expiry".to_owned(),
            why: err.to_string(),
        })?,
        None => Stored::default(),
    };
    let mut changes = Vec::new();
    for Document { target, layout, before } in documents(session)? {
        let former = kept.of(&target);
        let mut after = before.clone();
        match (timers, former) {
            (Some(timers), former) => {
                layout.set(&mut after, timers);
                if former.is_none() {
                    kept.keep(&target, layout.former(&before));
                }
            }
            (None, Some(former)) => layout.restore(&mut after, former),
            (None, None) if layout.holds(&before, sip.paired) => layout.set(&mut after, sip.shipped),
            (None, None) => {}
        }
        if after != before {
            changes.push(Change { target, before, after });
        }
    }
    let store = timers.map(|_| serde_json::to_value(kept).expect("maps with text keys are JSON"));
    Ok(Plan { changes, store })
}

/// The longest expiry of each document, by the document's name; `None`: it has none.
pub(super) fn maxima(session: &Session<'_>) -> Result<Vec<(String, Option<Duration>)>, PbxError> {
    let documents = documents(session)?.into_iter();
    let maximum = |document: Document| {
        let former = document.layout.former(&document.before);
        let values = former.get(document.layout.names[2]).into_iter();
        // Asterisk takes the last of several
        let last =
            values.flat_map(|option| option.listed.iter().chain(&option.mapped)).next_back().map(seconds);
        (document.target.to_string(), last.flatten())
    };
    Ok(documents.map(maximum).collect())
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Some(Duration::from_secs(seconds))
}

/// A document that holds the options, reduced to what a PUT of it needs.
struct Document {
    target: Target,
    layout: Layout,
    before: Value,
}

fn documents(session: &Session<'_>) -> Result<Vec<Document>, PbxError> {
    if let Some(general) = session.read("/asterisk/sip/general")? {
        // its PUT replaces the whole, and knows these two keys
        let before = json!({ "ordered_options": general["ordered_options"], "options": general["options"] });
        return Ok(vec![Document { target: Target::General, layout: GENERAL, before }]);
    }
    let path = "/endpoints/sip/templates?recurse=true";
    let Some(templates) = session.items(path)? else {
        let rows = session.table().read(&TABLE.names).map_err(|why| PbxError::Table { why })?;
        let rows = rows.ok_or_else(|| PbxError::Answer {
            what: format!("GET {path}"),
            why:
                "this release has no SIP options: neither general ones, nor templates, nor rows of staticsip"
                    .to_owned(),
        })?;
        return Ok(vec![Document {
            target: Target::Table,
            layout: TABLE,
            before: json!({ "staticsip": rows }),
        }]);
    };
    let global = templates.into_iter().filter(|template| template["label"] == "global");
    global
        .map(|template| {
            let before = json!({ "aor_section_options": template["aor_section_options"] });
            Ok(Document { target: Target::Template(id_of(&template, "uuid")?), layout: TEMPLATE, before })
        })
        .collect()
}

/// Brings the rows to what the document says.
pub(super) fn write_table(table: &dyn SipTable, document: &Value) -> Result<(), PbxError> {
    let rows: Vec<Row> = serde_json::from_value(document[TABLE.list].clone())
        .map_err(|error| PbxError::Table { why: error.to_string() })?;
    table.write(&TABLE.names, &rows).map_err(|why| PbxError::Table { why })
}

impl Stored {
    fn of(&self, target: &Target) -> Option<&FormerOptions> {
        match target {
            Target::General => self.general.as_ref(),
            Target::Table => self.table.as_ref(),
            Target::Template(uuid) => self.templates.get(uuid),
            Target::Registrar(_) | Target::ProvdConfig(..) => None,
        }
    }

    fn keep(&mut self, target: &Target, former: FormerOptions) {
        match target {
            Target::General => self.general = Some(former),
            Target::Table => self.table = Some(former),
            Target::Template(uuid) => drop(self.templates.insert(uuid.clone(), former)),
            // they hold no SIP options
            Target::Registrar(_) | Target::ProvdConfig(..) => {}
        }
    }
}

impl Layout {
    fn former(&self, document: &Value) -> FormerOptions {
        let one = |name: &&'static str| {
            let listed = pairs(&document[self.list]).filter(|(key, _)| key == name);
            let mapped = self.map.and_then(|map| document[map].get(name));
            let former = Former {
                listed: listed.map(|(_, value)| value.clone()).collect(),
                mapped: mapped.cloned().into_iter().collect(),
            };
            ((*name).to_owned(), former)
        };
        self.names.iter().map(one).collect()
    }

    fn holds(&self, document: &Value, timers: SipTimers) -> bool {
        let mut wanted = document.clone();
        self.set(&mut wanted, timers);
        let all_there = self.former(document).values().all(|former| *former != Former::default());
        all_there && wanted == *document
    }

    fn set(&self, document: &mut Value, timers: SipTimers) {
        for (name, duration) in self.names.iter().zip([timers.min, timers.default, timers.max]) {
            let value = Value::from(duration.as_secs().to_string());
            let mut found = false;
            for pair in pairs_mut(&mut document[self.list]).filter(|pair| pair[0] == **name) {
                pair[1] = value.clone();
                found = true;
            }
            match self.map {
                Some(map) if !found || document[map].get(name).is_some() => document[map][*name] = value,
                None if !found => append(&mut document[self.list], name, value),
                Some(_) | None => {}
            }
        }
    }

    /// Other options stay as they are now, in their order.
    fn restore(&self, document: &mut Value, former: &FormerOptions) {
        for (name, Former { listed, mapped }) in former {
            let mut values = listed.iter();
            if let Some(list) = document[self.list].as_array_mut() {
                list.retain_mut(|pair| {
                    if pair[0] != **name {
                        return true;
                    }
                    let value = values.next();
                    if let Some(value) = value {
                        pair[1] = value.clone();
                    }
                    value.is_some()
                });
            }
            values.for_each(|value| append(&mut document[self.list], name, value.clone()));
            match (self.map, mapped.first()) {
                (Some(map), Some(value)) => document[map][name.as_str()] = value.clone(),
                (Some(map), None) => {
                    if let Some(options) = document[map].as_object_mut() {
                        options.remove(name);
                    }
                }
                (None, _) => {}
            }
        }
    }
}

fn pairs(list: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?)))
}

fn pairs_mut(list: &mut Value) -> impl Iterator<Item = &mut Value> {
    let items = list.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    items.iter_mut().filter(|pair| pair.as_array().is_some_and(|pair| pair.len() == 2))
}

fn append(list: &mut Value, name: &str, value: Value) {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    if let Some(items) = list.as_array_mut() {
        items.push(json!([name, value]));
    }
}
