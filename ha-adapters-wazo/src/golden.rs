//! The profile and every role change as an administrator would read them, compared with `goldens/`.
//!
//! After a wanted change: `UPDATE_GOLDENS=1 cargo test -p ha-adapters-wazo`, then read the difference.

use std::path::Path;

use ha_core::testkit::{goldens, lowered, plain};
use ha_core::{Distribution, Role, RoleChange, RoleConfig};

use crate::Wazo;

#[test]
fn the_profile_and_each_role_change_are_as_reviewed() {
    for (name, text) in goldens(&Wazo) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name);
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == text, "{} differs; it would now be:\n{text}", path.display());
    }
}

fn master(slave: &str) -> RoleConfig {
    RoleConfig::new(Role::Master, slave).unwrap()
}

fn slave(master: &str) -> RoleConfig {
    RoleConfig::new(Role::Slave, master).unwrap()
}

#[test]
fn a_freed_slave_loses_its_sentinel_before_anything_else() {
    let (slave, disabled) = (slave("10.77.0.11"), RoleConfig::Disabled);
    let first = Wazo.apply_role(&plain(&slave, &disabled)).swap_remove(0);
    assert_eq!(first.to_string(), "remove /var/lib/wazo/is-secondary");
}

#[test]
fn a_new_slave_gets_its_sentinel_after_everything_else() {
    let (disabled, slave) = (RoleConfig::Disabled, slave("10.77.0.11"));
    let change = RoleChange { cron: true, restart_services: true, ..plain(&disabled, &slave) };
    let last = Wazo.apply_role(&change).pop().unwrap();
    assert_eq!(last.to_string(), "write /var/lib/wazo/is-secondary (empty, mode 0644)");
}

#[test]
fn a_slave_whose_provd_does_not_run_is_disabled_without_it() {
    let (slave, disabled) = (slave("10.77.0.11"), RoleConfig::Disabled);
    assert!(!lowered(&Wazo, &plain(&slave, &disabled)).contains("registrar"));
}

#[test]
fn cron_lines_are_removed_for_every_role_when_a_daemon_runs() {
    for to in [RoleConfig::Disabled, master("10.77.0.12"), slave("10.77.0.11")] {
        let text = lowered(&Wazo, &plain(&RoleConfig::Disabled, &to));
        assert!(text.contains("remove /etc/cron.d/xivo-ha-slave\nremove /etc/cron.d/xivo-ha-master\n"));
    }
}
