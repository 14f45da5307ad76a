use proptest::prelude::*;

use super::*;

/// The file of SARK's page: its keys, values and order.
const SHIPPED: &str = "\
# Settings of asha
#
# SARK writes HACLUSTERIP, HAPRINODE, HASECNODE and HASYNCH

# address that moves
HACLUSTERIP=
# who has it in peace
HAPRINODE=haprimary
# who has it otherwise
HASECNODE=hastandby
# copy (LAZY) or not (LOOSE)
HASYNCH=LAZY
# of sshd there
HASSHPORT=22
# directory
ASTERISK=/etc/asterisk
# file
DB=/opt/sark/db/sark.db
# directory
GREETINGS=/var/lib/asterisk/sounds
# more directories
OTHER1=
OTHER2=
OTHER3=
# after a copy
POSTSYNC=/opt/sark/scripts/srkgenAst
# better not
RESTART=NO
# card
RHINOSPF=NO
# program
RSYNC=/usr/bin/rsync
# as /etc/dahdi
TELEPHONY=
# directory
VOICEMAIL=/var/spool/asterisk/voicemail
";

fn parse(text: &str) -> AshaConf {
    AshaConf::parse(text).unwrap()
}

fn refusal(text: &str) -> String {
    AshaConf::parse(text).unwrap_err().to_string()
}

fn shared(ip: &str) -> Shared {
    Shared {
        cluster_ip: Some(ip.parse().unwrap()),
        primary_node: "sark1".to_owned(),
        standby_node: "sark2.example.org".to_owned(),
        synch: Synch::Loose,
    }
}

#[test]
fn the_shipped_file_holds_the_defaults() {
    let shipped = parse(SHIPPED);
    assert_eq!(AshaConf { text: String::new(), ..shipped.clone() }, parse(""));
    assert_eq!(
        shipped,
        AshaConf {
            text: SHIPPED.to_owned(),
            shared: Shared {
                cluster_ip: None,
                primary_node: "haprimary".to_owned(),
                standby_node: "hastandby".to_owned(),
                synch: Synch::Lazy,
            },
            ssh_port: 22,
            asterisk: "/etc/asterisk".to_owned(),
            database: "/opt/sark/db/sark.db".to_owned(),
            greetings: "/var/lib/asterisk/sounds".to_owned(),
            others: Vec::new(),
            post_sync: "/opt/sark/scripts/srkgenAst".to_owned(),
            restart: false,
            rhino: false,
            rsync: "/usr/bin/rsync".to_owned(),
            telephony: None,
            voicemail: "/var/spool/asterisk/voicemail".to_owned(),
        }
    );
}

#[test]
fn every_key_is_read() {
    let text = "HACLUSTERIP=10.77.0.100\nHAPRINODE=sark1\nHASECNODE=sark2.example.org\nHASYNCH=LOOSE\n\
                HASSHPORT=2222\nASTERISK=/a/\nDB=/d b\nGREETINGS=\"/g g\"\nOTHER1=/o1\nOTHER3=/o3\n\
                POSTSYNC=/p\nRESTART=YES\nRHINOSPF=YES\nRSYNC=/r\nTELEPHONY=/etc/dahdi\nVOICEMAIL=/v\n"
        .replace("/d b", "'/d b'");
    let conf = parse(&text);
    assert_eq!(conf.shared, shared("10.77.0.100"));
    assert_eq!((conf.ssh_port, conf.restart, conf.rhino), (2222, true, true));
    assert_eq!(
        [&conf.asterisk, &conf.database, &conf.greetings, &conf.voicemail],
        ["/a", "/d b", "/g g", "/v"]
    );
    assert_eq!([&conf.post_sync, &conf.rsync], ["/p", "/r"]);
    assert_eq!(
        (conf.others.as_slice(), conf.telephony.as_deref()),
        (&["/o1", "/o3"].map(str::to_owned)[..], Some("/etc/dahdi"))
    );
}

#[test]
fn a_directory_inside_another_is_copied_with_it() {
    let text =
        "OTHER1=/var/spool/asterisk\nOTHER2=/etc/asterisk\nOTHER3=/etc/asterisk2\nTELEPHONY=/etc/dahdi\n";
    assert_eq!(
        parse(text).directories(),
        [
            ("GREETINGS", "/var/lib/asterisk/sounds"),
            ("ASTERISK", "/etc/asterisk"),
            ("TELEPHONY", "/etc/dahdi"),
            ("OTHER1..3", "/var/spool/asterisk"),
            ("OTHER1..3", "/etc/asterisk2"),
        ]
    );
}

#[test]
fn a_bad_value_is_named_with_its_line_and_what_would_be_right() {
    for (text, says) in [
        ("\nHACLUSTERIP=10.0.0.300", "line 2: HACLUSTERIP=10.0.0.300: write a free IPv4 or IPv6 address"),
        ("HACLUSTERIP=10.0.0.3/24", "line 1: HACLUSTERIP=10.0.0.3/24: write a free"),
        ("HACLUSTERIP=127.0.0.1", "line 1: HACLUSTERIP=127.0.0.1: write a free"),
        ("HACLUSTERIP=$(reboot)", "line 1: HACLUSTERIP=$(reboot): a shell would evaluate it"),
        ("OTHER1=`reboot`", "line 1: OTHER1=`reboot`: a shell would evaluate"),
        ("DB=/opt/sark db", "line 1: DB=/opt/sark db: a shell would run what stands behind the blank"),
        ("HASYNCH=lazy", "line 1: HASYNCH=lazy: write LAZY or LOOSE, in capital letters"),
        ("RESTART=no", "line 1: RESTART=no: write NO or YES"),
        ("RHINOSPF=1", "line 1: RHINOSPF=1: write NO or YES"),
        ("HASSHPORT=0", "line 1: HASSHPORT=0: write a TCP port, 1 to 65535"),
        ("HASSHPORT=+22", "line 1: HASSHPORT=+22: write a TCP port"),
        ("HASSHPORT=65536", "line 1: HASSHPORT=65536: write a TCP port"),
        ("ASTERISK=etc/asterisk", "line 1: ASTERISK=etc/asterisk: write a directory's absolute path"),
        ("OTHER2=/", "line 1: OTHER2=/: write a directory's absolute path"),
        ("OTHER3=/srv/../etc", "line 1: OTHER3=/srv/../etc: write a directory's"),
        ("DB=/opt/sark/db/", "line 1: DB=/opt/sark/db/: write a file's absolute path"),
        ("HAPRINODE=-x", "line 1: HAPRINODE=-x: write what `uname -n` says there"),
        ("HAPRINODE='a b'", "line 1: HAPRINODE=a b: write what `uname -n`"),
        ("HAPRINODE=x\nHASECNODE=x", "line 2: HASECNODE=x: is the primary node's name as well"),
        ("HAPRINODE=hastandby", "HASECNODE=hastandby: is the primary node's name as well"),
        // the last one is in force, as in a shell
        ("HASYNCH=LAZY\nHASYNCH=x", "line 2: HASYNCH=x: write LAZY"),
        (". /etc/other.conf", "line 1: . /etc/other.conf: a shell would run this"),
    ] {
        let refusal = refusal(text);
        assert!(refusal.starts_with(&format!("/etc/asha.conf: {says}")), "{text:?}\n-> {refusal}");
    }
}

#[test]
fn only_the_managed_keys_change() {
    let edited = parse(SHIPPED).edit(&shared("10.77.0.100")).unwrap();
    let wanted = SHIPPED
        .replace("HACLUSTERIP=\n", "HACLUSTERIP=10.77.0.100\n")
        .replace("=haprimary", "=sark1")
        .replace("=hastandby", "=sark2.example.org")
        .replace("=LAZY", "=LOOSE");
    assert_eq!(edited, wanted);
    assert_eq!(parse(&edited).edit(&parse(SHIPPED).shared).unwrap(), SHIPPED, "and back");
}

#[test]
fn a_file_that_people_have_worked_on_stays_theirs() {
    let text = "# CRLF, \u{e9}\r\n\r\nHASYNCH=LOOSE\r\n export HASYNCH=\"LAZY\"  # last\r\nMINE=$HOME/x\r\nHACLUSTERIP=";
    let edited = parse(text).edit(&shared("2001:db8::100")).unwrap();
    assert_eq!(
        edited,
        "# CRLF, \u{e9}\r\n\r\nHASYNCH=LOOSE\r\n export HASYNCH=\"LOOSE\"  # last\r\nMINE=$HOME/x\r\n\
         HACLUSTERIP=2001:db8::100\r\nHAPRINODE=sark1\r\nHASECNODE=sark2.example.org\r\n"
    );
}

#[test]
fn what_the_file_cannot_hold_is_not_set() {
    let conf = parse(SHIPPED);
    for name in ["a b", "$(reboot)", "", "haprimary\nRESTART=YES"] {
        let wanted = Shared {
            primary_node: name.to_owned(),
            standby_node: "haprimary".to_owned(),
            ..shared("10.0.0.1")
        };
        assert!(conf.edit(&wanted).is_err(), "{name:?}");
    }
}

/// Files as people leave them: keys of the page and others, comments, blanks, all line ends.
fn any_file() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just(String::new()),
        "#[ -~]{0,20}",
        "MINE[A-C]=\"?[a-z/]{0,6}\"?",
        "(export )?HACLUSTERIP=\"?(10\\.0\\.0\\.[1-9])?\"?",
        "HAPRINODE='?(p[0-9a-z.-]{0,9})?'?",
        "HASECNODE=(s[0-9a-z.-]{0,9})?( # [a-z]*)?",
        "HASYNCH=(LAZY|LOOSE)?",
        "OTHER[1-3]=/[a-z]{1,5}/?",
        "[A-Z]{0,4}[=;$`\"' a-z]{0,6}",
    ];
    let end = prop_oneof![4 => Just("\n"), 1 => Just("\r\n")];
    (proptest::collection::vec((line, end), 0..10), any::<bool>()).prop_map(|(lines, ended)| {
        let text: String = lines.iter().map(|(line, end)| format!("{line}{end}")).collect();
        if ended { text } else { text.trim_end_matches(['\r', '\n']).to_owned() }
    })
}

fn any_shared() -> impl Strategy<Value = Shared> {
    let ip = prop_oneof![Just(None), (1..=223_u8, any::<u8>()).prop_map(|(a, b)| Some([10, 0, b, a].into()))];
    let synch = prop_oneof![Just(Synch::Lazy), Just(Synch::Loose)];
    (ip, "p[a-z0-9._-]{0,12}", "s[a-z0-9._-]{0,12}", synch).prop_map(
        |(cluster_ip, primary_node, standby_node, synch)| Shared {
            cluster_ip,
            primary_node,
            standby_node,
            synch,
        },
    )
}

/// The lines that set no managed key.
fn others(text: &str) -> Vec<&str> {
    let managed = |line: &&str| {
        let words = line.trim_start_matches("export ").trim_start();
        [CLUSTER_IP, PRIMARY_NODE, STANDBY_NODE, SYNCH]
            .iter()
            .any(|key| words.starts_with(&format!("{key}=")))
    };
    text.split_inclusive('\n').filter(|line| !managed(line)).collect()
}

proptest! {
    #[test]
    fn what_is_edited_is_read_back_twice_is_once_and_nothing_else_changes(text in any_file(), wanted in any_shared()) {
        if let Ok(conf) = AshaConf::parse(&text) {
            let edited = conf.edit(&wanted).unwrap();
            let read = AshaConf::parse(&edited).unwrap();
            prop_assert_eq!(&read.shared, &wanted);
            prop_assert_eq!(&read.edit(&wanted).unwrap(), &edited);
            let before: Vec<&str> = others(&text);
            let after: Vec<&str> = others(&edited);
            let ended = |line: &&str| line.trim_end_matches(['\r', '\n']).to_owned();
            // a last line without an end gets one when a key is added below it
            prop_assert_eq!(before.iter().map(ended).collect::<Vec<_>>(), after.iter().map(ended).collect::<Vec<_>>());
            prop_assert_eq!(&before[..before.len().saturating_sub(1)], &after[..after.len().saturating_sub(1)]);
            let rest = |conf: AshaConf| AshaConf { text: String::new(), shared: wanted.clone(), ..conf };
            prop_assert_eq!(rest(conf), rest(read));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = AshaConf::parse(&String::from_utf8_lossy(&bytes));
    }
}
