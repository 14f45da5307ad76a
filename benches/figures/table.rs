use std::fmt;

/// The table, as Markdown, with what was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// One per row of the table.
    pub(crate) lines: Vec<Line>,
    /// One per kind of run, for whoever wants to know more.
    pub(crate) details: Vec<Detail>,
}

/// A row: what was wanted, and what is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// What was done.
    pub(crate) work: String,
    /// By the tool that is replaced.
    pub(crate) baseline: String,
    /// By a verb without a daemon.
    pub(crate) cold: String,
    /// By a verb with the daemon running.
    pub(crate) warm: String,
    /// The target.
    pub(crate) wanted: String,
    /// Whether it is met.
    pub(crate) met: Met,
}

/// Whether a target is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Met {
    /// All of it.
    Yes,
    /// Not all of it: what is missing, by name.
    No(Vec<String>),
}

/// All runs of one kind for one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detail {
    /// What was done.
    pub(crate) work: String,
    /// By what.
    pub(crate) run: String,
    /// Times: median, best, worst.
    pub(crate) times: [String; 3],
    /// On the network: sent, received.
    pub(crate) network: [String; 2],
    /// By the engine's own account: time, bytes sent, bytes received.
    pub(crate) own: [String; 3],
}

impl Met {
    /// From the names of the targets that were missed.
    pub(crate) fn unless(missed: Vec<String>) -> Met {
        if missed.is_empty() { Met::Yes } else { Met::No(missed) }
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Met::Yes => f.write_str("yes"),
            Met::No(missed) => write!(f, "**no**: {}", missed.join(", ")),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| work | baseline | cold | warm | wanted | met |\n| --- | --- | --- | --- | --- | --- |"
        )?;
        for Line { work, baseline, cold, warm, wanted, met } in &self.lines {
            writeln!(f, "| {work} | {baseline} | {cold} | {warm} | {wanted} | {met} |")?;
        }
        if self.details.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n| work | run | median | best | worst | sent | received | engine: time | engine: sent | engine: received |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for Detail { work, run, times, network, own } in &self.details {
            let cells = [&times[..], &network[..], &own[..]].concat().join(" | ");
            writeln!(f, "| {work} | {run} | {cells} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_as_many_cells_as_the_head() {
        let none = || "-".to_owned();
        let detail = Detail {
            work: none(),
            run: none(),
            times: [none(), none(), none()],
            network: [none(), none()],
            own: [none(), none(), none()],
        };
        let line = Line {
            work: none(),
            baseline: none(),
            cold: none(),
            warm: none(),
            wanted: none(),
            met: Met::unless(vec!["cold".to_owned()]),
        };
        let text = Table { lines: vec![line], details: vec![detail] }.to_string();
        for table in text.split("\n\n") {
            let cells: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
            assert!(cells.len() == 3 && cells.iter().all(|count| *count == cells[0]), "{table}");
        }
        assert!(text.contains("**no**: cold"), "{text}");
    }
}
