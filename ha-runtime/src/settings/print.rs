//! The settings in force, back into a file.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ha_core::failback::FailbackPolicy;
use ha_core::health::RungPolicy;

use super::quantity::Span;
use super::{Policy, Settings, raw};

/// The file that gives these settings.
pub(super) fn spell_out(settings: &Settings) -> raw::File {
    let Settings { preset, probe, failback, phones, replication, ssh, postgres, pbx, alert, api } = settings;
    let span = |duration: Duration| Some(Span(duration));
    let path = |path: &PathBuf| Some(path.display().to_string());
    let (policy, window) = match failback.policy {
        FailbackPolicy::Automatic => (Policy::Automatic, None),
        FailbackPolicy::Manual => (Policy::Manual, None),
        FailbackPolicy::Window(window) => (Policy::Window, Some(window.to_string())),
    };
    let rung = |rung: &RungPolicy| raw::HostRung {
        interval: span(rung.interval()),
        timeout: span(rung.timeout()),
        suspect_interval: span(rung.suspect_interval()),
        down_after: Some(u32::from(rung.down_after())),
        up_after: Some(u32::from(rung.up_after())),
    };
    let service = rung(&probe.service);
    raw::File {
        preset: Some(*preset),
        probe: Some(raw::Probe {
            rungs: Some(probe.rungs.clone()),
            reference: Some(probe.reference.iter().map(IpAddr::to_string).collect()),
            degraded_after: span(probe.degraded_after),
            host: Some(rung(&probe.host)),
            service: Some(raw::ServiceRung {
                interval: service.interval,
                timeout: service.timeout,
                suspect_interval: service.suspect_interval,
                down_after: service.down_after,
                up_after: service.up_after,
                sip_port: Some(probe.sip_port),
            }),
        }),
        failback: Some(raw::Failback {
            policy: Some(policy),
            hold: span(failback.hold),
            window,
            hold_down: span(failback.hold_down),
            latch_after: Some(failback.latch_after),
            latch_window: span(failback.latch_window),
        }),
        phones: Some(raw::Phones { give_up: span(phones.give_up) }),
        replication: Some(raw::Replication {
            schedule: Some(replication.schedule.to_string()),
            on_change: Some(replication.on_change),
            max_delete_percent: Some(u32::from(replication.max_delete_percent)),
            max_delete_files: Some(replication.max_delete_files),
            bandwidth: Some(replication.bandwidth),
            extra_files: Some(replication.extra_files.clone()),
            exclude: Some(replication.exclude.clone()),
            database_transport: Some(replication.database_transport),
        }),
        ssh: Some(raw::Ssh {
            user: Some(ssh.user.clone()),
            port: Some(ssh.port),
            key: path(&ssh.key),
            known_hosts: path(&ssh.known_hosts),
            agent: Some(ssh.agent.clone()),
        }),
        postgres: Some(raw::Postgres {
            local: Some(postgres.local.clone()),
            remote: Some(postgres.remote.clone()),
        }),
        pbx: Some(raw::Pbx {
            manage: Some(pbx.manage),
            confd: Some(pbx.confd.clone()),
            auth: Some(pbx.auth.clone()),
            key_file: path(&pbx.key_file),
        }),
        alert: Some(raw::Alert { command: Some(alert.command.clone()) }),
        api: Some(raw::Api { listen: Some(api.listen.to_string()), token_file: path(&api.token_file) }),
    }
}
