//! What is replicated, and the changes whose replication is measured.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use ha_tests::Host;

use crate::scale::Scale;
use crate::stage::{Stage, VOICEMAIL};

/// The folder of the big files.
const SOUNDS: &str = "/var/lib/asterisk/moh/default";
/// When what nobody changes was written, 2026-01-01, and the second file a second later.
const OLD: Duration = Duration::from_secs(1_767_225_600);

/// Writes the master's files that are not there yet.
pub(crate) fn write_files(stage: &Stage) {
    for number in 0..stage.scale.sounds {
        let path = stage.path(Host::Master, &format!("{SOUNDS}/long{number}.wav"));
        if !path.exists() {
            write(&path, &noise(u64::from(number) + 1, stage.scale.sound_size), old(number));
        }
    }
    for mailbox in 0..stage.scale.mailboxes {
        let folder = inbox(stage, mailbox);
        if folder.exists() {
            continue;
        }
        fs::create_dir_all(&folder).expect("a folder can be made");
        for message in 0..Scale::MESSAGES {
            write_message(&folder, mailbox, message, old(mailbox * Scale::MESSAGES + message));
        }
    }
}

/// Removes the small files of both hosts, for the room that they take in the machine's memory.
pub(crate) fn remove_small_files(stage: &Stage) {
    for host in [Host::Master, Host::Slave] {
        stage.lab().sh(host, &format!("rm -rf {VOICEMAIL}/default")).ok();
    }
}

/// Replaces the master's rows by those of so many users.
pub(crate) fn load_rows(stage: &Stage) {
    stage.master.run(&format!("TRUNCATE {}", tables(stage, "true")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/pbxdb.py");
    let mut rows = Command::new(script)
        .args(["rows", "--users", &stage.scale.users.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let psql = Command::new("psql")
        .args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-o",
            "/dev/null",
            "-U",
            "postgres",
            "-d",
            "asterisk",
            "-h",
        ])
        .arg(stage.lab().mailbox(Host::Master, "pg"))
        .stdin(rows.stdout.take().expect("it is piped"))
        .status()
        .expect("psql is installed");
    let written = rows.wait().expect("it was started");
    assert!(psql.success() && written.success(), "the rows of the master: {psql}, {written}");
    stage.master.run("VACUUM (ANALYZE)");
}

/// The folder of a mailbox, as seen from here.
fn inbox(stage: &Stage, mailbox: u32) -> PathBuf {
    stage.path(Host::Master, &format!("{VOICEMAIL}/default/{}/INBOX", 10_000 + mailbox))
}

/// Two files: about a kilobyte of text and three of sound.
fn write_message(folder: &Path, mailbox: u32, message: u32, modified: SystemTime) {
    let seed = u64::from(mailbox) << 32 | u64::from(message);
    let text = format!("[message]\norigmailbox={mailbox}\nmsg_id={seed}-{message}\ncallerid=").repeat(15);
    write(&folder.join(format!("msg{message:04}.txt")), text.as_bytes(), modified);
    write(&folder.join(format!("msg{message:04}.wav")), &noise(seed + 1, 3000), modified);
}

fn write(path: &Path, content: &[u8], modified: SystemTime) {
    let mut file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.write_all(content).expect("there is room");
    file.set_times(FileTimes::new().set_modified(modified)).expect("the file is ours");
}

fn old(number: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + OLD + Duration::from_secs(number.into())
}

/// Bytes that nothing compresses, the same for the same seed (xorshift64*).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// One row, in a table that telephony reads.
pub(crate) fn change_one_row(stage: &Stage, turn: u32) {
    expect_rows(1, stage.master.run(&one_row("id = 7", &format!("Turn {turn}"))));
}

/// The statement that renames users.
pub(crate) fn one_row(which: &str, name: &str) -> String {
    format!("UPDATE userfeatures SET lastname = '{name}' WHERE {which}")
}

/// 200 rows of six tables, as an administrator's hour leaves them: most updated, some new, some gone.
pub(crate) fn change_many_rows(stage: &Stage, turn: u32) {
    let statements = [
        one_row("id IN (SELECT id FROM userfeatures ORDER BY id LIMIT 60)", &format!("Many {turn}")),
        format!(
            "UPDATE endpoint_sip_section_option SET value = 'many {turn}' WHERE uuid IN \
             (SELECT uuid FROM endpoint_sip_section_option ORDER BY uuid LIMIT 60)"
        ),
        format!(
            "UPDATE dialaction SET actionarg1 = '{turn}' WHERE (event, category, categoryval) IN \
             (SELECT event, category, categoryval FROM dialaction ORDER BY 3, 2, 1 LIMIT 40)"
        ),
        format!(
            "UPDATE voicemail SET password = '{turn}' WHERE uniqueid IN \
             (SELECT uniqueid FROM voicemail ORDER BY uniqueid LIMIT 20)"
        ),
        format!(
            "INSERT INTO extensions (commented, context, exten, type, typeval) \
             SELECT 0, (SELECT min(name) FROM context), 'm{turn}x' || i, 'user', i::text FROM generate_series(1, 10) i"
        ),
        "DELETE FROM func_key_mapping WHERE ctid IN \
         (SELECT ctid FROM func_key_mapping ORDER BY template_id, func_key_id LIMIT 10)"
            .to_owned(),
    ];
    expect_rows(200, stage.master.run(&statements.join(";\n")));
}

/// Takes every row from the slave's tables. Which release the schema is of, a fresh slave knows too.
pub(crate) fn empty_rows(stage: &Stage) {
    stage.slave.run(&format!("TRUNCATE {}", tables(stage, "tablename NOT LIKE '%alembic_version%'")));
}

/// Ten messages that came in, in as many mailboxes: twenty files.
pub(crate) fn add_files(stage: &Stage, turn: u32) {
    for mailbox in 0..10 {
        write_message(&inbox(stage, mailbox), mailbox, 100 + turn, SystemTime::now());
    }
}

/// A message of its own, whose path from the root is returned.
pub(crate) fn add_file(stage: &Stage, turn: u32) -> String {
    let name = format!("change{turn:04}.txt");
    fs::write(inbox(stage, 0).join(&name), format!("change {turn}\n")).expect("there is room");
    format!("{VOICEMAIL}/default/10000/INBOX/{name}")
}

/// Two bytes near the start of a big file, so that all that follows moves.
pub(crate) fn insert_bytes(stage: &Stage) {
    let path = stage.path(Host::Master, &format!("{SOUNDS}/long0.wav"));
    let mut content = fs::read(&path).expect("it was written before");
    content.splice(1000..1000, *b"!!");
    fs::write(&path, content).expect("there is room");
}

/// Takes every file from the slave's trees; the trees stay.
pub(crate) fn empty_files(stage: &Stage) {
    for tree in stage.trees() {
        let Ok(listed) = fs::read_dir(stage.path(Host::Slave, tree)) else { continue };
        for entry in listed {
            let path = entry.expect("the tree can be read").path();
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

/// The tables of which that is true, for a statement.
fn tables(stage: &Stage, which: &str) -> String {
    let names =
        format!("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' AND {which}");
    stage.master.column(&names).join(", ")
}

#[track_caller]
fn expect_rows(wanted: u64, touched: u64) {
    assert_eq!(touched, wanted, "rows that were changed for this row of the table");
}
