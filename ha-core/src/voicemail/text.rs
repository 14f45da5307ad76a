//! The text of a message, `msgNNNN.txt`.

use std::collections::BTreeMap;

/// What a message's text says, by key: `origmailbox`, `callerid`, `origtime`, `msg_id`, `duration`, `flag` and others.
///
/// Written by Asterisk as a section `[message]` of `key=value`, lines beginning with `;` being comments. Values are
/// taken as they are; bytes that are no UTF-8 (names of callers) are replaced by U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(BTreeMap<String, String>);

impl Text {
    /// `None`: there is no section `[message]`, as in a file that was cut off by a power failure.
    pub fn parse(bytes: &[u8]) -> Option<Text> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| *line == "[message]")?;
        let mut keys = BTreeMap::new();
        for line in lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with(';')) {
            if let Some((key, value)) = line.split_once('=') {
                // Asterisk reads "key => value" as well
                let value = value.strip_prefix('>').unwrap_or(value);
                // ... and looks a key up at its first place
                keys.entry(key.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
            }
        }
        Some(Text(keys))
    }

    /// The value of a key; `None`: it is absent or empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_asterisk_is_read() {
        let text = b";\n; Message Information file\n;\n[message]\norigmailbox=6001\ncontext=internal\nmacrocontext=\n\
            exten=6001\nrdnis=unknown\npriority=2\ncallerchan=SIP/6002-00000001\ncallerid=\"Bo = B\" <6002>\n\
            origdate=Sat Nov 21 10:11:12 PM UTC 2026\norigtime=1795299072\ncategory=\nmsg_id=1795299072-00000001\n\
            flag=\nduration=5\n";
        let text = Text::parse(text).unwrap();
        assert_eq!(text.get("callerid"), Some("\"Bo = B\" <6002>"));
        assert_eq!(text.get("msg_id"), Some("1795299072-00000001"));
        assert_eq!((text.get("category"), text.get("flag"), text.get("none")), (None, None, None));
        assert_eq!(text.get("duration"), Some("5"));
    }

    #[test]
    fn what_a_power_failure_left_is_no_text() {
        assert_eq!(Text::parse(b""), None);
        assert_eq!(Text::parse(&[0; 400]), None);
        assert_eq!(Text::parse(b"; Message Information file\n"), None);
        // cut inside: what is there counts
        assert_eq!(Text::parse(b"[message]\r\norigtime => 5\r\ncall").unwrap().get("origtime"), Some("5"));
    }
}
