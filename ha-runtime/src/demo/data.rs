//! What is replicated: changes on the master, and whether the slave has the same.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};

use ha_core::Profile;
use ha_core::profile::Database;
use serde_json::Value;

use super::database::{OWN_ROWS, Servers, stays};
use super::node::same_files;
use super::stage::{SOUND, Stage, sound_file, text_file, whole_trees};
use crate::cli::block_on;
use crate::report::Failure;

/// Both nodes' files and databases, as somebody sees them who looks at both.
pub(super) struct Data<'a> {
    pub(super) stage: &'a Stage,
    pub(super) profile: &'static Profile,
    pub(super) servers: Option<&'a Servers>,
}

impl Data<'_> {
    /// The database that is shown, with its servers.
    fn database(&self) -> Option<(&Servers, Database)> {
        self.servers.zip(self.profile.database)
    }

    /// An administrator's work on the master; `number` makes each time another one. What was done, in words.
    pub(super) fn change(&self, number: u32) -> Result<String, Failure> {
        let failed = |error: io::Error| Failure::environment(format!("a change on the master: {error}"));
        let root = &self.stage.master.root;
        let mut done = Vec::new();
        if let Some((servers, wanted)) = self.database() {
            let sql = format!(
                "UPDATE userfeatures SET mobile = '+1 555 01{number:02}' WHERE id = {number};
                 INSERT INTO userfeatures (firstname, lastname) VALUES ('Ada', 'Number {number}');
                 INSERT INTO extensions (exten, context, user_id)
                     SELECT (3000 + {number})::text, 'default', max(id) FROM userfeatures;"
            );
            block_on(async {
                let client = servers.master.connect(wanted.name).await?;
                client.batch_execute(&sql).await.map_err(Failure::environment)
            })?;
            done.push("two users");
        }
        if let Some(tree) = whole_trees(self.profile).first() {
            let mut file = OpenOptions::new().append(true).open(text_file(root, tree)).map_err(failed)?;
            writeln!(file, "exten => {},1,Answer()", 2000 + number).map_err(failed)?;
            done.push("a dialplan line");
        }
        if let Some(sound) = sound_file(root, self.profile) {
            let mut file = OpenOptions::new().write(true).open(sound).map_err(failed)?;
            file.seek(SeekFrom::Start(SOUND as u64 / 2)).map_err(failed)?;
            write!(file, "change {number:08}").map_err(failed)?;
            done.push("15 bytes of music");
        }
        Ok(done.join(", "))
    }

    /// Err: the nodes differ, and where. Otherwise what is equal, a line each.
    pub(super) fn equal(&self) -> Result<Vec<String>, Failure> {
        let mut files = 0;
        for dataset in self.profile.datasets {
            let (here, there) = (&self.stage.master.root, &self.stage.slave.root);
            files += same_files(&here.path(dataset.root), &there.path(dataset.root))?;
        }
        let mut lines = vec![format!("has the same {files} files, byte for byte")];
        if let Some((servers, wanted)) = self.database() {
            let same = block_on(compare(servers, &wanted))?;
            let (own, masters_own) = (same.own, same.masters_own);
            lines.push(format!(
                "has the same {} rows, but its own {} ({own} rows, not {masters_own})",
                same.rows,
                stays(&wanted)
            ));
        }
        Ok(lines)
    }

    /// The report of a replication, a line for each part.
    pub(super) fn summary(&self, report: &Value) -> Vec<String> {
        let parts = report.as_array().cloned().unwrap_or_else(|| vec![report.clone()]);
        parts.iter().map(part_summary).collect()
    }

    /// Err: the administrator's change is not really on the slave's disk, and in its database.
    pub(super) fn slave_has(&self, number: u32) -> Result<(), Failure> {
        let missing =
            |what: &str| Failure::environment(format!("the slave does not have the change: {what}"));
        if let Some(tree) = whole_trees(self.profile).first() {
            let path = text_file(&self.stage.slave.root, tree);
            let text = fs::read_to_string(&path).unwrap_or_default();
            if !text.contains(&format!("exten => {},1", 2000 + number)) {
                return Err(missing(&path.display().to_string()));
            }
        }
        if let Some((servers, wanted)) = self.database() {
            let from = format!("extensions WHERE exten = '{}'", 3000 + number);
            if block_on(servers.slave.count(wanted.name, &from))? != 1 {
                return Err(missing("the new user's number"));
            }
        }
        Ok(())
    }
}

/// Numbers of rows that were found as they should be.
struct Same {
    /// Copied, and equal on both nodes.
    rows: usize,
    /// The slave's own.
    own: i64,
    /// The master's own.
    masters_own: i64,
}

async fn compare(servers: &Servers, wanted: &Database) -> Result<Same, Failure> {
    let mut rows = 0;
    for table in ["userfeatures", "extensions"] {
        let mut texts = Vec::new();
        for server in [&servers.master, &servers.slave] {
            let client = server.connect(wanted.name).await?;
            let query = format!("SELECT t::text FROM {table} AS t ORDER BY id");
            let found = client.query(&query, &[]).await.map_err(Failure::environment)?;
            texts.push(found.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>());
        }
        if texts[0] != texts[1] {
            return Err(Failure::environment(format!("table {table} differs between the nodes")));
        }
        rows += texts[0].len();
    }
    let table = stays(wanted);
    let masters_own = servers.master.count(wanted.name, table).await?;
    let own = servers.slave.count(wanted.name, table).await?;
    if (masters_own, own) != OWN_ROWS {
        let text = format!(
            "{table} stays on its node, but there are {masters_own} and {own} rows instead of {OWN_ROWS:?}"
        );
        return Err(Failure::environment(text));
    }
    Ok(Same { rows, own, masters_own })
}

pub(super) fn part_summary(part: &Value) -> String {
    let number = |key: &str| part[key].as_u64().unwrap_or_default();
    let of = |key: &str, what: &str| {
        Some(number(key)).filter(|count| *count > 0).map(|count| format!("{count} {what}"))
    };
    let (name, done) = match part["part"].as_str() {
        Some("database") => {
            ("rows", [of("rows_inserted", "new"), of("rows_updated", "changed"), of("rows_deleted", "gone")])
        }
        _ => ("files", [of("sent", "sent whole"), of("patched", "patched"), of("deleted", "gone")]),
    };
    let done: Vec<String> = done.into_iter().flatten().collect();
    let done = if done.is_empty() { "nothing to do".to_owned() } else { done.join(", ") };
    format!("replicates {name}: {done} ({} sent)", indicatif::HumanBytes(number("bytes_sent")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_part_is_summed_up_in_an_administrators_words() {
        let files = json!({ "part": "files", "sent": 1, "patched": 1, "deleted": 0, "bytes_sent": 3000 });
        assert_eq!(part_summary(&files), "replicates files: 1 sent whole, 1 patched (2.93 KiB sent)");
        let rows = json!({ "part": "database", "rows_inserted": 2, "rows_updated": 1, "bytes_sent": 10 });
        assert_eq!(part_summary(&rows), "replicates rows: 2 new, 1 changed (10 B sent)");
        let none = json!({ "part": "files", "bytes_sent": 10 });
        assert_eq!(part_summary(&none), "replicates files: nothing to do (10 B sent)");
    }
}
