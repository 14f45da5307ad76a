//! Voicemail as Asterisk leaves it: a text that says who called, and a recording.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::Utc;

/// Whose messages, and where they are until they are heard.
const FOLDER: &str = "default/1000/INBOX";

/// A caller leaves a message below that spool. What tells it from all others.
pub(super) fn leave(spool: &Path, caller: u32) -> io::Result<String> {
    let folder = spool.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let free = (0..).map(|number| format!("msg{number:04}"));
    let mut free = free.filter(|name| !folder.join(format!("{name}.txt")).exists());
    let name = free.next().unwrap_or_default();
    let now = Utc::now();
    let id = format!("{}-{caller:08x}", now.timestamp());
    fs::write(folder.join(format!("{name}.wav")), caller.to_be_bytes().repeat(10_000))?;
    let text = format!(
        ";\n; Message Information file\n;\n[message]\norigmailbox=1000\ncontext=phones\npriority=2\n\
         callerid=\"caller\" <{caller}>\norigdate={}\norigtime={}\nmsg_id={id}\nflag=\ncategory=\nduration=5\n",
        now.format("%a %b %d %r UTC %Y"),
        now.timestamp()
    );
    fs::write(folder.join(format!("{name}.txt")), text)?;
    Ok(id)
}

/// A file below that directory which has this message's text.
pub(super) fn find(directory: &Path, id: &str) -> Option<PathBuf> {
    let wanted = format!("msg_id={id}\n");
    let mut waiting = vec![directory.to_owned()];
    while let Some(place) = waiting.pop() {
        // what vanishes meanwhile was not it
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(path),
                Ok(kind) if kind.is_file() => {
                    let text = fs::read(&path).unwrap_or_default();
                    if text.len() < 4096 && String::from_utf8_lossy(&text).contains(&wanted) {
                        return Some(path);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_a_number_and_can_be_found_again() {
        let spool = tempfile::tempdir().unwrap();
        let (one, other) = (leave(spool.path(), 1001).unwrap(), leave(spool.path(), 1002).unwrap());
        assert_eq!(find(spool.path(), &one), Some(spool.path().join(FOLDER).join("msg0000.txt")));
        assert_eq!(find(spool.path(), &other), Some(spool.path().join(FOLDER).join("msg0001.txt")));
        assert_eq!(find(spool.path(), "1-00000001"), None);
    }
}
