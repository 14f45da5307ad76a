//! Lines between two markers in a file that belongs to the administrator, as a function of the text.

use ha_core::effect::Block;

/// How every first marker goes on after the comment sign, whichever program wrote it.
const BEGIN: &str = " BEGIN pbx-ha";
const END: &str = " END pbx-ha";
/// On a first marker whose line end before it is ours: the file ended in the middle of a line.
const UNENDED: &str = " (the line above had no end)";

/// Why a text was left as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Where our lines end cannot be known; somebody edited them.
    #[error("line {line} begins the lines of pbx-ha, and no line \"{end}\" ends them: remove them by hand")]
    Unterminated {
        /// Counted from 1.
        line: usize,
        /// The missing line.
        end: String,
    },
    /// It would be more than one line, and could be the administrator's words.
    #[error("{line:?} is not one line")]
    LineBreak {
        /// The wanted line.
        line: String,
    },
}

/// The text with exactly the block's lines in our block: replaced where it is, appended when there is none, removed for no
/// lines. In a section of an ini file it always stands at the section's end.
///
/// Nothing outside the block changes, but for the lines that begin with `replaces`: an older tool's own, they are removed
/// whether the block is written or removed, and do not come back. Removing otherwise restores the text byte for byte, a
/// missing last line end included. Doing it twice is doing it once. The text need not be UTF-8.
pub fn set(text: &[u8], program: &str, block: &Block) -> Result<Vec<u8>, BlockError> {
    if let Some(line) = block.lines.iter().find(|line| line.contains(['\n', '\r', '\0'])) {
        return Err(BlockError::LineBreak { line: line.clone() });
    }
    let comment = if block.section.is_some() { ";" } else { "#" };
    let (begin, end) = (format!("{comment}{BEGIN}"), format!("{comment}{END}"));
    let mut out = Vec::with_capacity(text.len() + 256);
    // where the first block was, and whether the line end before it is ours
    let mut place: Option<(usize, bool)> = None;
    let mut inside = None;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let words = line.trim_ascii_end();
        if inside.is_some() {
            if words == end.as_bytes() {
                inside = None;
            }
        } else if words.starts_with(begin.as_bytes()) {
            inside = Some(number + 1);
            place.get_or_insert((out.len(), words.ends_with(UNENDED.as_bytes())));
        } else if !block.replaces.as_ref().is_some_and(|prefix| words.starts_with(prefix.as_bytes())) {
            out.extend_from_slice(line);
        }
    }
    if let Some(line) = inside {
        return Err(BlockError::Unterminated { line, end });
    }
    if block.lines.is_empty() {
        // only at the end: text that was added below our block needs the line end now
        if place == Some((out.len(), true)) && out.last() == Some(&b'\n') {
            out.pop();
        }
        return Ok(out);
    }

    let section = block.section.as_deref().map(|name| (name, end_of_section(&out, name)));
    let at = match section {
        Some((_, found)) => found.unwrap_or(out.len()),
        None => place.map_or(out.len(), |(at, _)| at),
    };
    let joins = at > 0 && out[at - 1] != b'\n';
    let unended = joins || place == Some((at, true));
    let mut lines =
        vec![format!("{begin}: written by {program}, do not edit{}", if unended { UNENDED } else { "" })];
    if let Some((name, None)) = section {
        lines.push(format!("[{name}]"));
    }
    lines.extend(block.lines.iter().cloned());
    lines.push(end);
    let ours = format!("{}{}\n", if joins { "\n" } else { "" }, lines.join("\n"));
    out.splice(at..at, ours.into_bytes());
    Ok(out)
}

/// Where the last section of that name ends: after its last line that is not blank.
fn end_of_section(text: &[u8], name: &str) -> Option<usize> {
    let header = format!("[{name}]");
    let (mut at, mut inside, mut end) = (0, false, None);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        let words = line.trim_ascii();
        if words.starts_with(b"[") {
            inside = words.starts_with(header.as_bytes());
        }
        if inside && !words.is_empty() {
            end = Some(at);
        }
    }
    end
}

/// The administrator's lines: those outside our block, trimmed, with their numbers counted from 1.
pub fn outside(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if inside {
            inside = line.strip_prefix('#') != Some(END);
        } else if line.strip_prefix('#').is_some_and(|words| words.starts_with(BEGIN)) {
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

    fn block(section: Option<&str>, lines: &[&str], replaces: Option<&str>) -> Block {
        Block {
            path: "/etc/some.conf".to_owned(),
            section: section.map(str::to_owned),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            replaces: replaces.map(str::to_owned),
        }
    }

    fn set_block(text: &str, block: &Block) -> String {
        String::from_utf8(set(text.as_bytes(), "wazo-ha", block).unwrap()).unwrap()
    }

    fn set_text(text: &str, lines: &[&str], replaces: Option<&str>) -> String {
        set_block(text, &block(None, lines, replaces))
    }

    const INI: &str = "[general]\nkey = 1\n\n[user]\nreadonly-idpwd = \"true\"\n\n[other]\nkey = 2\n";

    fn set_ini(text: &str, lines: &[&str]) -> String {
        set_block(text, &block(Some("user"), lines, None))
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
        let refusal = set(torn.as_bytes(), "wazo-ha", &block(None, &[], None)).unwrap_err();
        assert!(matches!(refusal, BlockError::Unterminated { line: 2, .. }), "{refusal}");
        assert!(refusal.to_string().contains("\"# END pbx-ha\""), "{refusal}");
    }

    #[test]
    fn a_line_that_is_two_is_refused() {
        let two = block(None, &["a\nhost all all 0.0.0.0/0 trust"], None);
        assert!(matches!(set(b"", "wazo-ha", &two), Err(BlockError::LineBreak { .. })));
    }

    #[test]
    fn a_line_of_a_section_stands_at_its_end_and_the_administrators_own_stays() {
        let written = set_ini(INI, &["readonly-idpwd = \"false\""]);
        assert_eq!(
            written,
            "[general]\nkey = 1\n\n[user]\nreadonly-idpwd = \"true\"\n\
             ; BEGIN pbx-ha: written by wazo-ha, do not edit\n\
             readonly-idpwd = \"false\"\n\
             ; END pbx-ha\n\n[other]\nkey = 2\n"
        );
        assert_eq!(set_ini(&written, &[]), INI);
    }

    #[test]
    fn a_line_that_was_added_below_ours_does_not_win() {
        let written = set_ini(INI, &["a = 1"]);
        let added = written.replace("; END pbx-ha\n", "; END pbx-ha\na = 2\n");
        assert!(set_ini(&added, &["a = 1"]).contains("a = 2\n; BEGIN"), "moved to the end");
    }

    #[test]
    fn a_file_without_the_section_gets_it_with_our_line_and_loses_it_with_it() {
        let written = set_ini("[general]\nkey = 1", &["a = 1"]);
        assert!(
            written.contains("do not edit (the line above had no end)\n[user]\na = 1\n; END"),
            "{written}"
        );
        assert_eq!(set_ini(&written, &["a = 1"]), written);
        assert_eq!(set_ini(&written, &[]), "[general]\nkey = 1");
    }

    proptest! {
        #[test]
        fn set_twice_is_set_once_and_removal_restores_every_byte(
            text in proptest::collection::vec(
                prop_oneof![Just(b"\n".to_vec()), Just(b"#".to_vec()), Just(b"[user]".to_vec()), Just(b"[".to_vec()),
                    Just(vec![0xe9u8]), any::<u8>().prop_map(|byte| vec![byte])], 0..60),
            lines in proptest::collection::vec("[a-z #]{0,8}", 1..4),
            section in prop_oneof![Just(None), Just(Some("user"))],
        ) {
            let text = text.concat();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let wanted = block(section, &lines, None);
            let once = set(&text, "wazo-ha", &wanted).unwrap();
            prop_assert_eq!(&set(&once, "wazo-ha", &wanted).unwrap(), &once);
            prop_assert_eq!(set(&once, "xivo-ha", &block(section, &[], None)).unwrap(), text.clone());
        }
    }
}
