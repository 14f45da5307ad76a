//! The settings in force, back into a file.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ha_core::cluster::Terms;
use ha_core::failback::FailbackPolicy;
use ha_core::follow::{ContactCentre, Edge, MediaServers};
use ha_core::health::RungPolicy;

use super::cluster::{Kind, References};
use super::quantity::Span;
use super::{Cluster, ClusterKind, Heartbeat, Hooks, Policy, Settings, raw};

/// The file that gives these settings.
pub(super) fn spell_out(settings: &Settings) -> raw::File {
    let Settings {
        preset,
        release,
        probe,
        failback,
        phones,
        replication,
        ssh,
        postgres,
        pbx,
        alert,
        api,
        cluster,
        hooks,
        followers,
    } = settings;
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
        release: release.clone(),
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
        cluster: cluster.as_ref().map(held),
        sark: (*hooks != Hooks::default()).then(|| raw::Hooks {
            provision: hooks.provision.clone(),
            bind: hooks.bind.clone(),
            rhino: hooks.rhino.clone(),
        }),
        cc: followers.contact_centre.as_ref().map(contact_centre),
        xds: followers.media_servers.as_ref().map(media_servers),
        edge: followers.edge.as_ref().map(edge),
    }
}

fn held(cluster: &Cluster) -> raw::Cluster {
    let Cluster { kind, interface, key_file, paths, port, without_references } = cluster;
    let span = |duration: Duration| Some(Span(duration));
    let common = raw::Cluster {
        interface: Some(interface.clone()),
        key_file: Some(key_file.display().to_string()),
        paths: Some(paths.iter().map(IpAddr::to_string).collect()),
        port: Some(*port),
        references: without_references.then_some(References::None),
        ..raw::Cluster::default()
    };
    match *kind {
        ClusterKind::Native(Terms { lease, margin, beat, permit }) => raw::Cluster {
            kind: Some(Kind::Native),
            lease: span(lease),
            margin: span(margin),
            beat: span(beat),
            permit: span(permit),
            ..common
        },
        ClusterKind::Heartbeat(Heartbeat { keepalive, deadtime, initdead }) => raw::Cluster {
            kind: Some(Kind::Heartbeat),
            keepalive: span(keepalive),
            deadtime: span(deadtime),
            initdead: span(initdead),
            ..common
        },
    }
}

fn contact_centre(cc: &ContactCentre) -> raw::ContactCentre {
    raw::ContactCentre {
        automatic: Some(cc.automatic),
        master: Some(cc.hosts.master.to_string()),
        slave: Some(cc.hosts.slave.to_string()),
        restart: Some(cc.restart.clone()),
        answers: Some(cc.answers.clone()),
    }
}

fn media_servers(xds: &MediaServers) -> raw::MediaServers {
    raw::MediaServers {
        servers: Some(xds.names.clone()),
        command: Some(xds.command.clone()),
        registered: Some(xds.registered.clone()),
    }
}

fn edge(edge: &Edge) -> raw::Edge {
    raw::Edge {
        automatic: Some(edge.automatic),
        host: edge.host.map(|host| host.to_string()),
        file: Some(edge.file.clone()),
        apply: Some(edge.apply.clone()),
        xivo_master: Some(edge.xivo.master.to_string()),
        xivo_slave: Some(edge.xivo.slave.to_string()),
        cc_master: Some(edge.cc.master.to_string()),
        cc_slave: Some(edge.cc.slave.to_string()),
    }
}
