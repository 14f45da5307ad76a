use super::*;
use ha_core::follow::{ContactCentre, Edge, MediaServers, Sides};
use ha_core::profile::Follower;

const ALL: Profile =
    Profile { followers: &[Follower::ContactCentre, Follower::MediaServers, Follower::Edge], ..EXAMPLE };
const EDGE: &str = "[edge]\nxivo_master = \"10.77.0.11\"\nxivo_slave = \"10.77.0.12\"\n\
                    cc_master = \"10.77.0.21\"\ncc_slave = \"10.77.0.22\"\n";

fn parse(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse(text, Path::new("/etc/pbx-ha/pbx-ha.toml"), &ALL)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn hosts(master: &str, slave: &str) -> Sides<IpAddr> {
    Sides { master: master.parse().unwrap(), slave: slave.parse().unwrap() }
}

#[test]
fn without_a_section_nothing_follows() {
    assert_eq!(parse("").unwrap().followers, Followers::default());
}

#[test]
fn what_is_not_written_comes_from_the_documents() {
    let text = format!("{EDGE}host = \"10.77.0.31\"\n[cc]\n[xds]\nservers = [\"mds1\", \"mds2\"]\n");
    let wanted = Followers {
        contact_centre: Some(ContactCentre {
            automatic: true,
            hosts: hosts("10.77.0.21", "10.77.0.22"),
            restart: words(&["xivocc-dcomp", "restart", "xuc"]),
            answers: "http://{cc}:8090/".to_owned(),
        }),
        media_servers: Some(MediaServers {
            names: words(&["mds1", "mds2"]),
            command: words(&["asterisk", "-rx", "sip show registry"]),
            registered: "Registered".to_owned(),
        }),
        edge: Some(Edge {
            automatic: true,
            host: Some("10.77.0.31".parse().unwrap()),
            file: "/etc/docker/edge/.env".to_owned(),
            apply: words(&["edge-dcomp", "up", "-d"]),
            xivo: hosts("10.77.0.11", "10.77.0.12"),
            cc: hosts("10.77.0.21", "10.77.0.22"),
        }),
    };
    assert_eq!(parse(&text).unwrap().followers, wanted);
}

#[test]
fn with_the_documents_preset_a_person_does_it() {
    let text = format!("preset = \"seed\"\n{EDGE}host = \"10.77.0.31\"\n[cc]\n");
    let followers = parse(&text).unwrap().followers;
    assert!(!followers.edge.unwrap().automatic);
    assert!(!followers.contact_centre.unwrap().automatic);
}

#[test]
fn an_edge_that_is_nowhere_is_never_switched_by_itself() {
    assert!(!parse(EDGE).unwrap().followers.edge.unwrap().automatic);
    let refusal = parse(&format!("{EDGE}automatic = true\n")).unwrap_err().to_string();
    assert!(refusal.contains(":6: edge.automatic: true needs the key edge.host"), "{refusal}");
}

#[test]
fn followers_in_force_are_printed_as_a_file_that_gives_them() {
    let everything = format!(
        "{EDGE}host = \"10.77.0.31\"\nautomatic = false\nfile = \"/srv/.env\"\napply = [\"true\"]\n\
         [cc]\nautomatic = false\nmaster = \"2001:db8::21\"\nslave = \"2001:db8::22\"\nrestart = [\"true\"]\nanswers = \"\"\n\
         [xds]\nservers = [\"mds1\"]\ncommand = [\"true\"]\nregistered = \"up\"\n"
    );
    for text in [EDGE, everything.as_str()] {
        let settings = parse(text).unwrap();
        assert_eq!(parse(&settings.to_toml()).unwrap(), settings);
    }
}

#[test]
fn a_machine_that_the_distribution_does_not_know_is_refused() {
    for (text, key) in [(EDGE, "edge"), ("[cc]\n", "cc"), ("[xds]\n", "xds")] {
        let refusal = Settings::parse(text, Path::new("x.toml"), &EXAMPLE).unwrap_err().to_string();
        assert_eq!(refusal, format!("x.toml:1: {key}: example has no [{key}]: remove the section"));
    }
    let older =
        Settings::parse("release = \"1.2\"\n[cc]\n", Path::new("x.toml"), &EXAMPLE).unwrap_err().to_string();
    assert_eq!(older, "x.toml:2: cc: example 1.2 has no [cc]: remove the section");
}

#[test]
fn a_bad_follower_is_named_with_what_would_be_right() {
    let edge = |replaced: &str, by: &str| EDGE.replace(replaced, by);
    let cc = |more: &str| format!("[cc]\nmaster = \"10.77.0.21\"\nslave = \"10.77.0.22\"\n{more}");
    for (text, says) in [
        (
            edge("cc_slave = \"10.77.0.22\"\n", ""),
            ":1: edge.cc_slave: is missing: give a contact centre's, as",
        ),
        (edge("xivo_slave = \"10.77.0.12\"\n", ""), ":1: edge.xivo_slave: is missing: give a node's"),
        (edge("10.77.0.12", "10.77.0.11"), ":3: edge.xivo_slave: 10.77.0.11 is edge.xivo_master as well"),
        (edge("10.77.0.22", "::ffff:10.77.0.21"), ":5: edge.cc_slave: 10.77.0.21 is edge.cc_master as well"),
        (edge("10.77.0.11", "pbx"), ":2: edge.xivo_master: \"pbx\" is not an IP address"),
        (edge("10.77.0.21", "0.0.0.0"), ":4: edge.cc_master: 0.0.0.0 is not one host"),
        (format!("{EDGE}host = \"edge\"\n"), ":6: edge.host: \"edge\" is not an IP address"),
        (format!("{EDGE}file = \".env\"\n"), ":6: edge.file: \".env\" is not a file's absolute path"),
        (format!("{EDGE}apply = []\n"), ":6: edge.apply: names no program: as [\"edge-dcomp\""),
        ("[cc]\nmaster = \"10.77.0.21\"\n".to_owned(), ":1: cc.slave: is missing: give a contact centre's"),
        (
            "[cc]\nmaster = \"::1:2\"\nslave = \"::1:2\"".to_owned(),
            ":3: cc.slave: ::1:2 is cc.master as well",
        ),
        (cc("answers = \"https://{cc}/\"\n"), ":4: cc.answers: \"https://{cc}/\" is not plain HTTP"),
        (cc("answers = \"{cc}:8090\"\n"), ":4: cc.answers: \"{cc}:8090\" is not plain HTTP"),
        (cc("restart = [\"a\", \"b\\n\"]\n"), ":4: cc.restart: \"b\\n\" holds a control character"),
        ("[xds]\n".to_owned(), ":1: xds.servers: names nobody"),
        ("[xds]\nservers = [\"mds 1\"]\n".to_owned(), ":2: xds.servers: \"mds 1\" is not one word"),
        ("[xds]\nservers = [\"a\", \"a\"]\n".to_owned(), ":2: xds.servers: \"a\" is listed twice"),
        (
            "[xds]\nservers = [\"a\"]\nregistered = \"\"\n".to_owned(),
            ":3: xds.registered: \"\" is not one word",
        ),
    ] {
        let refusal = parse(&text).unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("/etc/pbx-ha/pbx-ha.toml{says}")), "{text}\n-> {refusal}");
    }
}
