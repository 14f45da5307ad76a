//! What replication would change, decided before anything is touched.

pub mod admission;
pub mod copying;
pub mod descent;
pub mod filter;
pub mod flow;
pub mod guard;
pub mod listing;
pub mod manifest;
pub mod path;
pub mod plan;
pub mod step;
pub mod tables;
pub mod wire;

#[cfg(test)]
mod any_tree;
