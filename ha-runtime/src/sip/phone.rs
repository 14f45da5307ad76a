//! A phone that knows two servers, as the products configure theirs.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until};

use super::build::Registration;
use super::client::{OnRefusal, ask, connect};
use super::message::{Request, Response, split_address, split_list, value_of};
use super::token;

/// How a phone is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneSettings {
    /// The part before the `@`.
    pub user: String,
    /// Asked first, each time.
    pub primary: SocketAddr,
    /// Asked when the primary does not answer.
    pub backup: Option<SocketAddr>,
    /// How long a registration it asks for.
    pub expires: Duration,
    /// From one registration to the next; sooner when a shorter one is granted.
    pub period: Duration,
    /// How long one server is asked before the other one is.
    pub give_up: Duration,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// The one it belongs to.
    Primary,
    /// The other one.
    Backup,
}

/// What happened to a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneReport {
    /// Whose phone.
    pub user: String,
    /// When.
    pub at: Instant,
    /// What.
    pub event: PhoneEvent,
}

/// What a phone notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhoneEvent {
    /// It can be called through this server.
    Registered {
        /// Which one.
        server: Server,
        /// For so long.
        granted: Duration,
    },
    /// The server answered, and not with a registration.
    Refused {
        /// Which one.
        server: Server,
        /// SIP's status.
        status: u16,
    },
    /// The server did not answer within [`PhoneSettings::give_up`].
    Unanswered {
        /// Which one.
        server: Server,
    },
}

/// Registers, changes to the backup when the primary is silent, and goes back when it answers again.
#[derive(Debug)]
pub struct Phone {
    settings: PhoneSettings,
    reports: UnboundedSender<PhoneReport>,
    primary: Line,
    backup: Option<Line>,
}

/// What a phone keeps per server: one socket, so that its contact stays the same, and one call, so that its requests are in order.
#[derive(Debug)]
struct Line {
    server: Server,
    address: SocketAddr,
    socket: Option<UdpSocket>,
    call_id: String,
    number: u32,
    expires: Duration,
}

impl Phone {
    /// A phone that reports to `reports`. It does nothing until it [runs](Phone::run).
    pub fn new(settings: PhoneSettings, reports: UnboundedSender<PhoneReport>) -> Phone {
        let line = |server, address| Line {
            server,
            address,
            socket: None,
            call_id: token(),
            number: 0,
            expires: settings.expires,
        };
        let primary = line(Server::Primary, settings.primary);
        let backup = settings.backup.map(|address| line(Server::Backup, address));
        Phone { settings, reports, primary, backup }
    }

    /// Until nobody listens to its reports; dropping the future ends it as well.
    ///
    /// A server that nobody listens at is asked until the phone gives up all the same: measured outages then hold for a host that is
    /// off, too. When neither server answers, the phone begins anew after [`PhoneSettings::give_up`] or its period, whichever is shorter.
    pub async fn run(mut self) {
        loop {
            let begun = Instant::now();
            let granted = match self.register(Server::Primary).await {
                Some(granted) => Some(granted),
                None => self.register(Server::Backup).await,
            };
            if self.reports.is_closed() {
                return;
            }
            let next = match granted {
                // a registration that is shorter than the period is renewed at half its time
                Some(granted) if granted <= self.settings.period => begun + granted / 2,
                Some(_) => begun + self.settings.period,
                None => Instant::now() + self.settings.give_up.min(self.settings.period),
            };
            sleep_until(next).await;
        }
    }

    /// One registration at one server. `None`: it did not succeed, which has been reported.
    async fn register(&mut self, server: Server) -> Option<Duration> {
        let PhoneSettings { user, give_up, .. } = &self.settings;
        let line = match server {
            Server::Primary => &mut self.primary,
            Server::Backup => self.backup.as_mut()?,
        };
        let event = line.register(user, *give_up).await;
        // the receiver may be gone: `run` sees that and ends
        let _ = self.reports.send(PhoneReport { user: user.clone(), at: Instant::now(), event });
        match event {
            PhoneEvent::Registered { granted, .. } => Some(granted),
            PhoneEvent::Refused { .. } | PhoneEvent::Unanswered { .. } => None,
        }
    }
}

impl Line {
    async fn register(&mut self, user: &str, give_up: Duration) -> PhoneEvent {
        let server = self.server;
        let deadline = Instant::now() + give_up;
        // asked at most twice: the second time for as long as the server wants at least
        for _ in 0..2 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(response) = self.ask(user, left).await else { break };
            match response.status {
                200..300 => {
                    return PhoneEvent::Registered { server, granted: granted(&response, self.expires) };
                }
                423 if self.lengthen(&response) => {}
                status => return PhoneEvent::Refused { server, status },
            }
        }
        PhoneEvent::Unanswered { server }
    }

    /// Asks once. Whatever goes wrong takes the whole time, as it does on a phone.
    async fn ask(&mut self, user: &str, timeout: Duration) -> Option<Response> {
        let deadline = Instant::now() + timeout;
        if self.socket.is_none() {
            self.socket = connect(self.address).await.ok();
        }
        if let Some(socket) = &self.socket
            && let Ok(local) = socket.local_addr()
        {
            self.number += 1;
            let registration =
                Registration { user, call_id: &self.call_id, number: self.number, expires: self.expires };
            let request = Request::register(self.address, local, registration);
            return ask(socket, &request, timeout, OnRefusal::KeepAsking).await;
        }
        sleep_until(deadline).await;
        None
    }

    /// Takes over the server's shortest time, if it is longer than what was asked for.
    fn lengthen(&mut self, response: &Response) -> bool {
        let min = response.headers.get("Min-Expires").and_then(|text| text.trim().parse::<u32>().ok());
        let longer = min.map(|min| Duration::from_secs(min.into())).filter(|min| *min > self.expires);
        longer.inspect(|min| self.expires = *min).is_some()
    }
}

/// What a 200 grants: the contact's own time, else the common one, else what was asked for.
fn granted(response: &Response, asked: Duration) -> Duration {
    let contacts = response.headers.all("Contact").flat_map(split_list);
    let own = contacts
        .flat_map(|contact| split_address(contact).1.split(';'))
        .find_map(|one| value_of(one, "expires"));
    let seconds =
        own.or_else(|| response.headers.get("Expires")).and_then(|text| text.trim().parse::<u32>().ok());
    seconds.map_or(asked, |seconds| Duration::from_secs(seconds.into()).max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use ha_core::profile::SipTimers;
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::sip::Responder;

    const TIMERS: SipTimers = SipTimers {
        min: Duration::from_secs(2),
        default: Duration::from_secs(4),
        max: Duration::from_secs(60),
    };

    async fn serve(address: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
        let responder = Responder::bind(address, TIMERS).await.unwrap();
        let address = responder.local_addr().unwrap();
        let task = tokio::spawn(async move {
            responder.serve(std::future::pending()).await.unwrap();
        });
        (address, task)
    }

    #[tokio::test]
    async fn a_phone_moves_to_the_backup_and_back_again() {
        let any = "127.0.0.1:0".parse().unwrap();
        let (primary, first) = serve(any).await;
        let (backup, _second) = serve(any).await;
        let give_up = Duration::from_millis(300);
        let settings = PhoneSettings {
            user: "jo".to_owned(),
            primary,
            backup: Some(backup),
            // shorter than the server wants: 423, then granted
            expires: Duration::from_secs(1),
            period: Duration::from_millis(100),
            give_up,
        };
        let (reports, mut seen) = mpsc::unbounded_channel();
        let phone = tokio::spawn(Phone::new(settings, reports).run());
        let granted = Duration::from_secs(2);
        let at_primary = PhoneEvent::Registered { server: Server::Primary, granted };
        let at_backup = PhoneEvent::Registered { server: Server::Backup, granted };
        let silent = PhoneEvent::Unanswered { server: Server::Primary };
        assert_eq!(seen.recv().await.unwrap().event, at_primary);

        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let died = Instant::now();
        let next = async |seen: &mut mpsc::UnboundedReceiver<PhoneReport>, past: PhoneEvent| loop {
            let report = seen.recv().await.unwrap();
            if report.event != past {
                return report;
            }
        };
        assert_eq!(next(&mut seen, at_primary).await.event, silent);
        let moved = seen.recv().await.unwrap();
        assert_eq!(moved.event, at_backup);
        assert!(moved.at >= died + give_up, "the primary was asked for the whole time");

        let (_, _third) = serve(primary).await;
        let back = loop {
            let report = seen.recv().await.unwrap();
            if report.event != silent && report.event != at_backup {
                break report;
            }
        };
        assert_eq!(back.event, at_primary);
        drop(seen);
        phone.await.unwrap();
    }
}
