//! Whoever may create something in `public` must not have it run by the replication, which is a superuser.

use std::time::Duration;

use super::*;
use crate::db::{Fence, Gate};

/// Two tables large enough to be hashed by value and narrowed, and a key from one that is copied to one that stays.
const SHAPE: &str = "CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE TABLE places (code varchar(9) PRIMARY KEY); INSERT INTO places VALUES ('here');
    CREATE TABLE people (id int PRIMARY KEY, name varchar(90), m mood, s smallint, f bool, place varchar(9) REFERENCES places);
    INSERT INTO people SELECT n, 'name' || n, 'good', 1, true, 'here' FROM generate_series(1, 9000) n;
    CREATE TABLE words (word text PRIMARY KEY, filling text);
    INSERT INTO words SELECT 'w' || n, repeat('x', 50) FROM generate_series(1, 9000) n;
    CREATE SEQUENCE lonely;";

const CHANGE: &str =
    "UPDATE people SET m = 'bad' WHERE id = 4711; UPDATE words SET filling = 'y' WHERE word = 'w7';
    SELECT setval('lonely', 41);";

/// Better matches than PostgreSQL's own for what a replication might write, each of which fails when it is called.
fn traps() -> String {
    let functions = [
        ("hashtextextended", "varchar, bigint", "bigint"),
        ("hashtextextended", "text, integer", "bigint"),
        ("hashtextextended", "varchar, integer", "bigint"),
        ("hashint4extended", "integer, integer", "bigint"),
        ("hashint4extended", "smallint, integer", "bigint"),
        ("hashint8extended", "bigint, smallint", "bigint"),
        ("concat", "numeric", "text"),
        ("concat", "mood", "text"),
        ("enum_out", "mood", "text"),
        ("concat_ws", "text, oid, bigint, boolean", "text"),
        ("concat_ws", "text, oid, name, \"char\", smallint", "text"),
        ("to_jsonb", "pg_attribute", "jsonb"),
        ("setval", "regclass, integer, boolean", "bigint"),
        ("unnest", "bigint[]", "SETOF bigint"),
        ("remainder", "numeric, bigint", "numeric"),
        ("same", "varchar, varchar", "boolean"),
        ("same_namespace", "oid, regnamespace", "boolean"),
        ("same_class", "oid, regclass", "boolean"),
        ("label", "mood", "text"),
        ("gather", "text[], text", "text[]"),
    ];
    let functions = functions.map(|(name, arguments, returns)| {
        format!(
            "CREATE FUNCTION public.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS \
            $$ BEGIN RAISE EXCEPTION 'called: {name}({arguments})'; END $$;"
        )
    });
    functions.concat()
        + "CREATE OPERATOR public.% (LEFTARG = numeric, RIGHTARG = bigint, FUNCTION = public.remainder);
        CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.same);
        CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regnamespace, FUNCTION = public.same_namespace);
        CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.same_class);
        CREATE CAST (mood AS text) WITH FUNCTION public.label(mood);
        CREATE AGGREGATE public.array_agg(text) (SFUNC = public.gather, STYPE = text[]);"
}

#[tokio::test]
async fn no_function_or_operator_that_anyone_put_into_public_is_called() {
    let Some(server) = pair(SHAPE, CHANGE, "INSERT INTO words VALUES ('more', '');").await else { return };
    for node in ["master", "slave"] {
        let client = server.visit(node).await;
        client.batch_execute(&traps()).await.unwrap();
        let sprung = client.batch_execute("SELECT hashtextextended(name, 0::bigint) FROM people").await;
        assert!(sprung.is_err(), "the traps are set");
    }
    let options = without(&["places"]);
    let looking = server.visit("master").await;
    let mut gate = Gate::open(&looking, &options.exclusions).await.unwrap();
    gate.look(&looking).await.unwrap();
    gate.tables(&looking).await.unwrap();
    let report = run(&server, &options).await.unwrap();
    assert_eq!((counts(&report), report.sequences_set), ((0, 2, 1), 1));
    assert_equal(&server, "SELECT id, name, m FROM people WHERE id = 4711").await;
    let fence = Fence::take(server.visit("slave").await, Duration::from_secs(2)).await.unwrap();
    fence.release().await.unwrap();
}
