use std::fs::File;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvmsg,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;
use pnet::datalink::{self, Channel, DataLinkSender};

use crate::answers::PERIOD;
use crate::packet::{self, Asked};
use crate::{Answer, Answers, Host, Lab, Moment, Network, Probe};

/// The address that moves between the nodes.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

/// A phone's view of the address that moves: pings and SIP OPTIONS from the client's host every 10 ms.
#[derive(Debug)]
pub struct VipWatch {
    over: Arc<AtomicBool>,
    seen: Arc<Mutex<Answers>>,
    thread: Option<JoinHandle<()>>,
}

impl VipWatch {
    /// Begins to ask.
    ///
    /// It is a thread of the test in the client's network: a thread has a network of its own for as long as it lives.
    pub fn start(lab: &Lab) -> VipWatch {
        let (over, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Answers::default())));
        let (ready, is_ready) = mpsc::channel();
        let network = lab.network(Host::Client);
        let thread = thread::spawn({
            let (over, seen) = (over.clone(), seen.clone());
            move || match Asker::new(network) {
                Ok(mut asker) => {
                    let _ = ready.send(Ok(()));
                    asker.ask_until(&over, &seen);
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        let opened = is_ready.recv().expect("the thread says how it began");
        opened.expect("root opens any socket in a network of the lab");
        VipWatch { over, seen, thread: Some(thread) }
    }

    /// What was answered until now.
    pub fn so_far(&self) -> Answers {
        held(&self.seen).clone()
    }

    /// Ends it.
    pub fn end(mut self) -> Answers {
        self.stop();
        self.so_far()
    }

    fn stop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("asking does not panic");
        }
    }
}

impl Drop for VipWatch {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

fn held(seen: &Mutex<Answers>) -> MutexGuard<'_, Answers> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sockets of the thread.
struct Asker {
    echo: OwnedFd,
    sip: UdpSocket,
    frames: Box<dyn DataLinkSender>,
}

impl Asker {
    fn new(network: PathBuf) -> io::Result<Asker> {
        setns(File::open(network)?, CloneFlags::CLONE_NEWNET)?;
        let echo = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::Icmp)?;
        let sip = UdpSocket::bind((Host::Client.address(), 0))?;
        sip.set_nonblocking(true)?;
        setsockopt(&sip, sockopt::Ipv4RecvTtl, &true)?;
        for fd in [echo.as_fd(), sip.as_fd()] {
            setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
            setsockopt(&fd, sockopt::RcvBuf, &(1 << 20))?;
        }
        let interfaces = datalink::interfaces().into_iter();
        let shared = interfaces.into_iter().find(|one| one.name == Network::Shared.interface());
        let shared = shared.ok_or_else(|| io::Error::other("the client has no eth0"))?;
        match datalink::channel(&shared, datalink::Config::default())? {
            Channel::Ethernet(frames, _) => Ok(Asker { echo, sip, frames }),
            _ => Err(io::Error::other("eth0 is no Ethernet interface")),
        }
    }

    fn ask_until(&mut self, over: &AtomicBool, seen: &Mutex<Answers>) {
        let mut next = Instant::now();
        for number in 1.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            held(seen).sent = number;
            self.ask(number);
            next += PERIOD;
            if Instant::now() > next + 10 * PERIOD {
                // held up for long: what was missed is missed, not made up for by a burst
                next = Instant::now() + PERIOD;
            }
            self.hear_until(next, seen);
        }
        // what is on its way counts too
        self.hear_until(Instant::now() + 10 * PERIOD, seen);
    }

    /// Sends one probe of each kind. One that cannot be sent (no route, no carrier, nobody at the address) is lost like any
    /// other.
    fn ask(&mut self, number: u64) {
        let asked = |probe| Asked { probe, number, sent: Moment::now() };
        let echo = packet::echo(asked(Probe::Ping));
        let target = SockaddrIn::from(std::net::SocketAddrV4::new(VIP, 0));
        let _ = sendto(self.echo.as_raw_fd(), &echo, &target, MsgFlags::empty());
        for node in [Host::Master, Host::Slave] {
            let frame = packet::echo_frame(asked(Probe::Both), node, VIP);
            let _ = self.frames.send_to(&frame, None);
        }
        let port = self.sip.local_addr().map_or(0, |address| address.port());
        let options = packet::options(asked(Probe::Options), VIP, port);
        let _ = self.sip.send_to(options.as_bytes(), (VIP, 5060));
    }

    fn hear_until(&self, end: Instant, seen: &Mutex<Answers>) {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let mut fds = [self.echo.as_fd(), self.sip.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            // whole milliseconds, rounded up: the grid of the probes does not drift by it
            let left = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::ZERO);
            if poll(&mut fds, left).is_err() {
                continue;
            }
            self.hear(self.echo.as_fd(), seen, |bytes, _| packet::answered_echo(bytes));
            self.hear(self.sip.as_fd(), seen, packet::answered_options);
        }
    }

    /// Takes what has come to a socket; `read` is given each packet with its source, and says what is answered by whom.
    fn hear(
        &self,
        fd: BorrowedFd<'_>,
        seen: &Mutex<Answers>,
        read: impl Fn(&[u8], Option<Ipv4Addr>) -> Option<packet::Answered>,
    ) {
        let mut buffer = [0; 4096];
        let mut control = cmsg_space!(TimeSpec, i32);
        loop {
            let mut space = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let got = match recvmsg::<SockaddrIn>(fd.as_raw_fd(), &mut space, Some(&mut control), flags) {
                Ok(got) => got,
                Err(nix::errno::Errno::EAGAIN) => return,
                // what the network said of an earlier probe
                Err(_) => continue,
            };
            let (mut at, mut ttl) = (Moment::now(), None);
            for message in got.cmsgs().into_iter().flatten() {
                match message {
                    ControlMessageOwned::ScmTimestampns(stamp) => at = Moment::since_epoch(stamp.into()),
                    ControlMessageOwned::Ipv4Ttl(value) => ttl = u8::try_from(value).ok(),
                    _ => {}
                }
            }
            let (length, source) = (got.bytes, got.address.map(|address| address.ip()));
            let Some(answered) = read(&buffer[..length], source) else { continue };
            let (probe, number, sent) = (answered.asked.probe, answered.asked.number, answered.asked.sent);
            let mut seen = held(seen);
            match answered.ttl.or(ttl).and_then(Host::node_of_ttl) {
                Some(by) if answered.from == VIP => {
                    seen.answers.push(Answer { probe, number, sent, at, by });
                }
                _ => seen.strays += 1,
            }
        }
    }
}
