use std::collections::BTreeMap;

use super::*;
use crate::db::server::pbxdb;

/// Every table's rows in a canonical order, digested: an oracle that shares nothing with the module's own digests.
const CONTENT: &str =
    "SELECT md5(string_agg(r, E'\\n' ORDER BY r COLLATE \"C\")) FROM (SELECT t::text AS r FROM";

async fn content(client: &Client) -> BTreeMap<String, String> {
    let names = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
    let mut content = BTreeMap::new();
    for name in rows(client, names).await {
        let name = name[0].clone().unwrap();
        let digest = rows(client, &format!("{CONTENT} public.\"{name}\" t) x")).await[0][0].clone();
        content.insert(name, digest.unwrap_or_default());
    }
    content
}

#[tokio::test]
async fn a_wazo_pair_on_two_servers_becomes_equal_but_for_what_stays() {
    let Some((ddl, filling)) = pbxdb(&["ddl"]).zip(pbxdb(&["rows", "--users", "50"])) else { return };
    let churn = pbxdb(&["churn", "--users", "50", "-n", "60", "--seed", "7"]).unwrap();
    let (Some(here), Some(there)) = (Server::start().await, Server::start().await) else { return };
    for server in [&here, &there] {
        server.create("asterisk", "UTF8").await;
        server.psql("asterisk", &ddl);
        server.psql("asterisk", &filling);
    }
    here.psql("asterisk", &churn);
    let own = "UPDATE infos SET uuid = gen_random_uuid()::text; DELETE FROM call_logd_call_log WHERE id % 2 = 0; \
        UPDATE auth_token SET user_agent = 'mine'; DELETE FROM queue_log; SELECT setval('extensions_id_seq', 5);";
    there.visit("asterisk").await.batch_execute(own).await.unwrap();
    let (source, slave) = (here.visit("asterisk").await, there.visit("asterisk").await);
    let (wanted, before) = (content(&source).await, content(&slave).await);

    let options = Options::new(Exclusions::new(WAZO));
    let (mut from, mut to) = (here.connect("asterisk").await, there.connect("asterisk").await);
    let report = once(&mut from, &mut to, &options, &Open).await.unwrap();
    assert!(report.verified && report.tables > 140, "{report}");
    assert!(report.rows_updated > 0 && report.sequences_set == 1, "{report}");
    assert_eq!(report.plan.unmatched, Vec::<String>::new());

    let after = content(&slave).await;
    let stays: Vec<&str> = report.plan.left.iter().map(|table| table.name.as_str()).collect();
    for (name, digest) in &after {
        let expected = if stays.contains(&name.as_str()) { &before[name] } else { &wanted[name] };
        assert_eq!(digest, expected, "{name}");
    }
    for name in ["infos", "auth_token", "call_logd_call_log", "queue_log"] {
        assert_ne!(after[name], wanted[name], "{name} differed and still does");
    }
    let changed: Vec<&str> = report.changes.iter().map(|change| change.table.as_str()).collect();
    let differed: Vec<&String> = wanted
        .keys()
        .filter(|name| wanted[*name] != before[*name] && !stays.contains(&name.as_str()))
        .collect();
    assert_eq!(changed, differed, "and no other table was written");

    let (mut again_to, traffic) = there.counted("asterisk").await;
    let again = once(&mut from, &mut again_to, &options, &Open).await.unwrap();
    assert_eq!((counts(&again), again.changed, again.sequences_set), ((0, 0, 0), 0, 0));
    let (sent, received) = (traffic.sent(), traffic.received());
    assert!(
        sent < 64_000 && received < 20_000,
        "{sent} bytes sent, {received} received, and nothing had changed"
    );
    let full = Options { mode: crate::db::Mode::Full, ..options };
    let report = once(&mut from, &mut to, &full, &Open).await.unwrap();
    assert!(report.verified && report.rows_inserted == report.rows_deleted, "{report}");
    assert_eq!(content(&slave).await, after);
}

/// Two servers with the same Wazo database of so many users.
async fn wazo_pair(users: &str) -> Option<(Server, Server)> {
    let (ddl, filling) = pbxdb(&["ddl"]).zip(pbxdb(&["rows", "--users", users]))?;
    let (here, there) = (Server::start().await?, Server::start().await?);
    for server in [&here, &there] {
        server.create("asterisk", "UTF8").await;
        server.psql("asterisk", &ddl);
        server.psql("asterisk", &filling);
        server.visit("asterisk").await.batch_execute("VACUUM ANALYZE").await.unwrap();
    }
    Some((here, there))
}

#[tokio::test]
#[ignore = "measures, which takes a minute: --run-ignored only --no-capture"]
async fn measures_what_a_replication_of_5000_users_takes() {
    let Some((here, there)) = wazo_pair("5000").await else { return };
    let options = Options::new(Exclusions::new(WAZO));
    let measure = async |what: &str, times: u32| {
        for _ in 0..times {
            let (mut from, _) = here.counted("asterisk").await;
            let (mut to, traffic) = there.counted("asterisk").await;
            let report = once(&mut from, &mut to, &options, &Open).await.unwrap();
            let (sent, received) = (traffic.sent(), traffic.received());
            eprintln!(
                "{what}: {:?}, {sent} bytes to the slave, {received} from it, {:?}",
                report.took,
                counts(&report)
            );
        }
    };
    measure("nothing changed", 5).await;
    let master = here.visit("asterisk").await;
    for n in 1..=3 {
        let change = format!("UPDATE dird_contact_fields SET value = 'x{n}' WHERE id = 77777");
        master.batch_execute(&change).await.unwrap();
        measure("one row of 160,000 changed", 1).await;
        let change = format!(
            "UPDATE dialaction SET actionarg2 = 'x{n}' WHERE categoryval = (SELECT max(categoryval) FROM dialaction)"
        );
        master.batch_execute(&change).await.unwrap();
        measure("some rows without an integer for a key changed", 1).await;
    }
    for seed in ["7", "8", "9"] {
        here.psql("asterisk", &pbxdb(&["churn", "--users", "5000", "-n", "200", "--seed", seed]).unwrap());
        measure("200 changes", 1).await;
    }
    let tables = rows(&master, "SELECT string_agg(relname, ',') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname !~ 'alembic'").await;
    let empty = format!("TRUNCATE {}", tables[0][0].as_ref().unwrap());
    for _ in 0..2 {
        there.visit("asterisk").await.batch_execute(&empty).await.unwrap();
        measure("everything into an empty slave", 1).await;
    }
}
