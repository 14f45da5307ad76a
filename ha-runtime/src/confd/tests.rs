use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;

use super::fake::{Fake, KEY, State, TOKEN};
use super::*;
use crate::effect::Performer;
use crate::root::Root;
use ha_core::Effect;
use ha_core::effect::{Command, OnFailure};
use serde_json::json;
use std::sync::{Arc, Mutex};

const fn timers(min: u64, default: u64, max: u64) -> SipTimers {
    SipTimers {
        min: Duration::from_secs(min),
        default: Duration::from_secs(default),
        max: Duration::from_secs(max),
    }
}

const SIP: SipPlan = SipPlan { paired: timers(180, 240, 300), shipped: timers(60, 120, 3600) };

struct Bench {
    fake: Fake,
    directory: tempfile::TempDir,
    confd: Confd,
    table: Arc<Table>,
}

/// `None`: there is no such table, or it has no rows of the general options.
#[derive(Debug, Default)]
struct Table(Mutex<Option<Vec<Row>>>);

impl SipTable for Table {
    fn read(&self, names: &[&str]) -> Result<Option<Vec<Row>>, String> {
        let rows = self.0.lock().unwrap().clone();
        Ok(rows.map(|rows| rows.into_iter().filter(|row| names.contains(&row.0.as_str())).collect()))
    }

    fn write(&self, names: &[&str], rows: &[Row]) -> Result<(), String> {
        let mut all = self.0.lock().unwrap();
        let all = all.as_mut().ok_or("there is no such table")?;
        all.retain(|row| !names.contains(&row.0.as_str()));
        all.extend_from_slice(rows);
        Ok(())
    }
}

fn bench(state: State) -> Bench {
    let fake = Fake::serve(state);
    let directory = tempfile::tempdir().unwrap();
    let key_file = directory.path().join("key.yml");
    fs::write(&key_file, format!("service_id: wazo-upgrade\nservice_key: {KEY}\n")).unwrap();
    let at = fake.address;
    let table = Arc::new(Table::default());
    let config = ConfdConfig {
        api: Api::Confd,
        table: Arc::clone(&table) as Arc<dyn SipTable>,
        confd: format!("http://{at}/1.1"),
        auth: format!("http://{at}/0.1"),
        provd: format!("http://{at}"),
        key_file,
        state: directory.path().to_owned(),
        patience: Duration::ZERO,
    };
    Bench { fake, directory, confd: Confd::new(config, SIP), table }
}

impl Bench {
    fn stored(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "key.yml");
        names.sort();
        names
    }

    fn templates(&self) -> Vec<Value> {
        self.fake.state().templates.clone().unwrap()
    }

    fn registrars(&self) -> Vec<Value> {
        self.fake.state().registrars.clone().unwrap()
    }
}

fn template(uuid: &str, label: &str, options: Value) -> Value {
    json!({"uuid": uuid, "label": label, "aor_section_options": options, "tenant_uuid": "t1"})
}

fn shipped(uuid: &str) -> Value {
    let options = json!([
        ["max_contacts", "1"],
        ["maximum_expiration", "3600"],
        ["minimum_expiration", "60"],
        ["default_expiration", "120"],
        ["qualify_frequency", "60"],
    ]);
    template(uuid, "global", options)
}

/// Today's release: two tenants, one of them with values and gaps of its own, and a template that is none of ours.
fn modern() -> State {
    let own = json!([["remove_existing", "yes"], ["maximum_expiration", "7200"]]);
    State {
        templates: Some(vec![
            shipped("u1"),
            template("u2", "webrtc", json!([["maximum_expiration", "99"]])),
            template("u3", "global", own),
        ]),
        ..State::default()
    }
}

fn older() -> State {
    let general = json!({
        "ordered_options": [["register", "a"], ["maxexpiry", "1800"], ["register", "b"]],
        "options": {"minexpiry": "30", "context": "default"},
    });
    State { general: Some(general), ..State::default() }
}

fn registrar(id: &str, backup: Value) -> Value {
    json!({
        "id": id, "name": id, "main_host": "10.77.0.11", "main_port": 5060, "backup_host": backup,
        "backup_port": 5070, "proxy_main_host": "10.77.0.11", "proxy_backup_host": null,
        "proxy_backup_port": null, "outbound_proxy_host": null,
    })
}

fn with_registrars() -> State {
    let registrars = vec![registrar("default", Value::Null), registrar("branch", json!("10.9.9.9"))];
    State { registrars: Some(registrars), ..State::default() }
}

fn slave() -> Option<IpAddr> {
    Some("10.77.0.12".parse().unwrap())
}

#[test]
fn todays_templates_get_the_pairs_expiry_and_their_own_back() {
    let bench = bench(modern());
    let before = bench.templates();
    assert!(!bench.confd.set_expiry(Some(SIP.paired)).unwrap().is_empty());
    let after = bench.templates();
    assert_eq!(
        after[0]["aor_section_options"],
        json!([
            ["max_contacts", "1"],
            ["maximum_expiration", "300"],
            ["minimum_expiration", "180"],
            ["default_expiration", "240"],
            ["qualify_frequency", "60"],
        ])
    );
    assert_eq!(after[1], before[1], "a template that is not labelled global is not ours");
    assert_eq!(
        after[2]["aor_section_options"],
        json!([
            ["remove_existing", "yes"],
            ["maximum_expiration", "300"],
            ["minimum_expiration", "180"],
            ["default_expiration", "240"],
        ])
    );
    bench.confd.set_expiry(None).unwrap();
    assert_eq!(bench.templates(), before);
    assert_eq!(bench.stored(), Vec::<String>::new());
}

#[test]
fn older_releases_general_options_are_replaced_whole_and_restored_exactly() {
    let bench = bench(older());
    let before = bench.fake.state().general.clone();
    bench.confd.set_expiry(Some(SIP.paired)).unwrap();
    assert_eq!(
        bench.fake.state().general,
        Some(json!({
            "ordered_options": [["register", "a"], ["maxexpiry", "300"], ["register", "b"]],
            "options": {"minexpiry": "180", "context": "default", "defaultexpiry": "240"},
        }))
    );
    bench.confd.set_expiry(None).unwrap();
    assert_eq!(bench.fake.state().general, before);
}

fn row(name: &str, value: &str) -> Row {
    (name.to_owned(), Some(value.to_owned()))
}

#[test]
fn releases_whose_api_has_no_sip_options_have_them_in_the_database() {
    let bench = bench(with_registrars());
    let refusal = bench.confd.set_expiry(Some(SIP.paired)).unwrap_err().to_string();
    assert!(refusal.contains("nor rows of staticsip"), "{refusal}");
    let rows = || bench.table.0.lock().unwrap().clone().unwrap();
    let before = vec![row("register", "a"), row("maxexpiry", "3600"), row("minexpiry", "60")];
    *bench.table.0.lock().unwrap() = Some(before.clone());

    let undo = bench.confd.set_expiry(Some(SIP.paired)).unwrap();
    let paired = [row("maxexpiry", "300"), row("minexpiry", "180"), row("defaultexpiry", "240")];
    assert_eq!(rows(), [&before[..1], &paired].concat());
    assert!(bench.confd.set_expiry(Some(SIP.paired)).unwrap().is_empty());
    let seen = bench.confd.look(None).unwrap().expiry_max;
    assert_eq!(seen[0].1, Some(Duration::from_secs(300)), "{seen:?}");
    bench.confd.undo(&undo).unwrap();
    assert_eq!((rows(), bench.stored().len()), (before.clone(), 0));

    bench.confd.set_expiry(Some(SIP.paired)).unwrap();
    bench.confd.set_expiry(None).unwrap();
    assert_eq!((rows(), bench.stored().len()), (before, 0));
}

#[test]
fn a_release_older_than_confd_is_reached_without_a_login() {
    let config = json!({ "id": "default", "X_type": "registrar" });
    let provd = Some(("provd", [("default".to_owned(), config.clone())].into()));
    let mut bench = bench(State { provd, locked: true, ..State::default() });
    bench.confd.config.api = Api::Provd;
    *bench.table.0.lock().unwrap() = Some(vec![row("maxexpiry", "3600")]);
    assert!(!bench.confd.set_expiry(Some(SIP.paired)).unwrap().is_empty());
    let registrar = || bench.fake.state().provd.clone().unwrap().1["default"].clone();
    bench.confd.set_backup_registrars(slave()).unwrap();
    assert_eq!(registrar()["registrar_backup"], "10.77.0.12");
    bench.confd.set_backup_registrars(None).unwrap();
    assert_eq!(registrar(), config);
    assert!(bench.confd.synchronize_devices().unwrap_err().to_string().contains("has no devices"));
    assert!(bench.fake.state().log.iter().all(|line| line.contains("/provd/")), "confd is not asked");
}

#[test]
fn setting_twice_changes_nothing_and_keeps_the_first_former_values() {
    let bench = bench(modern());
    let before = bench.templates();
    bench.confd.set_expiry(Some(SIP.paired)).unwrap();
    let puts = bench.fake.state().puts().len();
    assert!(bench.confd.set_expiry(Some(SIP.paired)).unwrap().is_empty());
    assert_eq!(bench.fake.state().puts().len(), puts);
    bench.confd.set_expiry(Some(timers(20, 40, 120))).unwrap();
    bench.confd.set_expiry(None).unwrap();
    assert_eq!(bench.templates(), before);
}

#[test]
fn what_the_administrator_changed_meanwhile_stays() {
    let bench = bench(modern());
    bench.confd.set_expiry(Some(SIP.paired)).unwrap();
    let list = json!([["maximum_expiration", "300"], ["support_path", "yes"]]);
    bench.fake.state().templates.as_mut().unwrap()[2]["aor_section_options"] = list;
    bench.confd.set_expiry(None).unwrap();
    let now = json!([["maximum_expiration", "7200"], ["support_path", "yes"]]);
    assert_eq!(bench.templates()[2]["aor_section_options"], now);
}

#[test]
fn without_stored_values_a_pairs_expiry_becomes_the_shipped_and_others_stay() {
    let paired =
        json!([["minimum_expiration", "180"], ["default_expiration", "240"], ["maximum_expiration", "300"]]);
    let own = json!([["minimum_expiration", "45"], ["maximum_expiration", "900"]]);
    let templates = vec![template("u1", "global", paired), template("u2", "global", own.clone())];
    let bench = bench(State { templates: Some(templates), ..State::default() });
    bench.confd.set_expiry(None).unwrap();
    assert_eq!(
        bench.templates()[0]["aor_section_options"],
        json!([["minimum_expiration", "60"], ["default_expiration", "120"], ["maximum_expiration", "3600"]])
    );
    assert_eq!(bench.templates()[1]["aor_section_options"], own);
}

#[test]
fn a_failure_half_way_puts_back_what_was_changed() {
    let bench = bench(State { fail_put: Some(2), ..modern() });
    let before = bench.templates();
    let err = bench.confd.set_expiry(Some(SIP.paired)).unwrap_err();
    assert!(matches!(err, PbxError::Refused { status: 500, .. }), "{err}");
    assert!(err.to_string().contains("/endpoints/sip/templates/u3"), "{err}");
    assert_eq!(bench.templates(), before);
    assert_eq!(bench.stored(), Vec::<String>::new(), "nothing is left to come back to");
}

#[test]
fn what_cannot_be_put_back_is_named_and_its_former_values_are_kept() {
    let bench = bench(State { fail_from: Some(2), ..modern() });
    let before = bench.templates();
    let err = bench.confd.set_expiry(Some(SIP.paired)).unwrap_err();
    assert!(err.to_string().contains("not put back: SIP template u3, SIP template u1"), "{err}");
    assert_ne!(bench.templates(), before);
    bench.fake.state().fail_from = None;
    bench.confd.set_expiry(None).unwrap();
    assert_eq!(bench.templates(), before);
}

#[test]
fn every_registrar_points_its_backups_at_the_slave_and_back() {
    let bench = bench(with_registrars());
    let before = bench.registrars();
    bench.confd.set_backup_registrars(slave()).unwrap();
    for (now, before) in bench.registrars().iter().zip(&before) {
        let mut expected = before.clone();
        expected["backup_host"] = json!("10.77.0.12");
        expected["proxy_backup_host"] = json!("10.77.0.12");
        assert_eq!(*now, expected, "ports and all else stay");
    }
    bench.confd.set_backup_registrars(Some(IpAddr::V6(Ipv6Addr::LOCALHOST))).unwrap();
    assert_eq!(bench.registrars()[0]["backup_host"], "::1");
    bench.confd.set_backup_registrars(None).unwrap();
    assert_eq!(bench.registrars(), before);
}

#[test]
fn a_registrar_made_while_the_pair_stood_has_no_backup_afterwards() {
    let bench = bench(with_registrars());
    bench.confd.set_backup_registrars(slave()).unwrap();
    bench.fake.state().registrars.as_mut().unwrap().extend([
        registrar("new", json!("10.77.0.12")),
        registrar("newer", json!("10.77.0.12")),
        registrar("own", json!("10.5.5.5")),
    ]);
    bench.confd.set_backup_registrars(slave()).unwrap();
    bench.fake.state().registrars.as_mut().unwrap().push(registrar("newest", json!("10.77.0.12")));
    bench.confd.set_backup_registrars(None).unwrap();
    let backups: Vec<_> = bench.registrars().iter().map(|one| one["backup_host"].clone()).collect();
    let nothing = Value::Null;
    let own = json!("10.5.5.5");
    assert_eq!(backups, [nothing.clone(), json!("10.9.9.9"), nothing.clone(), nothing.clone(), own, nothing]);
}

#[test]
fn without_stored_values_the_backups_are_blanked() {
    let bench = bench(with_registrars());
    bench.confd.set_backup_registrars(None).unwrap();
    assert!(bench.registrars().iter().all(|one| one["backup_host"].is_null()));
}

#[test]
fn releases_without_confds_registrars_are_reached_over_provd() {
    for version in ["provd", "0.2"] {
        let configs = [
            ("base", json!({"id": "base", "X_type": "internal", "raw_config": {}})),
            ("default", json!({"id": "default", "X_type": "registrar", "registrar_main": "10.77.0.11"})),
        ];
        let configs = configs.into_iter().map(|(id, config)| (id.to_owned(), config)).collect();
        let bench = bench(State { provd: Some((version, configs)), ..State::default() });
        let configs = || bench.fake.state().provd.clone().unwrap().1;
        let before = configs();
        bench.confd.set_backup_registrars(slave()).unwrap();
        assert_eq!(
            configs()["default"],
            json!({
                "id": "default", "X_type": "registrar", "registrar_main": "10.77.0.11",
                "registrar_backup": "10.77.0.12", "proxy_backup": "10.77.0.12",
            })
        );
        assert_eq!(configs()["base"], before["base"]);
        bench.confd.set_backup_registrars(None).unwrap();
        assert_eq!(configs(), before, "fields that were not there are gone again");
    }
}

#[test]
fn one_call_is_undone_with_its_document_even_from_another_process() {
    let bench = bench(State { registrars: with_registrars().registrars, ..modern() });
    let (templates, registrars) = (bench.templates(), bench.registrars());
    let expiry = bench.confd.set_expiry(Some(SIP.paired)).unwrap();
    let first = bench.confd.set_backup_registrars(slave()).unwrap();
    let second = bench.confd.set_backup_registrars(Some("10.77.0.13".parse().unwrap())).unwrap();
    for undo in [second, first, expiry] {
        let text = serde_json::to_string(&undo).unwrap();
        bench.confd.undo(&serde_json::from_str(&text).unwrap()).unwrap();
    }
    assert_eq!((bench.templates(), bench.registrars()), (templates, registrars));
    assert_eq!(bench.stored(), Vec::<String>::new());
}

#[test]
fn a_restore_that_is_undone_can_be_restored_again() {
    let bench = bench(with_registrars());
    let before = bench.registrars();
    bench.confd.set_backup_registrars(slave()).unwrap();
    let paired = bench.registrars();
    let undo = bench.confd.set_backup_registrars(None).unwrap();
    bench.confd.undo(&undo).unwrap();
    assert_eq!(bench.registrars(), paired);
    bench.confd.set_backup_registrars(None).unwrap();
    assert_eq!(bench.registrars(), before);
}

#[test]
fn a_kill_between_any_two_changes_is_undone_with_what_was_known_before() {
    for sent in 0..=2 {
        let bench = bench(modern());
        let before = bench.templates();
        let session = Session::open(&bench.confd.config).unwrap();
        let plan = expiry::plan(&session, &SIP, Some(SIP.paired), None).unwrap();
        let undo = Undo { slot: Slot::Expiry, changes: plan.changes, stored: None };
        assert_eq!(undo.changes.len(), 2);
        bench.confd.store.write(Slot::Expiry, plan.store.as_ref()).unwrap();
        for change in &undo.changes[..sent] {
            session.put(&change.target, &change.after).unwrap();
        }
        for _ in 0..2 {
            bench.confd.undo(&undo).unwrap();
            assert_eq!(bench.templates(), before, "killed after {sent} changes");
            assert_eq!(bench.stored(), Vec::<String>::new());
        }
    }
}

#[test]
fn a_device_whose_id_leads_elsewhere_is_refused_before_any_is_told() {
    let devices = ["d1", "../../users"].map(|id| json!({ "id": id })).to_vec();
    let bench = bench(State { devices, ..State::default() });
    let err = bench.confd.synchronize_devices().unwrap_err();
    assert!(matches!(err, PbxError::Answer { .. }), "{err}");
    assert!(!bench.fake.state().log.iter().any(|line| line.contains("synchronize")));
}

#[test]
fn a_role_change_that_fails_after_the_calls_takes_them_back() {
    let bench = bench(State { registrars: with_registrars().registrars, ..modern() });
    let (templates, registrars) = (bench.templates(), bench.registrars());
    let root = Root::new(bench.directory.path()).unwrap();
    let missing = Command {
        argv: vec!["wazo-service".to_owned()],
        timeout: Duration::from_secs(1),
        on_failure: OnFailure::Fail,
    };
    let calls = [Effect::SipExpiry(Some(SIP.paired)), Effect::BackupRegistrars(slave())];
    let performer = Performer::new(root, "example-ha").with_api(Arc::new(bench.confd.clone()));
    performer.perform("configure", &calls).unwrap();
    assert_ne!((bench.templates(), bench.registrars()), (templates.clone(), registrars.clone()));
    let restore = [Effect::SipExpiry(None), Effect::BackupRegistrars(None), Effect::Run(missing)];
    let paired = (bench.templates(), bench.registrars());
    performer.perform("configure", &restore).unwrap_err();
    assert_eq!((bench.templates(), bench.registrars()), paired);
    performer.perform("configure", &restore[..2]).unwrap();
    assert_eq!((bench.templates(), bench.registrars()), (templates, registrars));
}

#[test]
fn every_device_is_told_and_one_that_cannot_be_stops_no_other() {
    let devices = ["d1", "d2", "d3"].map(|id| json!({ "id": id })).to_vec();
    let bench = bench(State { devices, unreachable: vec!["d2"], ..State::default() });
    let outcome = bench.confd.synchronize_devices().unwrap();
    assert_eq!(outcome, Synchronized { told: 2, refused: vec!["d2".to_owned()] });
}

#[test]
fn a_service_that_is_starting_is_waited_for() {
    let mut bench = bench(State { starting: 2, ..modern() });
    bench.confd.config.patience = Duration::from_secs(30);
    bench.confd.set_expiry(Some(SIP.paired)).unwrap();
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let mut bench = bench(State::default());
    // a port that was free a moment ago and on which nobody listens
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.confd.config.auth = format!("http://{free}/0.1");
    let err = bench.confd.set_expiry(None).unwrap_err();
    assert!(matches!(err, PbxError::Unreachable { .. }), "{err}");
    assert!(err.to_string().contains(&free.to_string()), "{err}");
}

#[test]
fn a_refused_login_names_the_setting_and_no_secret() {
    let bench = bench(State { locked: true, ..modern() });
    let err = bench.confd.set_expiry(Some(SIP.paired)).unwrap_err();
    let text = format!("{err} {err:?}");
    assert!(text.contains("status 401") && text.contains("[pbx] key_file"), "{text}");
    assert!(!text.contains(KEY) && !text.contains("d2F6by") && !text.contains(TOKEN), "{text}");
    assert_eq!(bench.stored(), Vec::<String>::new());
}

#[test]
fn a_missing_key_file_is_named_before_anything_is_sent() {
    let bench = bench(modern());
    fs::remove_file(bench.directory.path().join("key.yml")).unwrap();
    let err = bench.confd.set_expiry(Some(SIP.paired)).unwrap_err();
    assert!(err.to_string().contains("key.yml"), "{err}");
    assert!(bench.fake.state().log.is_empty());
}

#[test]
fn stored_values_are_their_owners_alone_and_never_guessed() {
    let bench = bench(modern());
    bench.confd.set_expiry(Some(SIP.paired)).unwrap();
    let path = bench.directory.path().join("pbx-expiry.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "{").unwrap();
    let puts = bench.fake.state().puts().len();
    let err = bench.confd.set_expiry(None).unwrap_err();
    assert!(matches!(err, PbxError::Store { .. }), "{err}");
    assert_eq!(bench.fake.state().puts().len(), puts, "values that cannot be read are not taken for none");
}

#[test]
fn former_values_that_cannot_be_kept_are_not_overwritten() {
    let bench = bench(modern());
    let mut config = bench.confd.config.clone();
    config.state = bench.directory.path().join("absent");
    let err = Confd::new(config, SIP).set_expiry(Some(SIP.paired)).unwrap_err();
    assert!(matches!(err, PbxError::Store { .. }), "{err}");
    assert!(bench.fake.state().puts().is_empty());
}
