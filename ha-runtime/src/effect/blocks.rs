//! Lines between two markers in a file that belongs to the administrator, as a function of the text.

/// How every first marker begins, whichever program wrote it.
const BEGIN: &str = "# BEGIN pbx-ha";
const END: &str = "# END pbx-ha";
/// On a first marker whose line end before it is ours: the file ended in the middle of a line.
const UNENDED: &str = " (the line above had no end)";

/// Why a text was left as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Where our lines end cannot be known; somebody edited them.
    #[error("line {line} begins the lines of pbx-ha, and no line \"{END}\" ends them: remove them by hand")]
    Unterminated {
        /// Counted from 1.
        line: usize,
    },
    /// It would be more than one line, and could be the administrator's words.
    #[error("{line:?} is not one line")]
    LineBreak {
        /// The wanted line.
        line: String,
    },
}

/// The text with exactly these lines in the block: replaced where it is, appended when there is none, removed for no
/// lines.
///
/// Nothing outside the block changes, but for the lines that begin with `replaces`: an older tool's own, they are removed
/// whether the block is written or removed, and do not come back. Removing otherwise restores the text byte for byte, a
/// missing last line end included. Doing it twice is doing it once. The text need not be UTF-8.
pub fn set(
    text: &[u8],
    program: &str,
    lines: &[String],
    replaces: Option<&str>,
) -> Result<Vec<u8>, BlockError> {
    if let Some(line) = lines.iter().find(|line| line.contains(['\n', '\r', '\0'])) {
        return Err(BlockError::LineBreak { line: line.clone() });
    }
    let mut out = Vec::with_capacity(text.len() + 256);
    // where the first block was, and whether the line end before it is ours
    let mut place: Option<(usize, bool)> = None;
    let mut inside = None;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let words = line.trim_ascii_end();
        if inside.is_some() {
            if words == END.as_bytes() {
                inside = None;
            }
        } else if words.starts_with(BEGIN.as_bytes()) {
            inside = Some(number + 1);
            place.get_or_insert((out.len(), words.ends_with(UNENDED.as_bytes())));
        } else if !replaces.is_some_and(|prefix| words.starts_with(prefix.as_bytes())) {
            out.extend_from_slice(line);
        }
    }
    if let Some(line) = inside {
        return Err(BlockError::Unterminated { line });
    }

    let existed = place.is_some();
    let (at, unended) = place.unwrap_or_else(|| {
        let unended = out.last().is_some_and(|byte| *byte != b'\n');
        (out.len(), unended)
    });
    if lines.is_empty() {
        // only at the end: text that was added below our block needs the line end now
        if existed && unended && at == out.len() && out.last() == Some(&b'\n') {
            out.pop();
        }
        return Ok(out);
    }
    let mut block = String::new();
    if unended && !existed {
        block.push('\n');
    }
    block += &format!("{BEGIN}: written by {program}, do not edit{}\n", if unended { UNENDED } else { "" });
    for line in lines {
        block += line;
        block.push('\n');
    }
    block += END;
    block.push('\n');
    out.splice(at..at, block.into_bytes());
    Ok(out)
}

/// The administrator's lines: those outside our block, trimmed, with their numbers counted from 1.
pub fn outside(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if inside {
            inside = line != END;
        } else if line.starts_with(BEGIN) {
            inside = true;
        } else {
            lines.push((index + 1, line));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set_text(text: &str, lines: &[&str], replaces: Option<&str>) -> String {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        String::from_utf8(set(text.as_bytes(), "wazo-ha", &lines, replaces).unwrap()).unwrap()
    }

    const HBA: &str = "local all postgres peer\nhost asterisk postgres 10.0.0.1/32 trust\n";
    const LINE: &str = "host asterisk postgres 10.0.0.2/32 trust";

    #[test]
    fn the_block_is_appended_and_the_older_tools_lines_go() {
        assert_eq!(
            set_text(HBA, &[LINE], Some("host asterisk postgres")),
            "local all postgres peer\n\
             # BEGIN pbx-ha: written by wazo-ha, do not edit\n\
             host asterisk postgres 10.0.0.2/32 trust\n\
             # END pbx-ha\n"
        );
    }

    #[test]
    fn the_administrators_lines_are_those_outside_the_block() {
        let written = format!("{}port = 5432\n", set_text(HBA, &[LINE], Some("host asterisk postgres")));
        assert_eq!(outside(&written), [(1, "local all postgres peer"), (5, "port = 5432")]);
        assert_eq!(outside(HBA).len(), 2);
    }

    #[test]
    fn the_older_tools_lines_go_with_the_block_as_well() {
        // what they let in must not stay when the new way needs no such line
        assert_eq!(set_text(HBA, &[], Some("host asterisk postgres")), "local all postgres peer\n");
        let written = set_text(HBA, &[LINE], Some("host asterisk postgres"));
        let removed = set_text(&written, &[], Some("host asterisk postgres"));
        assert_eq!(removed, "local all postgres peer\n");
    }

    #[test]
    fn a_changed_block_stays_where_it_is() {
        let written = set_text("one\n", &["a"], None) + "two\n";
        let changed = set_text(&written, &["b", "c"], None);
        assert_eq!(
            changed,
            "one\n# BEGIN pbx-ha: written by wazo-ha, do not edit\nb\nc\n# END pbx-ha\ntwo\n"
        );
        assert_eq!(set_text(&changed, &[], None), "one\ntwo\n");
    }

    #[test]
    fn a_missing_last_line_end_is_missing_again_after_the_removal() {
        let written = set_text("port = 5432", &["a"], None);
        assert!(written.starts_with("port = 5432\n# BEGIN"));
        assert_eq!(set_text(&set_text(&written, &["b"], None), &[], None), "port = 5432");
        let added = written + "shared_buffers = 1GB\n";
        assert_eq!(set_text(&added, &[], None), "port = 5432\nshared_buffers = 1GB\n");
    }

    #[test]
    fn a_block_without_an_end_is_left_to_a_person() {
        let torn = "a\n# BEGIN pbx-ha: written by wazo-ha, do not edit\nhost all all\n";
        assert_eq!(set(torn.as_bytes(), "wazo-ha", &[], None), Err(BlockError::Unterminated { line: 2 }));
    }

    #[test]
    fn a_line_that_is_two_is_refused() {
        let two = "a\nhost all all 0.0.0.0/0 trust".to_owned();
        assert!(matches!(set(b"", "wazo-ha", &[two], None), Err(BlockError::LineBreak { .. })));
    }

    proptest! {
        #[test]
        fn set_twice_is_set_once_and_removal_restores_every_byte(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'#'), Just(0xe9u8), any::<u8>()], 0..60),
            lines in proptest::collection::vec("[a-z #]{0,8}", 1..4),
        ) {
            let once = set(&text, "wazo-ha", &lines, None).unwrap();
            prop_assert_eq!(&set(&once, "wazo-ha", &lines, None).unwrap(), &once);
            prop_assert_eq!(set(&once, "xivo-ha", &[], None).unwrap(), text.clone());
        }
    }
}
