//! The plan of a Wazo database: 189 tables, 196 foreign keys, compared and sorted out. Target: under 2 ms.
//!
//! It is made in every replication and every `doctor`, after the two catalogs were read, which takes far longer.

mod cpu_time;

use std::collections::BTreeMap;
use std::hint::black_box;

use cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use ha_core::replication::tables::{
    Catalog, Column, Encoding, Exclusions, ForeignKey, Generated, Nullability, OnDelete, Sequence,
    ServerVersion, Table, plan_tables,
};
use serde_json::Value;

/// The shape of a Wazo 26.08 database.
const CATALOG: &str = include_str!("../tests/data/wazo-26.08-catalog.json");

fn wazo() -> Catalog {
    let document: Value = serde_json::from_str(CATALOG).expect("the test data are JSON");
    let list = |value: &Value| -> Vec<Value> { value.as_array().cloned().unwrap_or_default() };
    let tables = list(&document["tables"]).iter().map(|one| (text(&one["name"]), table(one))).collect();
    let sequence = |one: &Value| {
        let owner = one["owner"].as_str().and_then(|owner| owner.split('.').next());
        (text(&one["name"]), Sequence { table: owner.map(str::to_owned) })
    };
    let enums = document["enums"].as_object().expect("enums by name");
    Catalog {
        server: ServerVersion(150_013),
        encoding: Encoding("UTF8".to_owned()),
        tables,
        sequences: list(&document["sequences"]).iter().map(sequence).collect(),
        enums: enums.iter().map(|(name, labels)| (name.clone(), texts(labels))).collect(),
        revisions: BTreeMap::from([("alembic_version".to_owned(), vec!["1e0ff683a94e".to_owned()])]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a name is text").to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().map(|list| list.iter().map(text).collect()).unwrap_or_default()
}

fn table(document: &Value) -> Table {
    let column = |one: &Value| Column {
        name: text(&one["name"]),
        type_name: text(&one["type"]),
        nullability: if one["not_null"] == true { Nullability::NotNull } else { Nullability::Nullable },
        generated: Generated::No,
    };
    let key = |one: &Value| ForeignKey {
        name: format!("{}_{}_fkey", text(&document["name"]), texts(&one["columns"]).join("_")),
        columns: texts(&one["columns"]),
        references: text(&one["references"]),
        ref_columns: texts(&one["ref_columns"]),
        on_delete: match one["on_delete"].as_str() {
            Some("cascade") => OnDelete::Cascade,
            Some("set null") => OnDelete::SetNull,
            None => OnDelete::Refuse,
            Some(other) => panic!("the catalog has a new action: {other}"),
        },
    };
    let all = |name: &str| document[name].as_array().cloned().unwrap_or_default();
    Table {
        columns: all("columns").iter().map(column).collect(),
        primary_key: document.get("primary_key").map(texts),
        unique: all("unique").iter().map(texts).collect(),
        foreign_keys: all("foreign_keys").iter().map(key).collect(),
        bytes: 0,
    }
}

fn tables(criterion: &mut Criterion<CpuTime>) {
    let (source, replica) = (wazo(), wazo());
    let exclude = ha_adapters_wazo::PROFILE.database.expect("Wazo has a database").exclude;
    let exclusions = Exclusions::new(exclude);
    let planned = plan_tables(&source, &replica, &exclusions).expect("two equal catalogs do not differ");
    assert!(planned.tables.len() > 100 && planned.left.len() > 10, "the catalog was not understood");
    criterion.bench_function("plan of Wazo's 189 tables, target under 2 ms", |bencher| {
        bencher.iter(|| plan_tables(black_box(&source), black_box(&replica), &exclusions));
    });
}

criterion_group! {
    name = benches;
    config = cpu_time::config();
    targets = tables
}
criterion_main!(benches);
