//! The tools that are replaced, as Wazo calls them.

use std::path::Path;

use ha_adapters_wazo::PROFILE;

use crate::measure::{self, Sample};
use crate::stage::Stage;

/// rsync's way in, as `wazo-sync` spells it.
pub(crate) const SSH: &str = "ssh -i /root/.ssh/rsync -o PreferredAuthentications=publickey";

/// Copies all trees with rsync, as `wazo-sync` does.
pub(crate) fn files(stage: &Stage) -> Sample {
    let trees = stage.trees().join(" ");
    measure::run(stage.lab(), &format!("rsync -q -aR --delete-after -e '{SSH}' {trees} root@10.77.0.12:/")).0
}

/// What rsync finds unequal, contents included: nothing, after a replication.
pub(crate) fn files_that_differ(stage: &Stage) -> String {
    let trees = stage.trees().join(" ");
    let command =
        format!("rsync -naciR --no-implied-dirs --delete-after -e '{SSH}' {trees} root@10.77.0.12:/");
    measure::run(stage.lab(), &command).1
}

/// Copies the tables that the engine copies as Wazo's script does.
pub(crate) fn database(stage: &Stage) -> Sample {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dump-way.sh");
    let exclude = PROFILE.database.expect("Wazo has a database").exclude;
    let excluded: Vec<String> = exclude.iter().map(|exclusion| format!("'{}'", exclusion.table)).collect();
    measure::run(stage.lab(), &format!("{} 10.77.0.12 {}", script.display(), excluded.join(" "))).0
}
