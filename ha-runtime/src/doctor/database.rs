//! The databases: reachable, in an encoding that can be copied, and of one shape.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ha_core::replication::tables::{Catalog, Exclusions, ServerVersion, plan_tables};

use super::Check;
use crate::context::Context;
use crate::db;
use crate::far::Far;
use crate::report::Failure;
use crate::way::{self, Database};

/// For the login and for the catalog, each.
const PATIENCE: Duration = Duration::from_secs(20);

/// This node's database, and its shape for a comparison.
pub(super) async fn own(context: &Context) -> (Vec<Check>, Option<Catalog>) {
    let Some(database) = context.profile().database else { return (Vec::new(), None) };
    match catalog(way::to_local_database(context)).await {
        Ok(catalog) => {
            let mut checks = of(&catalog);
            checks.extend(exclusions(&catalog, &Exclusions::new(database.exclude)));
            (checks, Some(catalog))
        }
        Err(failure) => {
            let todo =
                "start PostgreSQL, or correct [postgres] local; `doctor` must run as root or as postgres";
            (vec![Check::fail("local-database", failure.message, todo)], None)
        }
    }
}

/// Which of the names that stay on their node this release has. One list serves several releases, so that a name without
/// a table is nothing to act on.
fn exclusions(own: &Catalog, exclusions: &Exclusions) -> Option<Check> {
    // a database has the shape of itself
    let plan = plan_tables(own, own, exclusions).ok()?;
    let stay = format!("{} tables stay on their node", plan.left.len());
    Some(Check::ok(
        "exclusions",
        match plan.unmatched.as_slice() {
            [] => stay,
            names => format!("{stay}; names of other releases, which exclude nothing: {}", names.join(", ")),
        },
    ))
}

/// The slave's database, compared with this one's. The session is borrowed: it ends with its last holder, and the relay
/// with it.
pub(super) async fn schema(
    context: &Context,
    own: Option<&Catalog>,
    peer: IpAddr,
    far: &Arc<dyn Far>,
) -> Option<Check> {
    let database = context.profile().database?;
    let there = match catalog(way::to_far_database(context, peer, Arc::clone(far))).await {
        Ok(there) => there,
        Err(failure) => {
            let todo = "start PostgreSQL on the slave, or correct [postgres] remote";
            return Some(Check::fail("far-database", failure.message, todo));
        }
    };
    let Some(own) = own else {
        return Some(Check::not_checked("schema", "this node's database cannot be read"));
    };
    Some(compare(own, &there, &Exclusions::new(database.exclude)))
}

fn compare(own: &Catalog, there: &Catalog, exclusions: &Exclusions) -> Check {
    match plan_tables(own, there, exclusions) {
        Ok(plan) => Check::ok(
            "schema",
            format!("{} tables are replicated, of one shape on both nodes", plan.tables.len()),
        ),
        Err(drift) => Check::fail(
            "schema",
            format!("the databases differ, nothing can be replicated: {drift}"),
            "bring both nodes to the same release of the PBX",
        ),
    }
}

async fn catalog(login: impl Future<Output = Result<Database, Failure>>) -> Result<Catalog, Failure> {
    let late = |_| Failure::environment(format!("no answer within {} s", PATIENCE.as_secs()));
    let mut database = tokio::time::timeout(PATIENCE, login).await.map_err(late)??;
    let reading = tokio::time::timeout(PATIENCE, db::catalog(&mut database.client));
    reading.await.map_err(late)?.map_err(Failure::environment)
}

fn of(catalog: &Catalog) -> Vec<Check> {
    let version = catalog.server;
    let encoding = &catalog.encoding.0;
    let server = if version < ServerVersion::OLDEST {
        let todo = "upgrade PostgreSQL with the PBX";
        Check::fail(
            "local-database",
            format!("PostgreSQL {version} is too old to compare rows by digests"),
            todo,
        )
    } else {
        Check::ok("local-database", format!("PostgreSQL {version} answers, {} tables", catalog.tables.len()))
    };
    let encoding = if encoding == "UTF8" {
        Check::ok("database-encoding", "UTF8")
    } else {
        Check::fail(
            "database-encoding",
            format!(
                "the database is in {encoding}: text from the other node cannot be kept in it, or is kept wrong"
            ),
            "install the PBX anew with a UTF-8 locale; the database must be UTF8",
        )
    };
    vec![server, encoding]
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::testing::{Place, level};
    use super::*;
    use crate::db::Server;

    #[tokio::test]
    async fn a_shape_that_differs_fails_and_an_encoding_that_cannot_hold_text() {
        let Some(server) = Server::start().await else { return };
        server.fill("one", "CREATE TABLE users (id int PRIMARY KEY, name text)").await;
        server.fill("same", "CREATE TABLE users (id int PRIMARY KEY, name text)").await;
        server.fill("other", "CREATE TABLE users (id int PRIMARY KEY)").await;
        let mut read = Vec::new();
        for name in ["one", "same", "other"] {
            read.push(db::catalog(&mut server.connect(name).await).await.unwrap());
        }
        let checks = of(&read[0]);
        assert_eq!((checks[0].level, checks[1].level), (Level::Ok, Level::Ok), "{checks:?}");
        let two = Exclusions::default().with_settings(&["users", "call_log"]);
        let check = exclusions(&read[0], &two).unwrap();
        assert_eq!(check.level, Level::Ok);
        assert!(check.finding.ends_with(
            "1 tables stay on their node; names of other releases, which exclude nothing: call_log"
        ));
        let none = Exclusions::default();
        assert_eq!(compare(&read[0], &read[1], &none).level, Level::Ok);
        let check = compare(&read[0], &read[2], &none);
        assert_eq!(check.level, Level::Fail);
        assert!(check.finding.contains("users"), "{}", check.finding);

        let mut bytes = read.remove(0);
        "SQL_ASCII".clone_into(&mut bytes.encoding.0);
        bytes.server = ServerVersion(90_424);
        let checks = of(&bytes);
        assert_eq!(level(&checks, "database-encoding"), Level::Fail);
        assert_eq!(level(&checks, "local-database"), Level::Fail);
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_reached_fails() {
        let place = Place::new();
        let mut context = place.context();
        context.settings.postgres.local = "host=relative user=postgres dbname=asterisk".to_owned();
        let (checks, catalog) = own(&context).await;
        assert!(catalog.is_none());
        assert_eq!(level(&checks, "local-database"), Level::Fail);
    }
}
