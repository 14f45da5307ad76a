use super::*;
use ha_core::failback::FailbackPolicy;
use ha_core::preset;
use ha_core::testkit::EXAMPLE;

fn parse(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse(text, Path::new("/etc/pbx-ha/pbx-ha.toml"), &EXAMPLE)
}

fn refusal(text: &str) -> String {
    match parse(text) {
        Ok(settings) => panic!("accepted: {settings:?}"),
        Err(err) => err.to_string(),
    }
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn no_file_is_a_complete_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings::load(&directory.path().join("pbx-ha.toml"), &EXAMPLE).unwrap();
    assert_eq!(settings, Settings::defaults(&EXAMPLE));
    assert_eq!(settings, parse("").unwrap());
    assert_eq!(settings.preset, Preset::Modern);
    assert_eq!(settings.probe.rungs, [Rung::Host, Rung::Service]);
    let modern = RungPolicy::new(millis(1000), millis(400), millis(200), 10, 3).unwrap();
    assert_eq!((settings.probe.host, settings.probe.service), (modern, modern));
    assert_eq!(settings.failback.hold, millis(60_000));
    assert_eq!((settings.failback.latch_after, settings.failback.latch_window), (3, millis(3_600_000)));
    assert_eq!(settings.ssh.agent, ["/usr/bin/example-ha", "agent"]);
    assert_eq!(settings.replication.schedule.to_string(), "0 * * * *");
    assert!(settings.replication.on_change);
    assert_eq!(settings.api.listen, "127.0.0.1:9487".parse().unwrap());
}

#[test]
fn a_file_that_cannot_be_read_is_not_taken_for_none() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = Settings::load(directory.path(), &EXAMPLE).unwrap_err();
    assert!(matches!(refusal, SettingsError::Read { .. }), "{refusal}");
    assert!(refusal.to_string().contains(&directory.path().display().to_string()), "{refusal}");
}

#[test]
fn the_seed_preset_has_the_documents_numbers() {
    let settings = parse("preset = \"seed\"").unwrap();
    assert_eq!(settings.probe.rungs, [Rung::Host]);
    let round = RungPolicy::new(millis(60_000), millis(10_000), millis(10_000), 3, 1).unwrap();
    assert_eq!(settings.probe.host, round);
    assert_eq!(settings.failback, preset::SEED_FAILBACK);
    assert_eq!(settings.failback.policy, FailbackPolicy::Automatic);
    assert!(settings.probe.reference.is_empty());
    assert!(!settings.replication.on_change, "only the schedule replicates");
    let wanted = parse("preset = \"seed\"\n[replication]\non_change = true").unwrap();
    assert!(wanted.policy(std::sync::Arc::new(chrono::Utc)).on_change);
}

#[test]
fn every_key_of_the_contract_is_read() {
    let text = r#"
        preset = "modern"
        [probe]
        rungs = ["host", "service"]
        reference = ["10.77.0.1"]
        degraded_after = "30s"
        [probe.host]
        interval = "1s"
        timeout = "400ms"
        suspect_interval = "200ms"
        down_after = 10
        up_after = 3
        [probe.service]
        interval = "1s"
        timeout = "400ms"
        suspect_interval = "200ms"
        down_after = 10
        up_after = 3
        sip_port = 5060
        [failback]
        policy = "automatic"
        hold = "60s"
        window = "02:00-05:00"
        hold_down = "10m"
        latch_after = 3
        latch_window = "1h"
        [phones]
        give_up = "32s"
        [replication]
        schedule = "0 * * * *"
        on_change = true
        max_delete_percent = 20
        max_delete_files = 1000
        bandwidth = "0"
        extra_files = []
        exclude = []
        database_transport = "ssh"
        [ssh]
        user = "root"
        port = 22
        key = "/root/.ssh/xivo_id_rsa"
        known_hosts = "/root/.ssh/known_hosts"
        agent = ["/usr/bin/example-ha", "agent"]
        [postgres]
        local = "host=/var/run/postgresql user=postgres dbname=asterisk"
        remote = "host=/var/run/postgresql user=postgres dbname=asterisk"
        [pbx]
        manage = true
        confd = "http://127.0.0.1:9486/1.1"
        auth = "http://127.0.0.1:9497/0.1"
        key_file = "/etc/example/key.yml"
        [alert]
        command = ["mail", "-s", "{subject}", "root"]
        [api]
        listen = "127.0.0.1:9487"
        token_file = "/var/lib/pbx-ha/api-token"
    "#;
    let mut expected = Settings::defaults(&EXAMPLE);
    expected.probe.reference = vec!["10.77.0.1".parse().unwrap()];
    assert_eq!(parse(text).unwrap(), expected, "the contract's values are the defaults");
}

#[test]
fn the_settings_in_force_are_printed_as_a_file_that_gives_them() {
    let window = "[failback]\npolicy = \"window\"\nwindow = \"22:00-05:30\"\nlatch_after = 0\n";
    for text in
        ["", "preset = \"seed\"", window, "[replication]\nbandwidth = \"10M\"\ndatabase_transport = \"tcp\""]
    {
        let settings = parse(text).unwrap();
        let printed = settings.to_toml();
        assert_eq!(parse(&printed).unwrap(), settings, "{printed}");
    }
    assert!(parse("").unwrap().to_toml().contains("[probe.host]\ninterval = \"1s\"\ntimeout = \"400ms\"\n"));
}

#[test]
fn a_shorter_interval_takes_the_defaults_of_its_rung_with_it() {
    let host = parse("[probe.host]\ninterval = \"100ms\"").unwrap().probe.host;
    assert_eq!((host.timeout(), host.suspect_interval()), (millis(100), millis(100)));
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() {
    for (text, place, name) in [
        ("\nfallback = 1", "/etc/pbx-ha/pbx-ha.toml:2: fallback: ", "unknown field `fallback`"),
        ("[clusters]\n", "/etc/pbx-ha/pbx-ha.toml:1: clusters: ", "unknown field `clusters`"),
        (
            "[probe]\n[probe.host]\n\nintervall = \"1s\"",
            "/etc/pbx-ha/pbx-ha.toml:4: probe.host.intervall: ",
            "unknown field `intervall`",
        ),
        (
            "[failback]\nhold = \"1s\"\nholddown = \"1s\"",
            "/etc/pbx-ha/pbx-ha.toml:3: failback.holddown: ",
            "`hold_down`",
        ),
    ] {
        let refusal = refusal(text);
        assert!(refusal.starts_with(place), "{refusal}");
        assert!(refusal.contains(name), "{refusal}");
    }
}

#[test]
fn a_bad_value_is_named_with_what_would_be_right() {
    for (text, says) in [
        ("preset = \"old\"", ":1: preset: unknown variant `old`, expected `modern` or `seed`"),
        (
            "[probe.host]\ninterval = \"1sec\"",
            ":2: probe.host.interval: \"1sec\" is not a duration: write a whole number and a unit",
        ),
        (
            "[probe.host]\ninterval = 1",
            ":2: probe.host.interval: invalid type: integer `1`, expected a string",
        ),
        (
            "[probe.host]\ntimeout = \"2s\"",
            ":2: probe.host.timeout: \"2s\" is longer than the interval: at most \"1s\"",
        ),
        (
            "[probe.service]\n\nsuspect_interval = \"2s\"",
            ":3: probe.service.suspect_interval: \"2s\" is longer than the interval",
        ),
        ("[probe.host]\ninterval = \"0s\"", ":2: probe.host.interval: \"0s\" would never end"),
        ("[probe.host]\ndown_after = 0", ":2: probe.host.down_after: 0 would decide"),
        ("probe.service.up_after = 0", ":1: probe.service.up_after: 0 would decide"),
        ("[probe]\nrungs = []", ":2: probe.rungs: is empty"),
        ("[probe]\nrungs = [\"host\", \"host\"]", ":2: probe.rungs: names a rung twice"),
        ("[probe]\nrungs = [\"sip\"]", ":2: probe.rungs: unknown variant `sip`"),
        ("[probe]\nreference = [\"gw\"]", ":2: probe.reference: \"gw\" is not an IP address"),
        ("[probe]\nreference = [\"0.0.0.0\"]", ":2: probe.reference: 0.0.0.0 is not one host"),
        (
            "[probe]\nreference = [\"2001:db8::1\", \"2001:db8::1\"]",
            ":2: probe.reference: 2001:db8::1 is listed twice",
        ),
        ("[probe.service]\nsip_port = 0", ":2: probe.service.sip_port: 0 is no port"),
        ("[failback]\npolicy = \"window\"", ":2: failback.policy: \"window\" needs the key failback.window"),
        ("[failback]\nwindow = \"2-5\"", ":2: failback.window: \"2\" is not a time of the day"),
        ("[failback]\nwindow = \"25:00-26:00\"", ":2: failback.window: \"25:00\" is not a time of the day"),
        (
            "[failback]\nwindow = \"02:00-02:00\"",
            ":2: failback.window: window \"02:00-02:00\" ends where it begins",
        ),
        ("[failback]\nlatch_window = \"0s\"", ":2: failback.latch_window: \"0s\" holds no failover"),
        (
            "[replication]\nschedule = \"0 * * *\"",
            ":2: replication.schedule: schedule \"0 * * *\" has 4 fields: five",
        ),
        ("[probe.host]\ndown_after = 256", ":2: probe.host.down_after: 256 is too many: at most 255"),
        ("[replication]\nmax_delete_percent = 101", ":2: replication.max_delete_percent: 101 is not a share"),
        ("[replication]\nbandwidth = \"fast\"", ":2: replication.bandwidth: \"fast\" is not a rate"),
        (
            "[replication]\nextra_files = [\"etc\"]",
            ":2: replication.extra_files: \"etc\" is not a plain absolute",
        ),
        (
            "[replication]\nextra_files = [\"/srv\", \"/var/lib\"]",
            ":2: replication.extra_files: \"/var/lib\" takes in what each node keeps for itself (/var/lib/pbx-ha)",
        ),
        (
            "[replication]\nextra_files = [\"/run/pbx-ha/x\"]",
            ":2: replication.extra_files: \"/run/pbx-ha/x\" takes in what each node keeps for itself (/run/pbx-ha)",
        ),
        (
            "[replication]\nextra_files = [\"/etc/pbx-ha\"]",
            ":2: replication.extra_files: \"/etc/pbx-ha\" takes in what each node keeps for itself (/etc/pbx-ha)",
        ),
        (
            "[replication]\nexclude = [\"/a/../b\"]",
            ":2: replication.exclude: \"/a/../b\" is not a plain absolute",
        ),
        (
            "[replication]\ndatabase_transport = \"udp\"",
            ":2: replication.database_transport: unknown variant `udp`, expected `ssh` or `tcp`",
        ),
        ("[ssh]\nuser = \"-oProxy\"", ":2: ssh.user: \"-oProxy\" is not a user's name"),
        ("[ssh]\nport = 0", ":2: ssh.port: 0 is no port"),
        ("[ssh]\nkey = \"id_rsa\"", ":2: ssh.key: \"id_rsa\" is not an absolute path"),
        (
            "[ssh]\nagent = [\"/usr/bin/x\", \"relay\"]",
            ":2: ssh.agent: [\"/usr/bin/x\", \"relay\"] must end with",
        ),
        (
            "[pbx]\nconfd = \"https://127.0.0.1:9486\"",
            ":2: pbx.confd: \"https://127.0.0.1:9486\" is not plain HTTP",
        ),
        (
            "[pbx]\nauth = \"http://10.0.0.1:9497/0.1\"",
            ":2: pbx.auth: \"http://10.0.0.1:9497/0.1\" is not plain",
        ),
        ("[alert]\ncommand = []", ":2: alert.command: names no program"),
        ("[api]\nlisten = \"9487\"", ":2: api.listen: \"9487\" is not an IP address with a port"),
        ("preset = \"modern\"\npreset = \"seed\"", ":2: preset: duplicate key"),
        ("[probe", ":1: "),
    ] {
        let refusal = refusal(text);
        assert!(refusal.starts_with(&format!("/etc/pbx-ha/pbx-ha.toml{says}")), "{text}\n-> {refusal}");
    }
}

#[test]
fn a_connection_string_is_not_repeated_in_an_error() {
    let refusal = refusal("[postgres]\nremote = \"secret\"");
    assert!(refusal.contains("postgres.remote") && !refusal.contains("\"secret\""), "{refusal}");
}

#[test]
fn over_tcp_the_far_database_is_at_the_peers_address() {
    let tcp = parse("[replication]\ndatabase_transport = \"tcp\"").unwrap();
    assert_eq!(tcp.postgres.remote, "host={peer} user=postgres dbname=asterisk");
}

/// Today's example, and that of long ago, whose round has one ping more.
struct Example(&'static Profile);

static LONG_AGO: Profile =
    Profile { seed_round: ha_core::profile::SeedRound { pings: 4, ..EXAMPLE.seed_round }, ..EXAMPLE };

static RELEASES: &[(&str, &dyn ha_core::Distribution)] = &[("1.2", &Example(&LONG_AGO))];

impl ha_core::Distribution for Example {
    fn profile(&self) -> &'static Profile {
        self.0
    }
    fn parse_role(&self, _: Option<&str>) -> Result<ha_core::RoleConfig, ha_core::RoleError> {
        Ok(ha_core::RoleConfig::Disabled)
    }
    fn apply_role(&self, _: &ha_core::RoleChange<'_>) -> Vec<ha_core::Effect> {
        Vec::new()
    }
    fn releases(&self) -> &'static [(&'static str, &'static dyn ha_core::Distribution)] {
        RELEASES
    }
}

#[test]
fn the_release_decides_what_the_defaults_are() {
    let place = tempfile::tempdir().unwrap();
    let root = crate::root::Root::new(place.path()).unwrap();
    let path = place.path().join("pbx-ha.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        crate::context::Context::load(&Example(&EXAMPLE), root.clone(), Some(path.clone()))
    };
    let pings = |text: &str| load(text).unwrap().settings.probe.host.down_after();
    assert_eq!((pings("preset = \"seed\""), pings("preset = \"seed\"\nrelease = \"1.2\"")), (3, 4));

    let context = load("release = \"1.2\"").unwrap();
    assert!(context.settings.to_toml().contains("release = \"1.2\""), "{}", context.settings.to_toml());
    assert_eq!(context.reread().unwrap().settings, context.settings);
    std::fs::write(&path, "").unwrap();
    assert!(context.reread().unwrap_err().message.contains("started with"));

    for (text, says) in [
        ("[api]\n[pbx]", None),
        ("preset = \"seed\"\nrelease = \"1.3\"", Some(":2: release: \"1.3\" is no release of example")),
        ("release = 1.2", Some(":1: release: invalid type: floating point")),
    ] {
        let refusal = load(text).err().map(|failure| failure.message);
        assert_eq!(refusal.is_some(), says.is_some(), "{refusal:?}");
        assert!(refusal.is_none_or(|refusal| refusal.contains(says.unwrap())), "{text}");
    }
}

#[test]
fn a_release_that_there_is_not_is_refused_with_those_that_there_are() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("pbx-ha.toml");
    std::fs::write(&path, "release = \"9\"").unwrap();
    let refusal = |base| release(&path, base).err().unwrap().to_string();
    assert!(refusal(&Example(&EXAMPLE)).ends_with("give \"1.2\", or leave the key out for today's"));
    assert!(refusal(&ha_adapters_wazo::Wazo).ends_with("leave the key out: all releases are alike"));
}

mod cluster;
mod followers;
