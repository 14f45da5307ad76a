use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{Event, Host, Moment, Network, Product, Ran, ground};

/// How long a command in a host may take unless the caller says otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// A private network of hosts; they are gone when it is dropped, or when its process ends in whatever way.
#[derive(Debug)]
pub struct Lab {
    name: String,
    directory: PathBuf,
    /// Takes the lab down as soon as the pipe to it closes.
    guardian: Child,
    environment: Vec<(String, String)>,
}

impl Lab {
    /// The three hosts, booted; `None`, after saying why, on a machine where hosts cannot be made.
    pub fn up() -> Option<Lab> {
        Lab::with(&[])
    }

    /// The same with further settings of `lab.sh`, such as `LAB_LOWER_master`.
    pub fn with(environment: &[(&str, &str)]) -> Option<Lab> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !ground::ready() {
            return None;
        }
        let name = format!("ha{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = env::temp_dir().join(format!("{name}.d"));
        let mut environment: Vec<(String, String)> =
            environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        environment.push(("LAB".to_owned(), name.clone()));
        environment.push(("LAB_DIR".to_owned(), directory.display().to_string()));
        environment.push(("LAB_SHOW".to_owned(), directories_to_show().join(" ")));
        let guardian = guardian(&environment);
        let lab = Lab { name, directory, guardian, environment };
        lab.tool(&["up", "master", "slave", "client"], COMMAND_LIMIT).ok();
        Some(lab)
    }

    /// The prefix of everything that this lab made.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path in the host's mailbox (`/run/lab` there), as seen from here, whatever state the host is in.
    pub fn mailbox(&self, host: Host, file: &str) -> PathBuf {
        self.directory.join(host.name()).join("box").join(file)
    }

    /// A path of what the host has written on its own disk, as seen from here, whatever state the host is in.
    pub fn disk(&self, host: Host, path: &str) -> PathBuf {
        self.directory.join(host.name()).join("upper").join(path.trim_start_matches('/'))
    }

    /// The host's root directory while it runs, as seen from here: its files, its mounts, its `/proc`.
    pub fn root(&self, host: Host) -> PathBuf {
        let pid = fs::read_to_string(self.directory.join(host.name()).join("pid")).expect("the host runs");
        Path::new("/proc").join(pid.trim()).join("root")
    }

    /// The events in a log of the host's mailbox.
    pub fn events(&self, host: Host, log: &str) -> Vec<Event> {
        Event::read(&self.mailbox(host, log))
    }

    /// Runs a program in the host.
    pub fn exec(&self, host: Host, argv: &[&str]) -> Ran {
        self.tool(&[&["exec", host.name()], argv].concat(), COMMAND_LIMIT)
    }

    /// Runs a bash script in the host.
    pub fn sh(&self, host: Host, script: &str) -> Ran {
        self.sh_within(host, script, COMMAND_LIMIT)
    }

    /// The same for a script that is known to take long.
    pub fn sh_within(&self, host: Host, script: &str, limit: Duration) -> Ran {
        self.tool(&["sh", host.name(), script], limit)
    }

    /// The host's network namespace, for a thread of the test that is to be in it.
    pub(crate) fn network(&self, host: Host) -> PathBuf {
        Path::new("/run/netns").join(format!("{}-{host}", self.name))
    }

    /// Starts a program in the host's network that is ended with the lab at the latest.
    pub fn spawn_in_network(&self, host: Host, argv: &[&str]) -> Child {
        let namespace = format!("{}-{host}", self.name);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace]).args(argv);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("ip is installed")
    }

    /// Bytes that the host has received on the shared network since it booted.
    pub fn received(&self, host: Host) -> u64 {
        let count = self.exec(host, &["cat", "/sys/class/net/eth0/statistics/rx_bytes"]).ok();
        count.trim().parse().expect("a counter")
    }

    /// Power failure: every process killed, the carrier lost, the disk kept.
    pub fn crash(&self, host: Host) -> Moment {
        self.fault(&["crash", host.name()])
    }

    /// Power back on. Nothing but the host's pid 1 runs then.
    pub fn boot(&self, host: Host) -> Moment {
        self.fault(&["boot", host.name()])
    }

    /// Every process stopped; the kernel still answers ping and ARP.
    pub fn freeze(&self, host: Host) -> Moment {
        self.fault(&["freeze", host.name()])
    }

    /// The end of a freeze.
    pub fn thaw(&self, host: Host) -> Moment {
        self.fault(&["thaw", host.name()])
    }

    /// The host's cable pulled.
    pub fn cut(&self, host: Host) -> Moment {
        self.fault(&["cut", host.name()])
    }

    /// The host's cable plugged in again.
    pub fn heal(&self, host: Host) -> Moment {
        self.fault(&["heal", host.name()])
    }

    /// Frames from one host to the other vanish, silently and one way.
    pub fn drop_frames(&self, from: Host, to: Host) -> Moment {
        self.fault(&["drop", from.name(), to.name()])
    }

    /// Frames between two hosts vanish, both ways.
    pub fn part(&self, one: Host, other: Host) -> Moment {
        self.fault(&["part", one.name(), other.name()])
    }

    /// The host's cable to the cross-over network pulled.
    pub fn cut_crossover(&self, host: Host) -> Moment {
        self.fault(&["cut1", host.name()])
    }

    /// The host's cable to the cross-over network plugged in again.
    pub fn heal_crossover(&self, host: Host) -> Moment {
        self.fault(&["heal1", host.name()])
    }

    /// Frames from one host to the other vanish on one network, silently and one way.
    pub fn drop_frames_on(&self, network: Network, from: Host, to: Host) -> Moment {
        self.fault(&["drop", from.name(), to.name(), network.interface()])
    }

    /// Frames between two hosts vanish on one network, both ways.
    pub fn part_on(&self, network: Network, one: Host, other: Host) -> Moment {
        self.fault(&["part", one.name(), other.name(), network.interface()])
    }

    /// Frames from one host to the other are lost at random, one way.
    pub fn lose(&self, percent: u8, from: Host, to: Host) -> Moment {
        self.fault(&["loss", from.name(), to.name(), &percent.to_string()])
    }

    /// Frames from one host to the other that match an nft expression vanish.
    pub fn filter(&self, from: Host, to: Host, expression: &str) -> Moment {
        self.fault(&["filter", from.name(), to.name(), expression])
    }

    /// The end of every drop, part, loss and filter.
    pub fn mend(&self) -> Moment {
        self.fault(&["mend"])
    }

    /// When it began: the time before the tool was called.
    fn fault(&self, arguments: &[&str]) -> Moment {
        let begin = Moment::now();
        self.tool(arguments, COMMAND_LIMIT).ok();
        begin
    }

    fn tool(&self, arguments: &[&str], limit: Duration) -> Ran {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", &limit.as_secs().to_string()]).arg(tools().join("lab.sh")).args(arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value))).stdin(Stdio::null());
        Ran::new(arguments.join(" "), command.output().expect("timeout is installed"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        if let Err(error) = self.guardian.wait() {
            eprintln!("the lab {} may not be gone: {error}", self.name);
        }
    }
}

/// The folder of the lab's scripts.
pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab")
}

/// The program under test, of the profile that its caller was built with.
pub fn program(product: Product) -> PathBuf {
    let program = programs().join(product.program);
    assert!(program.is_file(), "no {}: `cargo build --workspace`", program.display());
    program
}

/// Where programs of that profile are: a test is in `target/PROFILE/deps`, a program in `target/PROFILE`.
fn programs() -> PathBuf {
    let own = env::current_exe().expect("a program knows its own path");
    let folder = own.parent().expect("a program is in a folder");
    let above = folder.parent().filter(|_| folder.ends_with("deps"));
    above.unwrap_or(folder).to_owned()
}

/// A process of its own group, so that whatever ends the test's group leaves it to clean up.
fn guardian(environment: &[(String, String)]) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("bash");
    command.args(["-c", "cat >/dev/null; exec \"$0\" down"]).arg(tools().join("lab.sh"));
    command.envs(environment.iter().map(|(key, value)| (key, value))).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("bash is installed")
}

/// What the hosts need and their root, an overlay of `/` alone, does not show: other file systems are not in it.
fn directories_to_show() -> Vec<String> {
    let device = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map(|meta| meta.dev()).ok()
    };
    let root = device(Path::new("/"));
    [Path::new(env!("CARGO_MANIFEST_DIR")).to_owned(), programs()]
        .into_iter()
        .filter(|path| device(path) != root)
        .map(|path| path.display().to_string())
        .collect()
}
