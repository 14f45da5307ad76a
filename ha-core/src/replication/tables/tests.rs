use proptest::prelude::*;

use super::*;
use crate::profile::{Exclusion, Why};

fn column(name: &str, type_name: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        nullability: Nullability::NotNull,
        generated: Generated::No,
    }
}

fn planned_column(name: &str) -> PlannedColumn {
    PlannedColumn { name: name.to_owned(), hashed: Hashed::AsRow, nullability: Nullability::NotNull }
}

fn table(columns: &[(&str, &str)]) -> Table {
    Table {
        columns: columns.iter().map(|(name, kind)| column(name, kind)).collect(),
        primary_key: Some(vec![columns[0].0.to_owned()]),
        ..Table::default()
    }
}

fn referencing(name: &str, to: &str) -> Table {
    let key = ForeignKey {
        name: format!("{name}_{to}_fkey"),
        columns: vec!["other".to_owned()],
        references: to.to_owned(),
        ref_columns: vec!["id".to_owned()],
        on_delete: OnDelete::Cascade,
    };
    Table { foreign_keys: vec![key], ..table(&[("id", "integer"), ("other", "integer")]) }
}

fn catalog(tables: &[(&str, Table)]) -> Catalog {
    Catalog {
        server: ServerVersion(150_020),
        encoding: Encoding("UTF8".to_owned()),
        tables: tables.iter().map(|(name, table)| ((*name).to_owned(), table.clone())).collect(),
        sequences: Default::default(),
        enums: Default::default(),
        revisions: Default::default(),
    }
}

fn users() -> Catalog {
    catalog(&[("users", table(&[("id", "integer"), ("name", "text")]))])
}

fn exclusions(list: &[(&'static str, Why)]) -> Exclusions {
    let list: Vec<Exclusion> = list.iter().map(|&(table, why)| Exclusion { table, why }).collect();
    Exclusions::new(&list)
}

fn refusal(source: &Catalog, replica: &Catalog) -> String {
    plan_tables(source, replica, &Exclusions::default()).unwrap_err().to_string()
}

#[test]
fn a_table_goes_with_its_columns_its_key_and_its_sequence() {
    let mut source = users();
    source.sequences.insert("users_id_seq".to_owned(), Sequence { table: Some("users".to_owned()) });
    let plan = plan_tables(&source, &source, &Exclusions::default()).unwrap();
    let users = PlannedTable {
        name: "users".to_owned(),
        columns: vec![planned_column("id"), planned_column("name")],
        key: RowKey::Columns(vec![planned_column("id")]),
    };
    assert_eq!(plan.tables, [users]);
    assert_eq!(plan.sequences, ["users_id_seq"]);
    assert!(plan.left.is_empty() && plan.borders.is_empty());
}

#[test]
fn an_excluded_table_stays_with_its_sequence_and_may_differ() {
    let log = |kind| ("cel", table(&[("id", kind)]));
    let mut source = catalog(&[log("integer")]);
    source.sequences.insert("cel_id_seq".to_owned(), Sequence { table: Some("cel".to_owned()) });
    let replica = catalog(&[log("bigint")]);
    let plan = plan_tables(&source, &replica, &exclusions(&[("cel", Why::Seed)])).unwrap();
    assert_eq!((plan.tables.len(), plan.sequences.len()), (0, 0));
    assert_eq!(plan.left, [LeftTable { name: "cel".to_owned(), because: LeftBecause::Excluded(Why::Seed) }]);
}

#[test]
fn a_star_matches_a_family_and_nothing_else() {
    let rule = exclusions(&[("call_logd_*", Why::SeedToday), ("mail", Why::Seed)]);
    assert!(rule.reason("call_logd_export").is_some());
    assert_eq!((rule.reason("call_log"), rule.reason("mailbox")), (None, None));
}

#[test]
fn settings_add_exclusions_and_an_unmatched_one_is_reported() {
    let rule = Exclusions::default().with_settings(&["users", "moritoring*"]);
    let plan = plan_tables(&users(), &users(), &rule).unwrap();
    assert_eq!(plan.left[0].because, LeftBecause::Settings);
    assert_eq!(plan.unmatched, ["moritoring*"]);
}

#[test]
fn the_schemas_revision_is_compared_and_never_copied() {
    let mut source = users();
    source.tables.insert("alembic_version_auth".to_owned(), table(&[("version_num", "text")]));
    source.revisions.insert("alembic_version_auth".to_owned(), vec!["a1".to_owned()]);
    let plan = plan_tables(&source, &source, &Exclusions::default()).unwrap();
    assert_eq!(plan.left[0].because, LeftBecause::Revision);

    let mut replica = source.clone();
    replica.revisions.insert("alembic_version_auth".to_owned(), vec!["b2".to_owned()]);
    let text = refusal(&source, &replica);
    assert!(
        text.contains("\"alembic_version_auth\": the schema's revision is a1 on the master and b2"),
        "{text}"
    );
    replica.revisions.clear();
    assert!(refusal(&source, &replica).contains("the slave has no such table"));
}

#[test]
fn every_difference_is_listed_with_one_sentence_per_table() {
    let source = catalog(&[
        ("a", table(&[("id", "integer"), ("x", "text")])),
        ("b", table(&[("id", "integer")])),
        ("c", table(&[("id", "integer")])),
    ]);
    let mut replica = catalog(&[
        ("a", table(&[("id", "bigint"), ("y", "text")])),
        ("c", Table { primary_key: None, ..table(&[("id", "integer")]) }),
    ]);
    replica.server = ServerVersion(130_004);
    replica.encoding = Encoding("LATIN1".to_owned());
    let text = refusal(&source, &replica);
    let sentences: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
    assert_eq!(sentences.len(), 5, "{text}");
    assert_eq!(sentences[0], "PostgreSQL is 15.20 on the master and 13.4 on the slave");
    assert!(
        sentences[1].starts_with("the database's encoding is UTF8 on the master and LATIN1 on the slave")
    );
    assert_eq!(
        sentences[2],
        "table \"a\": column \"id\" is integer not null on the master and bigint not null on the slave, \
         column \"x\" exists only on the master, column \"y\" exists only on the slave"
    );
    assert_eq!(sentences[3], "table \"b\": the slave has no such table");
    assert_eq!(sentences[4], "table \"c\": the primary key is (id) on the master and none on the slave");
}

#[test]
fn unchecked_bytes_and_old_servers_are_refused_even_when_both_nodes_agree() {
    let mut ascii = users();
    ascii.encoding = Encoding("SQL_ASCII".to_owned());
    assert!(refusal(&ascii, &ascii).contains("SQL_ASCII on the master and SQL_ASCII on the slave"));
    let mut old = users();
    old.server = ServerVersion(100_005);
    assert!(refusal(&old, &old).contains("10.5 is too old: 11.0 or later"));
    assert!(
        plan_tables(&users(), &Catalog { server: ServerVersion(150_001), ..users() }, &Exclusions::default())
            .is_ok()
    );
}

#[test]
fn the_order_of_columns_does_not_count() {
    let replica = catalog(&[(
        "users",
        Table { primary_key: Some(vec!["id".to_owned()]), ..table(&[("name", "text"), ("id", "integer")]) },
    )]);
    assert!(plan_tables(&users(), &replica, &Exclusions::default()).is_ok());
}

#[test]
fn a_stricter_slave_and_other_labels_are_drift() {
    let mut replica = users();
    replica.tables.get_mut("users").unwrap().unique.push(vec!["name".to_owned()]);
    assert!(refusal(&users(), &replica).contains("the unique key (name) exists only on the slave"));
    assert!(plan_tables(&replica, &users(), &Exclusions::default()).is_ok());

    let mut source = catalog(&[("t", table(&[("id", "mood[]")]))]);
    source.enums.insert("mood".to_owned(), vec!["good".to_owned(), "bad".to_owned()]);
    let mut replica = source.clone();
    replica.enums.insert("mood".to_owned(), vec!["good".to_owned()]);
    assert!(refusal(&source, &replica).contains("knows (good, bad) on the master and (good) on the slave"));
}

#[test]
fn computed_columns_are_not_copied_and_a_unique_key_replaces_a_primary_one() {
    let mut nameless = table(&[("id", "integer"), ("sum", "integer"), ("note", "text")]);
    nameless.columns[1].generated = Generated::Stored("(id + 1)".to_owned());
    nameless.columns[2].nullability = Nullability::Nullable;
    nameless.primary_key = None;
    let planned = |table: &Table| {
        let source = catalog(&[("t", table.clone())]);
        plan_tables(&source, &source, &Exclusions::default()).unwrap().tables.remove(0)
    };
    let names = |columns: &[PlannedColumn]| columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&planned(&nameless).columns), ["id", "note"]);
    assert_eq!(planned(&nameless).key, RowKey::WholeRow);
    nameless.unique = vec![vec!["note".to_owned()], vec!["sum".to_owned()], vec!["id".to_owned()]];
    let key = RowKey::Columns(vec![planned_column("id")]);
    assert_eq!(planned(&nameless).key, key, "nulls are not unique, and what is computed is not copied");
}

#[test]
fn a_column_of_a_big_table_is_hashed_by_value_where_its_value_says_everything() {
    let by_value = [
        ("smallint", Hashed::Integer),
        ("integer", Hashed::Integer),
        ("boolean", Hashed::Boolean),
        ("uuid", Hashed::Uuid),
        ("text", Hashed::Text),
        ("character varying", Hashed::Text),
        ("character varying(36)", Hashed::Text),
        ("mood", Hashed::Label),
        ("other.mood", Hashed::Label),
    ];
    let as_row = [
        "bigint",
        "date",
        "time without time zone",
        "timestamp with time zone",
        "timestamp(3) without time zone",
        "interval",
        "real",
        "double precision",
        "numeric",
        "numeric(10,2)",
        "money",
        "character(8)",
        "\"char\"",
        "name",
        "bytea",
        "json",
        "jsonb",
        "xml",
        "hstore",
        "citext",
        "oid",
        "regclass",
        "inet",
        "bit varying(3)",
        "text[]",
        "character varying[]",
        "character varying(36)[]",
        "integer[]",
        "mood[]",
        "int4range",
        "posint",
        "public.text",
        "\"integer\"",
        "public.\"character varying(36)\"",
        "",
    ];
    let mut columns: Vec<(String, &str, Hashed)> = Vec::new();
    for (type_name, hashed) in by_value.into_iter().chain(as_row.map(|name| (name, Hashed::AsRow))) {
        columns.push((format!("c{}", columns.len()), type_name, hashed));
    }
    let shape: Vec<(&str, &str)> = columns.iter().map(|(name, kind, _)| (name.as_str(), *kind)).collect();
    let mut source = catalog(&[("t", Table { bytes: 128 * 1024, ..table(&shape) })]);
    for label in ["mood", "other.mood"] {
        source.enums.insert(label.to_owned(), vec!["good".to_owned()]);
    }
    let plan =
        |source: &Catalog| plan_tables(source, source, &Exclusions::default()).unwrap().tables.remove(0);
    for (column, (_, type_name, hashed)) in plan(&source).columns.iter().zip(&columns) {
        assert_eq!(column.hashed, *hashed, "{type_name}");
    }
    source.tables.get_mut("t").unwrap().bytes -= 1;
    assert!(plan(&source).columns.iter().all(|column| column.hashed == Hashed::AsRow), "a small table");
}

#[test]
fn the_sources_sizes_decide_how_both_servers_hash() {
    let mut source = users();
    source.tables.get_mut("users").unwrap().bytes = 1 << 20;
    let plan = plan_tables(&source, &users(), &Exclusions::default()).unwrap();
    assert_eq!(plan.tables[0].columns[0].hashed, Hashed::Integer);
    let plan = plan_tables(&users(), &source, &Exclusions::default()).unwrap();
    assert_eq!(plan.tables[0].columns[0].hashed, Hashed::AsRow);
}

#[test]
fn a_plugins_table_stays_and_its_foreign_key_crosses_the_border() {
    let replica = {
        let mut replica = users();
        replica.tables.insert("plugin".to_owned(), referencing("plugin", "users"));
        replica
    };
    let plan = plan_tables(&users(), &replica, &Exclusions::default()).unwrap();
    assert_eq!(plan.left[0].because, LeftBecause::OnlyOnReplica);
    assert_eq!(plan.borders.len(), 1);
    assert_eq!(plan.borders[0].to_string(), "plugin (other) -> users (id)");
    assert_eq!(plan.borders[0].copied(), "users");
    assert!(plan.to_string().contains("leave plugin: only the slave has it"), "{plan}");
}

proptest! {
    #[test]
    fn every_table_is_copied_or_left_and_every_crossing_key_is_found(
        tables in prop::collection::btree_map("[a-d][a-d]", "[a-d][a-d]", 0..8),
        excluded in prop::collection::vec("[a-d]\\*|[a-d][a-d]", 0..4),
    ) {
        let all: Vec<(&str, Table)> =
            tables.iter().map(|(name, to)| (name.as_str(), referencing(name, to))).collect();
        let mut source = catalog(&all);
        for name in tables.keys() {
            source.sequences.insert(format!("{name}_seq"), Sequence { table: Some(name.clone()) });
        }
        let rule = Exclusions::default().with_settings(&excluded);
        let plan = plan_tables(&source, &source, &rule).unwrap();
        let copied: Vec<&str> = plan.tables.iter().map(|table| table.name.as_str()).collect();
        for name in tables.keys() {
            let left = plan.left.iter().any(|table| table.name == *name);
            prop_assert_eq!(copied.contains(&name.as_str()), !left);
            prop_assert_eq!(rule.reason(name).is_some(), left);
            prop_assert_eq!(plan.sequences.contains(&format!("{name}_seq")), !left);
        }
        for (name, to) in &tables {
            let crosses = copied.contains(&name.as_str()) != copied.contains(&to.as_str());
            prop_assert_eq!(plan.borders.iter().any(|border| border.key().0 == name), crosses);
        }
    }

    #[test]
    fn whatever_is_one_column_apart_is_refused_by_name(at in 0usize..3, kind in "[a-z]{3,8}") {
        prop_assume!(kind != "integer");
        let source = catalog(&[("t", table(&[("a", "integer"), ("b", "integer"), ("c", "integer")]))]);
        let mut replica = source.clone();
        replica.tables.get_mut("t").unwrap().columns[at].type_name = kind.clone();
        let text = refusal(&source, &replica);
        prop_assert!(text.contains(&kind) && text.contains(["\"a\"", "\"b\"", "\"c\""][at]), "{}", text);
    }
}
