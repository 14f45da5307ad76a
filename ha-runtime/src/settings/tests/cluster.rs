use super::*;
use ha_core::cluster::Terms;

const SHARED: Profile = Profile { exclusive_address: true, automatic_failback: false, ..EXAMPLE };
/// What the native kind needs beside the section.
const PROBE: &str = "[probe]\nreference = [\"10.77.0.1\"]\n";

fn parse(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse(text, Path::new("/etc/pbx-ha/pbx-ha.toml"), &SHARED)
}

fn terms(cluster: &Cluster) -> Terms {
    match cluster.kind {
        ClusterKind::Native(terms) => terms,
        ClusterKind::Heartbeat(heartbeat) => panic!("{heartbeat:?}"),
    }
}

#[test]
fn without_the_section_no_address_is_held() {
    assert_eq!(parse("").unwrap().cluster, None);
    assert_eq!(Settings::defaults(&SHARED), parse("").unwrap());
}

#[test]
fn the_section_alone_gives_the_defaults_of_its_preset() {
    let cluster = parse(&format!("{PROBE}[cluster]\n")).unwrap().cluster.unwrap();
    let wanted = Cluster {
        kind: ClusterKind::Native(Terms {
            lease: millis(1000),
            margin: millis(500),
            beat: millis(100),
            permit: millis(150),
        }),
        interface: "eth0".to_owned(),
        key_file: "/etc/pbx-ha/cluster.key".into(),
        paths: Vec::new(),
        port: 9488,
        without_references: false,
    };
    assert_eq!(cluster, wanted);
    let seed = parse("preset = \"seed\"\n[cluster]\n").unwrap().cluster.unwrap();
    let heartbeat =
        Heartbeat { keepalive: millis(2000), deadtime: millis(10_000), initdead: millis(120_000) };
    assert_eq!(seed, Cluster { kind: ClusterKind::Heartbeat(heartbeat), port: 694, ..wanted });
}

#[test]
fn every_key_is_read_and_printed_again() {
    let fast = "[cluster]\nkind = \"native\"\ninterface = \"ens18\"\nkey_file = \"/etc/k\"\nreferences = \"none\"\n\
                paths = [\"10.77.0.12\", \"10.78.0.12\"]\nport = 7000\n\
                lease = \"300ms\"\nmargin = \"150ms\"\nbeat = \"50ms\"\npermit = \"50ms\"\n";
    let cluster = parse(fast).unwrap().cluster.unwrap();
    assert_eq!(
        terms(&cluster),
        Terms { lease: millis(300), margin: millis(150), beat: millis(50), permit: millis(50) }
    );
    assert_eq!((cluster.interface.as_str(), cluster.port, cluster.without_references), ("ens18", 7000, true));
    assert_eq!(cluster.paths, ["10.77.0.12", "10.78.0.12"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    let heartbeat = "[cluster]\nkind = \"heartbeat\"\nkeepalive = \"200ms\"\ndeadtime = \"2s\"\n\
                     initdead = \"5s\"\n";
    for text in [fast, heartbeat, &format!("{PROBE}[cluster]\n")] {
        let settings = parse(text).unwrap();
        let printed = settings.to_toml();
        assert_eq!(parse(&printed).unwrap(), settings, "{printed}");
    }
}

#[test]
fn a_distribution_whose_nodes_have_an_address_each_knows_no_cluster() {
    let refusal = super::refusal("\n[cluster]\n");
    assert!(
        refusal.starts_with("/etc/pbx-ha/pbx-ha.toml:2: cluster: example has an address for each"),
        "{refusal}"
    );
}

#[test]
fn a_term_that_would_let_two_nodes_hold_the_address_is_refused() {
    // 150 ms + a fifth of the lease + 8 ms + a thousandth of the lease
    assert!(parse(&format!("{PROBE}[cluster]\nmargin = \"359ms\"")).is_ok());
    assert!(parse(&format!("{PROBE}[cluster]\nlease = \"600ms\"")).is_ok());
    for (text, says) in [
        (
            "margin = \"358ms\"",
            "margin: \"358ms\" does not cover a permit of \"150ms\", a fifth of the lease, the kernel's clock and two clocks that drift: at least \"359ms\"",
        ),
        ("lease = \"10s\"\nmargin = \"167ms\"", "margin: \"167ms\" does not cover"),
        (
            "lease = \"599ms\"",
            "lease: \"599ms\" lapses when beats every \"100ms\" are lost: at least \"600ms\"",
        ),
        ("beat = \"0s\"", "beat: \"0s\" is no time"),
        ("permit = \"0s\"", "permit: \"0s\" is no time"),
        ("deadtime = \"10s\"", "deadtime: is Heartbeat's"),
        ("kind = \"heartbeat\"\nlease = \"1s\"", "lease: is the native cluster's"),
        (
            "kind = \"heartbeat\"\ndeadtime = \"3s\"",
            "deadtime: \"3s\" is less than four heartbeats: at least \"4s\"",
        ),
        ("kind = \"heartbeat\"\nkeepalive = \"0s\"", "keepalive: \"0s\" is no time"),
        ("kind = \"corosync\"", "kind: unknown variant `corosync`, expected `native` or `heartbeat`"),
        ("references = \"none\"", "references: \"none\" contradicts the key probe.reference"),
        ("references = \"some\"", "references: unknown variant `some`, expected `none`"),
        ("interface = \"lo\"", "interface: \"lo\" reaches no phone"),
        ("interface = \"eth0; reboot\"", "interface: \"eth0; reboot\" is not an interface's name"),
        ("interface = \"a-name-of-16-chr\"", "interface: \"a-name-of-16-chr\" is not an interface's name"),
        ("key_file = \"key\"", "key_file: \"key\" is not an absolute path"),
        ("port = 0", "port: 0 is no port"),
        ("paths = [\"peer\"]", "paths: \"peer\" is not an IP address"),
        (
            "paths = [\"127.0.0.1\"]",
            "paths: 127.0.0.1 is this machine itself: give an address of the other node",
        ),
        ("beats = \"1s\"", "beats: unknown field `beats`"),
    ] {
        let refusal = parse(&format!("{PROBE}[cluster]\n{text}")).unwrap_err().to_string();
        assert!(refusal.contains(&format!(": cluster.{says}")), "{text}\n-> {refusal}");
    }
}

#[test]
fn without_a_reference_the_native_kind_must_be_told_so() {
    let refusal = parse("[cluster]\nkind = \"native\"").unwrap_err().to_string();
    assert!(
        refusal.starts_with("/etc/pbx-ha/pbx-ha.toml:1: cluster.references: is missing: name hosts"),
        "{refusal}"
    );
    assert!(parse("[cluster]\nkind = \"native\"\nreferences = \"none\"").is_ok());
}

#[test]
fn a_failback_waits_for_a_person_where_the_distribution_has_it_so() {
    assert_eq!(parse("").unwrap().failback.policy, FailbackPolicy::Manual);
    assert_eq!(parse("preset = \"seed\"").unwrap().failback.policy, FailbackPolicy::Manual);
    let set = parse("[failback]\npolicy = \"automatic\"").unwrap();
    assert_eq!(set.failback.policy, FailbackPolicy::Automatic);
}

#[test]
fn hooks_are_words_of_a_command_and_known_to_a_pair_with_one_address_alone() {
    let text = "[sark]\nprovision = [\"/usr/local/bin/provision\", \"{cluster_ip}\"]\nrhino = [\"rhino\"]\n";
    let settings = parse(text).unwrap();
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let wanted = Hooks {
        provision: words(&["/usr/local/bin/provision", "{cluster_ip}"]),
        bind: None,
        rhino: words(&["rhino"]),
    };
    assert_eq!(settings.hooks, wanted);
    assert_eq!(parse(&settings.to_toml()).unwrap(), settings);
    let refused = parse("[sark]\nbind = []").unwrap_err().to_string();
    assert!(refused.contains(":2: sark.bind: names no program"), "{refused}");
    assert!(super::refusal(text).contains(":1: sark: example has no [sark]"));
}

#[test]
fn an_address_is_taken_when_its_lease_must_have_run_out() {
    let silence = |text: &str| {
        let text = format!("[cluster]\nreferences = \"none\"\n{text}");
        let path = Path::new("/etc/pbx-ha/pbx-ha.toml");
        Settings::parse(&text, path, &SHARED).unwrap().cluster.unwrap().silence()
    };
    assert_eq!(silence(""), millis(1550), "lease, margin and the question whether somebody else has it");
    assert_eq!(silence("kind = \"heartbeat\"\ndeadtime = \"7s\"\n"), millis(7000));
}
