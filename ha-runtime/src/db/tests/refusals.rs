use std::time::Duration;

use ha_core::replication::tables::OnDelete;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_postgres::Config;

use super::*;
use crate::db::{Progress, connect};

const TENANTS: &str =
    "CREATE TABLE tenants (id int PRIMARY KEY, name text); INSERT INTO tenants VALUES (1, 'one');";

fn impatient(options: Options) -> Options {
    let wait = Duration::from_millis(50);
    Options { lock_timeout: wait, attempts: 2, back_off: Duration::from_millis(1), ..options }
}

#[tokio::test]
async fn a_schema_one_column_apart_is_refused_and_nothing_is_touched() {
    let shape = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY);";
    let master = "INSERT INTO t VALUES (1); ALTER TABLE u ADD COLUMN extra text;";
    let Some(server) = pair(shape, master, "").await else { return };
    let error = run(&server, &all()).await.unwrap_err();
    assert!(error.is_refusal());
    assert!(error.to_string().contains("table \"u\": column \"extra\" exists only on the master"), "{error}");
    assert!(rows(&server.visit("slave").await, "SELECT * FROM t").await.is_empty());
    assert!(run(&server, &without(&["u"])).await.is_ok(), "an excluded table may differ");
}

#[tokio::test]
async fn another_encoding_is_refused_before_a_wrong_byte_is_written() {
    let Some(server) = Server::start().await else { return };
    server.fill("master", TENANTS).await;
    for encoding in ["SQL_ASCII", "LATIN1"] {
        server.create("slave", encoding).await;
        server
            .visit("slave")
            .await
            .batch_execute("CREATE TABLE tenants (id int PRIMARY KEY, name text)")
            .await
            .unwrap();
        let error = run(&server, &all()).await.unwrap_err();
        assert!(error.is_refusal());
        assert!(
            error.to_string().contains(&format!("UTF8 on the master and {encoding} on the slave")),
            "{error}"
        );
        let admin = server.visit("postgres").await;
        admin.batch_execute("DROP DATABASE slave WITH (FORCE)").await.unwrap();
    }
}

#[tokio::test]
async fn another_revision_of_the_schema_is_refused() {
    let shape = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);";
    let insert = |v: &str| format!("INSERT INTO alembic_version VALUES ('{v}');");
    let Some(server) = pair(shape, &insert("b7"), &insert("a6")).await else { return };
    let error = run(&server, &all()).await.unwrap_err().to_string();
    assert!(
        error.contains("\"alembic_version\": the schema's revision is b7 on the master and a6"),
        "{error}"
    );
}

#[tokio::test]
async fn a_copied_row_must_not_reference_a_row_that_the_slave_lacks() {
    let shape = "CREATE TABLE kept (id int PRIMARY KEY); CREATE TABLE copied (id int PRIMARY KEY, k int REFERENCES kept);";
    let master = "INSERT INTO kept VALUES (1); INSERT INTO copied VALUES (1, 1), (2, NULL);";
    let Some(server) = pair(shape, master, "").await else { return };
    let options = without(&["kept"]);
    let error = run(&server, &options).await.unwrap_err();
    assert!(
        error.to_string().starts_with("table \"copied\": 1 rows would reference missing rows of \"kept\""),
        "{error}"
    );
    let there = server.visit("slave").await;
    assert!(rows(&there, "SELECT * FROM copied").await.is_empty(), "rolled back");
    there.batch_execute("INSERT INTO kept VALUES (1)").await.unwrap();
    assert_eq!(counts(&run(&server, &options).await.unwrap()), (2, 0, 0));
}

#[tokio::test]
async fn rows_that_stay_and_lose_their_other_end_get_what_their_foreign_key_says() {
    let slave = "INSERT INTO tenants VALUES (2, 'gone');
        CREATE TABLE sessions (id int PRIMARY KEY, tenant int REFERENCES tenants ON DELETE CASCADE);
        CREATE TABLE tokens (id int PRIMARY KEY, session int REFERENCES sessions ON DELETE CASCADE);
        CREATE TABLE notes (id int PRIMARY KEY, tenant int REFERENCES tenants ON DELETE SET NULL);
        INSERT INTO sessions VALUES (1, 1), (2, 2); INSERT INTO tokens VALUES (1, 1), (2, 2);
        INSERT INTO notes VALUES (1, 1), (2, 2);";
    let Some(server) = pair(TENANTS, "", slave).await else { return };
    let report = run(&server, &all()).await.unwrap();
    assert_eq!(counts(&report), (0, 0, 1));
    let acted: Vec<_> = report.borders.iter().map(|change| (change.rows, change.on_delete)).collect();
    assert_eq!(acted, [(1, OnDelete::SetNull), (1, OnDelete::Cascade)]);
    let there = server.visit("slave").await;
    let ids = |table: &str| format!("SELECT string_agg(t::text, ' ' ORDER BY id) FROM {table} t");
    assert_eq!(
        rows(&there, &ids("tokens")).await[0][0].as_deref(),
        Some("(1,1)"),
        "keys behind the key act too"
    );
    assert_eq!(rows(&there, &ids("notes")).await[0][0].as_deref(), Some("(1,1) (2,)"));

    there
        .batch_execute(
            "INSERT INTO tenants VALUES (3, 'gone'); CREATE TABLE strict (t int REFERENCES tenants); \
        INSERT INTO strict VALUES (3)",
        )
        .await
        .unwrap();
    let error = run(&server, &all()).await.unwrap_err().to_string();
    assert!(
        error.starts_with("table \"strict\": 1 rows would reference missing rows of \"tenants\""),
        "{error}"
    );
    assert_eq!(rows(&there, "SELECT * FROM tenants").await.len(), 2, "rolled back");
}

#[tokio::test]
async fn a_result_that_is_not_the_masters_is_rolled_back_and_named() {
    let always = "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := 'spoilt'; RETURN NEW; END $$;
        CREATE TRIGGER spoil BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION spoil();
        ALTER TABLE tenants ENABLE ALWAYS TRIGGER spoil;";
    let Some(server) = pair(TENANTS, "INSERT INTO tenants VALUES (2, 'two');", always).await else { return };
    let error = run(&server, &all()).await.unwrap_err();
    assert!(matches!(&error, DbError::NotEqual { table } if table == "tenants"), "{error}");
    assert_eq!(rows(&server.visit("slave").await, "SELECT * FROM tenants").await.len(), 1);
}

#[tokio::test]
async fn a_trigger_that_writes_a_table_which_was_equal_is_found() {
    let shape = format!("{TENANTS} CREATE TABLE log (id serial PRIMARY KEY, line text); INSERT INTO log VALUES (1, 'x');
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM public.log; RETURN NULL; END $$;");
    let always = "CREATE TRIGGER note AFTER INSERT ON tenants EXECUTE FUNCTION note();
        ALTER TABLE tenants ENABLE ALWAYS TRIGGER note;";
    // fires when a border has its way with a table that stays
    let stays = "INSERT INTO tenants VALUES (2, 'gone');
        CREATE TABLE sessions (id int PRIMARY KEY, tenant int REFERENCES tenants ON DELETE CASCADE);
        INSERT INTO sessions VALUES (1, 2);
        CREATE TRIGGER note AFTER DELETE ON sessions EXECUTE FUNCTION note();";
    for (master, slave) in [("INSERT INTO tenants VALUES (2, 'two');", always), ("", stays)] {
        let Some(server) = pair(&shape, master, slave).await else { return };
        let error = run(&server, &all()).await.unwrap_err();
        assert!(matches!(&error, DbError::NotEqual { table } if table == "log"), "{error}");
        assert_eq!(rows(&server.visit("slave").await, "SELECT * FROM log").await.len(), 1, "rolled back");
    }
}

#[tokio::test]
async fn a_writer_that_holds_its_lock_makes_the_replication_give_up_and_say_so() {
    let Some(server) = pair(TENANTS, "INSERT INTO tenants VALUES (2, 'two');", "").await else { return };
    let writer = server.visit("slave").await;
    writer.batch_execute("BEGIN; UPDATE tenants SET name = 'mine'").await.unwrap();
    let error = run(&server, &impatient(all())).await.unwrap_err();
    assert!(matches!(&error, DbError::Locked { attempts: 2, .. }), "{error}");
    assert!(
        error.to_string().starts_with("table \"tenants\" on the slave was held by another session"),
        "{error}"
    );
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(counts(&run(&server, &impatient(all())).await.unwrap()), (1, 1, 0));
}

#[tokio::test]
async fn the_second_of_two_replications_waits_for_the_first() {
    let Some(server) = pair(TENANTS, "INSERT INTO tenants VALUES (2, 'two');", "").await else { return };
    let (first, second) = at_the_gate(&server, async {
        let error = run(&server, &impatient(all())).await.unwrap_err().to_string();
        assert!(error.starts_with("the replication lock on the slave was held"), "{error}");
    })
    .await;
    assert_eq!((counts(&first.unwrap()), second), ((1, 0, 0), ()));
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (0, 0, 0));
}

#[tokio::test]
async fn a_replication_whose_master_fell_silent_is_ended_by_the_next_one() {
    let Some(server) = pair(TENANTS, "INSERT INTO tenants VALUES (2, 'two');", "").await else { return };
    let (silent, next) = at_the_gate(&server, async {
        run(&server, &Options { stalled_after: Duration::ZERO, ..all() }).await
    })
    .await;
    assert_eq!(counts(&next.unwrap()), (1, 0, 0));
    assert!(matches!(silent, Err(DbError::Ended)), "{silent:?}");
}

#[tokio::test]
async fn a_replication_may_run_in_a_task_of_its_own_and_tells_how_far_it_is() {
    let Some(server) = pair(TENANTS, "INSERT INTO tenants VALUES (2, 'two');", "").await else { return };
    let (mut source, mut replica) = (server.connect("master").await, server.connect("slave").await);
    let (bar, seen) = watch::channel(Progress::default());
    let options = Options { progress: Some(bar), ..all() };
    let task = tokio::spawn(async move { once(&mut source, &mut replica, &options, &Open).await });
    assert_eq!(counts(&task.await.unwrap().unwrap()), (1, 0, 0));
    assert_eq!(*seen.borrow(), Progress { tables: 1, done: 1 });
}

#[tokio::test]
async fn a_dropped_replication_changes_nothing_and_leaves_no_lock() {
    let Some(server) = pair(TENANTS, "INSERT INTO tenants VALUES (2, 'two');", "").await else { return };
    let gate = Held::default();
    let (mut source, mut replica) = (server.connect("master").await, server.connect("slave").await);
    let options = all();
    tokio::select! {
        result = once(&mut source, &mut replica, &options, &gate) => panic!("{result:?}"),
        () = gate.reached.notified() => {}
    }
    assert_eq!(rows(&server.visit("slave").await, "SELECT * FROM tenants").await.len(), 1);
    let report = once(&mut source, &mut replica, &options, &Open).await.unwrap();
    assert_eq!(counts(&report), (1, 0, 0), "the same connections serve again");
}

#[tokio::test]
async fn a_replication_dropped_in_the_middle_of_a_copy_changes_nothing() {
    let shape = "CREATE TABLE big (id int PRIMARY KEY, t text);";
    let master = "INSERT INTO big SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 60000) n;";
    let Some(server) = pair(shape, master, "INSERT INTO big VALUES (0, 'mine');").await else { return };
    let (mut source, traffic) = server.counted("master").await;
    let (mut replica, options) = (server.connect("slave").await, all());
    let copying = async {
        while traffic.received() < 10_000_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = once(&mut source, &mut replica, &options, &Open) => panic!("{result:?}"),
        () = copying => {}
    }
    drop((source, replica));
    let there = server.visit("slave").await;
    assert_eq!(
        rows(&there, "SELECT count(*), min(t) FROM big").await,
        [[Some("1".into()), Some("mine".into())]]
    );
    assert_eq!(counts(&run(&server, &all()).await.unwrap()), (60_000, 0, 1));
}

#[tokio::test]
async fn a_lost_server_is_an_error_that_says_whose_and_what_was_left() {
    let Some(server) = pair(TENANTS, "INSERT INTO tenants VALUES (2, 'two');", "").await else { return };
    let (mut source, mut replica) = (server.connect("master").await, server.connect("slave").await);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'master'";
    server.visit("postgres").await.batch_execute(end).await.unwrap();
    let error = once(&mut source, &mut replica, &all(), &Open).await.unwrap_err().to_string();
    assert!(error.starts_with("the master's database: ") && error.ends_with("unchanged"), "{error}");
}

#[tokio::test]
async fn a_failed_login_names_the_database_and_the_user_and_never_the_password() {
    let Some(server) = Server::start().await else { return };
    let stream = UnixStream::connect(server.socket()).await.unwrap();
    let mut config = Config::new();
    config.user("postgres").dbname("nowhere").password("secret");
    let error = connect(stream, &config).await.map(drop).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("cannot open database nowhere as postgres: logging in: "), "{text}");
    assert!(text.contains("does not exist (SQLSTATE 3D000)"), "{text}");
    assert!(!format!("{text} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn an_error_never_shows_the_content_of_a_row() {
    let master = "INSERT INTO tenants VALUES (2, 'a secret');";
    let slave = "ALTER TABLE tenants ADD CHECK (name <> 'a secret');";
    let Some(server) = pair(TENANTS, master, slave).await else { return };
    let error = run(&server, &all()).await.unwrap_err().to_string();
    assert!(error.contains("writing table \"tenants\": ") && error.contains("SQLSTATE 23514"), "{error}");
    assert!(!error.contains("a secret"), "{error}");
    assert_eq!(rows(&server.visit("slave").await, "SELECT * FROM tenants").await.len(), 1);
}
