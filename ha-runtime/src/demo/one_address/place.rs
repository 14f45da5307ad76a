//! One machine's files: settings, role, key, the PBX's programs and data.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ha_core::distribution::{Shared, Synch};
use ha_core::replication::copying::{Copied, Copying};
use ha_core::shell_vars::ShellVars;
use ha_core::{Distribution, Effect, PeerAddress, Profile, Role, RoleChange, RoleConfig};

use super::super::stage::{SOCKET_PATH_MAX, SOUND, noise};
use super::super::stubs;
use super::super::timeline::Who;
use super::ground::Ground;
use super::{door, mailbox, network, records};
use crate::control;
use crate::report::Failure;
use crate::root::Root;
use crate::settings::{DEFAULT_PATH, Settings};

/// The secret that both nodes have.
const KEY: &str = "/etc/pbx-ha/cluster.key";
/// A greeting of which a few bytes are changed.
const GREETING: &str = "greeting.wav";

/// What both nodes are made of.
pub(super) struct Props {
    pub(super) distribution: &'static dyn Distribution,
    /// This program.
    pub(super) program: PathBuf,
    pub(super) ground: Ground,
    /// What the product's own file, as it is shipped, has copied.
    pub(super) copying: Copying,
    /// What the nodes tell each other by in the cluster's place, where there is no network.
    pub(super) turnstile: PathBuf,
}

impl Props {
    pub(super) fn profile(&self) -> &'static Profile {
        self.distribution.profile()
    }

    /// The trees that are copied.
    pub(super) fn trees(&self) -> impl Iterator<Item = &str> {
        self.copying.datasets.iter().filter_map(|one| match one {
            Copied::Tree { root, .. } => Some(root.as_str()),
            Copied::Sqlite { .. } => None,
        })
    }

    /// The database that is copied while it is written.
    pub(super) fn database(&self) -> Option<&str> {
        self.copying.datasets.iter().find_map(|one| match one {
            Copied::Sqlite { path, .. } => Some(path.as_str()),
            Copied::Tree { .. } => None,
        })
    }

    fn tree(&self, word: &str) -> Option<&str> {
        self.trees().find(|tree| tree.contains(word))
    }

    /// Where messages lie.
    pub(super) fn spool(&self) -> Option<&str> {
        self.tree("voicemail")
    }
}

/// A machine's files.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) role: Role,
    pub(super) root: Root,
}

impl Place {
    /// An empty directory below that one.
    pub(super) fn new(above: &Path, role: Role) -> io::Result<Place> {
        let place = Place { role, root: Root::new(above.join(who(role).word()))? };
        fs::create_dir(place.root.directory())?;
        let longest = control::path(&place.root);
        if longest.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(io::Error::other(format!(
                "{} is too long for a socket's path: set TMPDIR to a shorter directory",
                longest.display()
            )));
        }
        Ok(place)
    }

    pub(super) fn who(&self) -> Who {
        who(self.role)
    }

    fn peer(&self) -> Role {
        if self.role == Role::Slave { Role::Master } else { Role::Slave }
    }

    /// Writes everything that is there before the machine is switched on for the first time. `until`: with which process
    /// its telephony ends.
    pub(super) fn furnish(&self, props: &Props, secret: &str, until: u32) -> Result<(), Failure> {
        let here = self.root.directory().display();
        let failed = |error: &dyn std::fmt::Display| Failure::environment(format!("{here}: {error}"));
        let profile = props.profile();
        self.write(DEFAULT_PATH, &self.settings(&props.ground)).map_err(|error| failed(&error))?;
        // a mistake of ours must not show up as a daemon that does not start
        Settings::load(&self.root.path(DEFAULT_PATH), profile).map_err(Failure::usage)?;
        let key = self.root.path(KEY);
        let mut options = fs::OpenOptions::new();
        options.create_new(true).write(true).mode(0o600);
        options
            .open(key)
            .and_then(|mut file| io::Write::write_all(&mut file, secret.as_bytes()))
            .map_err(|error| failed(&error))?;
        self.take_role(props).map_err(|error| failed(&error))?;
        self.write(stubs::LOG, "").map_err(|error| failed(&error))?;
        let telephony = self.telephony(props, until);
        let afterwards = props.copying.afterwards.as_ref().and_then(|command| command.argv.first());
        stubs::write_units(&self.root, profile, &telephony, afterwards.map(String::as_str))
            .map_err(|error| failed(&error))?;
        for tree in props.trees() {
            fs::create_dir_all(self.root.path(tree)).map_err(|error| failed(&error))?;
        }
        if let Some(database) = props.database() {
            self.parents(database).map_err(|error| failed(&error))?;
            records::create(&self.root.path(database)).map_err(|error| failed(&error))?;
        }
        self.power_up(profile).map_err(|error| failed(&error))
    }

    /// What lies in a machine's memory is gone when it is switched on.
    pub(super) fn power_up(&self, profile: &Profile) -> io::Result<()> {
        match fs::remove_dir_all(self.root.path("/run")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(door::path(&self.root).parent().unwrap_or(self.root.directory()))?;
        self.parents(profile.observe.pid_file)
    }

    /// The data that a primary has and a fresh standby has not: a file in each tree, two messages.
    pub(super) fn fill(&self, props: &Props) -> io::Result<()> {
        for tree in props.trees() {
            fs::write(self.root.path(tree).join("demo.conf"), format!("; {tree}\n"))?;
        }
        if let Some(sounds) = props.tree("sounds") {
            let noise: Vec<u8> = noise().take(SOUND).collect();
            fs::write(self.root.path(sounds).join(GREETING), noise)?;
        }
        let spool = props.spool().map(|spool| self.root.path(spool));
        (1..=2)
            .try_for_each(|caller| spool.iter().try_for_each(|spool| mailbox::leave(spool, caller).map(drop)))
    }

    /// An administrator's work: a line of configuration and a few bytes of a greeting. What was done, in words.
    pub(super) fn change(&self, props: &Props) -> io::Result<String> {
        use io::{Seek, Write};
        let mut done = Vec::new();
        if let Some(tree) = props.tree("asterisk") {
            let mut file =
                fs::OpenOptions::new().append(true).open(self.root.path(tree).join("demo.conf"))?;
            writeln!(file, "exten => 2001,1,Answer()")?;
            done.push("a line of configuration");
        }
        if let Some(sounds) = props.tree("sounds") {
            let greeting = self.root.path(sounds).join(GREETING);
            let mut file = fs::OpenOptions::new().write(true).open(greeting)?;
            file.seek(io::SeekFrom::Start(SOUND as u64 / 2))?;
            write!(file, "fifteen bytes..")?;
            done.push("15 bytes of a greeting");
        }
        Ok(done.join(", "))
    }

    /// Where its daemon writes.
    pub(super) fn log(&self) -> PathBuf {
        self.root.path("/var/log/daemon")
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        self.parents(path)?;
        fs::write(self.root.path(path), text)
    }

    fn parents(&self, path: &str) -> io::Result<()> {
        self.root.path(path).parent().map_or(Ok(()), fs::create_dir_all)
    }

    /// The files that `configure` writes: role, and what the pair shares.
    fn take_role(&self, props: &Props) -> io::Result<()> {
        let peer = PeerAddress::new(props.ground.host(self.peer())).map_err(io::Error::other)?;
        let to = match self.role {
            Role::Slave => RoleConfig::Slave { master: peer },
            Role::Master | Role::Disabled => RoleConfig::Master { slave: peer },
        };
        let shared = shared(props.ground.written());
        let change = RoleChange {
            from: &RoleConfig::Disabled,
            to: &to,
            shared: Some(&shared),
            cron: false,
            database_over_tcp: false,
            manage_pbx: false,
            restart_services: false,
            resync: false,
        };
        for effect in props.distribution.apply_role(&change) {
            match effect {
                Effect::WriteFile { path, content, .. } => self.write(&path, &content)?,
                Effect::SetVariables { path, variables } => {
                    let set: Vec<(&str, &str)> =
                        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    let text =
                        ShellVars::parse("").and_then(|file| file.set(&set)).map_err(io::Error::other)?;
                    self.write(&path, &text)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Everything that is not here is as shipped. Nothing is fetched while the story does not say so.
    fn settings(&self, ground: &Ground) -> String {
        let cluster = match ground {
            Ground::Network => {
                let paths = network::paths(self.peer()).map(|path| format!("\"{path}\"")).join(", ");
                format!(
                    "interface = \"eth0\"\npaths = [{paths}]\n\n[probe]\nreference = [\"{}\"]\n",
                    network::ROUTER
                )
            }
            Ground::Loopback { .. } => "interface = \"eth0\"\nreferences = \"none\"\n".to_owned(),
        };
        format!(
            "[cluster]\n{cluster}\n[probe.service]\nsip_port = {}\n\n[pbx]\nmanage = false\n\n\
             [replication]\nschedule = \"0 0 1 1 *\"\non_change = false\n",
            ground.telephony().port()
        )
    }

    /// The words by which its telephony is started.
    fn telephony(&self, props: &Props, until: u32) -> String {
        let pid_file = self.root.path(props.profile().observe.pid_file);
        let mut words = format!(
            "{} demo-part --until {until} telephony --listen {} --pid-file {} --name {}",
            stubs::quoted(&props.program),
            props.ground.telephony(),
            stubs::quoted(&pid_file),
            self.who().word(),
        );
        if let Some(database) = props.database() {
            words += &format!(" --database {}", stubs::quoted(&self.root.path(database)));
        }
        words
    }
}

/// A role in the words of such a pair.
fn who(role: Role) -> Who {
    if role == Role::Slave { Who::Standby } else { Who::Primary }
}

/// What the nodes of the pair agree on.
pub(super) fn shared(address: IpAddr) -> Shared {
    Shared {
        cluster_ip: Some(address),
        primary_node: Who::Primary.word().to_owned(),
        standby_node: Who::Standby.word().to_owned(),
        synch: Synch::Lazy,
    }
}
