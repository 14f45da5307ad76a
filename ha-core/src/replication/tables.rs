//! The plan of a database replication: two catalogs in, the tables to copy out, or the reason why none may be.
//!
//! Identical rows are not the planner's business: it decides *which* tables and sequences correspond, by what key their
//! rows are matched, and which foreign keys cross the border between what is copied and what stays. A plan leaves
//! nothing to decide to whoever executes it.

mod catalog;
mod drift;
mod exclusions;
mod hashed;
mod plan;

pub use catalog::{
    Catalog, Column, Encoding, ForeignKey, Generated, Nullability, OnDelete, Sequence, ServerVersion, Table,
};
pub use drift::{Difference, SchemaDrift};
pub use exclusions::{Exclusions, LeftBecause};
pub use hashed::Hashed;
pub use plan::{Border, LeftTable, PlannedColumn, PlannedTable, RowKey, TablePlan, plan_tables};

#[cfg(test)]
mod tests;
