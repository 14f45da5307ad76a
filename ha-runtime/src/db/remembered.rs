//! What one replication leaves for the next one over the same two connections.

use tokio_postgres::{Error, Statement, Transaction};

use super::catalog::Shape;

/// What costs a server more to tell or to plan than to check: the source's shape, and both servers' statements for the
/// digests of all tables. Nothing of it is believed: a shape whose fingerprint is another is read anew, another statement is
/// prepared anew, and a server plans anew what a change to a table has made a plan unfit for.
///
/// It belongs to two connections, which alone know its statements: with new ones begins a new one.
#[derive(Debug, Default)]
pub struct Remembered {
    pub(super) shape: Option<Shape>,
    pub(super) source: Statements,
    pub(super) replica: Statements,
}

/// Statements that one connection has prepared, by their place among those that are executed together.
#[derive(Debug, Default)]
pub(super) struct Statements(Vec<(String, Statement)>);

impl Statements {
    /// The statement with this text, which takes no parameters.
    pub(super) async fn prepared(
        &mut self,
        transaction: &Transaction<'_>,
        place: usize,
        text: &str,
    ) -> Result<Statement, Error> {
        if let Some((_, statement)) = self.0.get(place).filter(|(known, _)| known == text) {
            return Ok(statement.clone());
        }
        // the former ones first: the server should not hold both
        self.0.truncate(place);
        let statement = transaction.prepare(text).await?;
        self.0.push((text.to_owned(), statement.clone()));
        Ok(statement)
    }
}
