//! What the pair is played on: a private directory with the files of two machines.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_core::profile::Dataset;
use ha_core::{Distribution, Effect, PeerAddress, Profile, Role, RoleChange, RoleConfig};
use tempfile::TempDir;

use super::database::Servers;
use super::observers::GIVE_UP;
use super::stubs;
use crate::control;
use crate::probe::Icmp;
use crate::report::Failure;
use crate::root::Root;
use crate::settings::{DEFAULT_PATH, Settings};

/// The two hosts of a network of which all addresses are this machine (127/8): 127.77.x.11 and 127.77.x.12. Not
/// 127.0.0.11, which is a name server inside Docker.
const HOSTS: [u8; 2] = [11, 12];
/// The one that plays a shared address.
const SHARED: u8 = 100;
/// How many demonstrations one machine can play at the same time.
const NETWORKS: u8 = 32;
/// SIP's own port (RFC 3261, 19.1.2); any other when that is taken.
const SIP_PORT: u16 = 5060;
/// How long the master must have answered before the slave hands back. As shipped it is a minute.
pub(super) const HOLD: Duration = Duration::from_secs(5);
/// Longest path of a Unix socket: 108 bytes with the final zero (unix(7)).
pub(super) const SOCKET_PATH_MAX: usize = 107;
/// Size of the file of which a few bytes are changed.
pub(super) const SOUND: usize = 1024 * 1024;

/// The directory, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    directory: TempDir,
    /// Keeps other demonstrations off these addresses.
    _mark: TcpListener,
    pub(super) master: Place,
    pub(super) slave: Place,
}

/// One machine's files and address.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) role: Role,
    pub(super) root: Root,
    pub(super) telephony: SocketAddr,
}

/// What does not depend on the node.
pub(super) struct Props<'a> {
    pub(super) distribution: &'static dyn Distribution,
    /// This program.
    pub(super) program: &'a Path,
    /// The demonstration's process.
    pub(super) until: u32,
    pub(super) servers: Option<&'a Servers>,
    pub(super) pings: Pings,
}

/// Whether this user may send pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pings {
    /// He may.
    Allowed,
    /// He may not: that needs root or a group in `net.ipv4.ping_group_range`.
    Refused,
}

impl Pings {
    /// Tries it.
    pub(super) fn find() -> Pings {
        match Icmp::start().or_else(|_| Icmp::start_unprivileged()) {
            Ok(_) => Pings::Allowed,
            Err(_) => Pings::Refused,
        }
    }
}

impl Stage {
    /// A directory that only this user enters, and a port that is free at both addresses.
    pub(super) fn new() -> Result<Stage, Failure> {
        let failed = |error: io::Error| Failure::environment(format!("private directory: {error}"));
        let directory = tempfile::Builder::new()
            .prefix("ha-demo.")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(failed)?;
        let (mark, [master, slave]) = free_addresses(HOSTS)?;
        let place = |role: Role, telephony| {
            let path = directory.path().join(role.word());
            fs::create_dir(&path)?;
            Ok(Place { role, root: Root::new(path)?, telephony })
        };
        let (master, slave) =
            (place(Role::Master, master).map_err(failed)?, place(Role::Slave, slave).map_err(failed)?);
        let socket = control::path(&master.root);
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(Failure::environment(format!(
                "{} is too long for a socket's path: set TMPDIR to a shorter directory",
                socket.display()
            )));
        }
        Ok(Stage { directory, _mark: mark, master, slave })
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes both machines' files.
    pub(super) fn furnish(&self, props: &Props<'_>) -> Result<(), Failure> {
        self.master.furnish(&self.slave, props)?;
        self.slave.furnish(&self.master, props)?;
        let profile = props.distribution.profile();
        self.master.fill(profile).map_err(Failure::environment)
    }

    /// Removes the directory. Err: something is left, and where.
    pub(super) fn close(self) -> Result<(), Failure> {
        let path = self.directory.path().to_owned();
        self.directory.close().map_err(|error| {
            Failure::environment(format!("{} could not be removed: {error}", path.display()))
        })
    }
}

impl Place {
    fn furnish(&self, peer: &Place, props: &Props<'_>) -> Result<(), Failure> {
        let profile = props.distribution.profile();
        let failed =
            |error: io::Error| Failure::environment(format!("{}: {error}", self.root.directory().display()));
        for path in [stubs::LOG, profile.observe.pid_file, profile.role_file, DEFAULT_PATH] {
            self.parents(path).map_err(failed)?;
        }
        for dataset in profile.datasets {
            fs::create_dir_all(self.root.path(dataset.root)).map_err(failed)?;
        }
        stubs::write(&self.root, profile, props.program, props.until, self.telephony).map_err(failed)?;
        let database = profile.database.map_or("none", |database| database.name);
        let settings = self.settings(peer, database, props);
        // a mistake of ours must not show up as a daemon that does not start
        Settings::parse(&settings, Path::new(DEFAULT_PATH), profile).map_err(Failure::usage)?;
        fs::write(self.root.path(DEFAULT_PATH), settings).map_err(failed)?;
        self.take_role(peer, props.distribution).map_err(failed)?;
        if let (Role::Slave, Some(disabled)) = (self.role, profile.observe.disabled_file) {
            self.parents(disabled).and_then(|()| fs::write(self.root.path(disabled), "")).map_err(failed)?;
        }
        Ok(())
    }

    /// The files that a role change writes: role file and sentinel.
    fn take_role(&self, peer: &Place, distribution: &dyn Distribution) -> io::Result<()> {
        let peer = PeerAddress::on_this_machine(peer.telephony.ip()).map_err(io::Error::other)?;
        let to = match self.role {
            Role::Slave => RoleConfig::Slave { master: peer },
            Role::Master | Role::Disabled => RoleConfig::Master { slave: peer },
        };
        let change = RoleChange {
            from: &RoleConfig::Disabled,
            to: &to,
            shared: None,
            cron: false,
            database_over_tcp: false,
            manage_pbx: false,
            restart_services: false,
            resync: false,
        };
        for effect in distribution.apply_role(&change) {
            if let Effect::WriteFile { path, content, .. } = effect {
                self.parents(&path)?;
                fs::write(self.root.path(&path), content)?;
            }
        }
        Ok(())
    }

    /// Everything that is not here is as shipped.
    fn settings(&self, peer: &Place, database: &str, props: &Props<'_>) -> String {
        // without servers nothing is read or written, and least of all this machine's own database
        let nowhere = self.root.path("/run/no-postgresql");
        let host = |role| match (props.servers, role) {
            (Some(servers), Role::Slave) => servers.slave.host().to_owned(),
            (Some(servers), Role::Master | Role::Disabled) => servers.master.host().to_owned(),
            (None, _) => nowhere.clone(),
        };
        let connection = |role| {
            // a connection string's value in quotes, then TOML's
            let host = host(role).display().to_string().replace('\\', r"\\").replace('\'', r"\'");
            toml::Value::String(format!("host='{host}' user=postgres dbname={database}")).to_string()
        };
        // a dead machine does not answer pings, but this one always does: they would tell the slave nothing
        let rungs = match (self.role, props.pings) {
            (Role::Master, Pings::Allowed) => r#"["host", "service"]"#,
            (Role::Master, Pings::Refused) | (Role::Slave | Role::Disabled, _) => r#"["service"]"#,
        };
        format!(
            "[probe]\nrungs = {rungs}\n\n[probe.service]\nsip_port = {port}\n\n\
             [failback]\nhold = \"{hold}s\"\n\n[phones]\ngive_up = \"{give_up}s\"\n\n\
             [postgres]\nlocal = {local}\nremote = {remote}\n\n[pbx]\nmanage = false\n\n\
             [replication]\non_change = false\n",
            port = peer.telephony.port(),
            hold = HOLD.as_secs(),
            give_up = GIVE_UP.as_secs(),
            local = connection(self.role),
            remote = connection(peer.role),
        )
    }

    fn parents(&self, path: &str) -> io::Result<()> {
        self.root.path(path).parent().map_or(Ok(()), fs::create_dir_all)
    }

    /// Something in every tree: a small text, and one large file.
    fn fill(&self, profile: &Profile) -> io::Result<()> {
        for dataset in profile.datasets {
            let (path, text) = if dataset.only.is_empty() {
                (text_file(&self.root, dataset), format!("; {}\n", dataset.root))
            } else {
                let path = "tenant-1/greetings/welcome.wav";
                (self.root.path(dataset.root).join(path), "a greeting".to_owned())
            };
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(path, text)?;
        }
        let noise: Vec<u8> = noise().take(SOUND).collect();
        sound_file(&self.root, profile).map_or(Ok(()), |path| fs::write(path, noise))
    }
}

/// The text file in a tree.
pub(super) fn text_file(root: &Root, dataset: &Dataset) -> PathBuf {
    root.path(dataset.root).join("demo.conf")
}

/// The trees that are copied with everything in them.
pub(super) fn whole_trees(profile: &Profile) -> Vec<&'static Dataset> {
    profile.datasets.iter().filter(|dataset| dataset.only.is_empty() && dataset.exclude.is_empty()).collect()
}

/// The large file, in the middle of the list of trees.
pub(super) fn sound_file(root: &Root, profile: &Profile) -> Option<PathBuf> {
    let trees = whole_trees(profile);
    Some(root.path(trees.get(trees.len() / 2)?.root).join("music.wav"))
}

/// Bytes without a pattern (xorshift64), the same each time.
pub(super) fn noise() -> impl Iterator<Item = u8> {
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |x| {
        let x = x ^ (x << 13);
        let x = x ^ (x >> 7);
        Some(x ^ (x << 17))
    })
    .map(|x| x.to_be_bytes()[0])
}

/// One address at which a UDP port is free, and a mark as that of [`free_addresses`].
pub(super) fn free_address() -> Result<(TcpListener, SocketAddr), Failure> {
    let (mark, [one]) = free_addresses([SHARED])?;
    Ok((mark, one))
}

/// Addresses of one network at which the same UDP port is free, and a mark that says that they are ours. It is on TCP, so that it
/// is not in the way of telephony.
fn free_addresses<const N: usize>(hosts: [u8; N]) -> Result<(TcpListener, [SocketAddr; N]), Failure> {
    let take = |network: u8, port: u16| {
        let hosts = hosts.map(|host| Ipv4Addr::new(127, 77, network, host));
        let mark = TcpListener::bind((hosts[0], port))?;
        let port = mark.local_addr()?.port();
        let addresses = hosts.map(|host| SocketAddr::from((host, port)));
        addresses.iter().try_for_each(|address| UdpSocket::bind(address).map(drop))?;
        Ok::<_, io::Error>((mark, addresses))
    };
    let mut last = None;
    for port in [SIP_PORT, 0] {
        for network in 0..NETWORKS {
            match take(network, port) {
                Ok(taken) => return Ok(taken),
                Err(error) => last = Some(error),
            }
        }
    }
    let why = last.map(|error| error.to_string()).unwrap_or_default();
    Err(Failure::environment(format!(
        "no port is free at 127.77.0.{}, which is this machine: {why}",
        hosts[0]
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Rung;

    struct NoDistribution;

    impl Distribution for NoDistribution {
        fn profile(&self) -> &'static Profile {
            &ha_core::testkit::EXAMPLE
        }

        fn parse_role(&self, _: Option<&str>) -> Result<RoleConfig, ha_core::RoleError> {
            Ok(RoleConfig::Disabled)
        }

        fn apply_role(&self, _: &RoleChange<'_>) -> Vec<Effect> {
            Vec::new()
        }
    }

    #[test]
    fn the_private_directory_is_for_its_owner_only_and_is_removed() {
        let stage = Stage::new().unwrap();
        let directory = stage.directory().to_owned();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o700);
        stage.close().unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn two_demonstrations_at_once_have_addresses_of_their_own() {
        let (one, other) = (Stage::new().unwrap(), Stage::new().unwrap());
        assert_ne!(one.master.telephony, other.master.telephony);
        assert_eq!(one.master.telephony.port(), one.slave.telephony.port());
    }

    #[test]
    fn the_settings_name_the_peers_port_and_no_database_of_this_machine() {
        let stage = Stage::new().unwrap();
        let profile = &ha_core::testkit::EXAMPLE;
        let parse = |place: &Place, pings| {
            let program = Path::new("/usr/bin/pbx-ha");
            let props = Props { distribution: &NoDistribution, program, until: 1, servers: None, pings };
            let text = place.settings(&stage.master, "asterisk", &props);
            Settings::parse(&text, Path::new("demo.toml"), profile).unwrap()
        };
        let settings = parse(&stage.slave, Pings::Allowed);
        assert_eq!(settings.probe.rungs, [Rung::Service], "pings would tell the slave nothing");
        assert_eq!(parse(&stage.master, Pings::Allowed).probe.rungs, [Rung::Host, Rung::Service]);
        assert_eq!(parse(&stage.master, Pings::Refused).probe.rungs, [Rung::Service]);
        assert_eq!(settings.probe.sip_port, stage.master.telephony.port());
        assert_eq!(settings.failback.hold, HOLD);
        let config: tokio_postgres::Config = settings.postgres.local.parse().unwrap();
        let nowhere = stage.slave.root.path("/run/no-postgresql");
        assert_eq!(config.get_hosts(), [tokio_postgres::config::Host::Unix(nowhere)]);
    }
}
