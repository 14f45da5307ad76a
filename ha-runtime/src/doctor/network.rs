//! Whether the other node and the references answer from here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ha_core::health::ProbeOutcome;

use super::Check;
use crate::context::Context;
use crate::probe::{Icmp, sip};
use crate::settings::Rung;

/// How often an address is asked before it counts as silent, and how long each time.
const ATTEMPTS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(1);

/// Pings as the engine sends them; `None`, and why, when this machine cannot.
pub(super) fn pings() -> (Option<Icmp>, Check) {
    match (Icmp::start(), Icmp::start_unprivileged()) {
        (Ok(icmp), _) => (Some(icmp), Check::ok("icmp", "raw sockets can be opened")),
        (Err(_), Ok(icmp)) => (Some(icmp), Check::ok("icmp", "datagram sockets can be opened")),
        (Err(raw), Err(_)) => (
            None,
            Check::fail(
                "icmp",
                raw.to_string(),
                "run `doctor` and the engine as root, or do what the finding says",
            ),
        ),
    }
}

async fn answers(icmp: &Icmp, address: IpAddr) -> bool {
    for _ in 0..ATTEMPTS {
        if icmp.probe(address, PATIENCE).await == ProbeOutcome::Reply {
            return true;
        }
    }
    false
}

/// Whether there are references, and whether they answer.
pub(super) async fn references(context: &Context, icmp: &Icmp) -> Check {
    let all = &context.settings.probe.reference;
    if all.is_empty() {
        return Check::warn(
            "references",
            "none is set: a node whose own cable is out takes the other for dead",
            "set [probe] reference to addresses that do not depend on the other node, such as the router's",
        );
    }
    let own = crate::addresses::own();
    if let Some(address) = all.iter().find(|address| own.iter().any(|network| network.ip() == **address)) {
        return Check::warn(
            "references",
            format!("{address} is this machine's own: it answers whatever becomes of the cable"),
            "set [probe] reference to addresses beyond this machine, such as the router's",
        );
    }
    let mut silent = Vec::new();
    for address in all {
        if !answers(icmp, *address).await {
            silent.push(address.to_string());
        }
    }
    match silent.as_slice() {
        [] => Check::ok("references", format!("all {} answer", all.len())),
        silent => Check::warn(
            "references",
            format!("silent: {}; they do not count until they answer", silent.join(", ")),
            "let them answer pings, or set others in [probe] reference",
        ),
    }
}

/// Whether the other node answers pings.
pub(super) async fn peer_ping(icmp: &Icmp, peer: IpAddr) -> Check {
    if let Err(error) = icmp.check(peer) {
        return Check::fail(
            "peer-ping",
            error.to_string(),
            "give this machine an address of that version of IP",
        );
    }
    if answers(icmp, peer).await {
        Check::ok("peer-ping", format!("{peer} answers"))
    } else {
        Check::fail(
            "peer-ping",
            format!("{peer} does not answer: the engine holds it for dead"),
            "when it is up, let ICMP echo pass from this node's address, both ways",
        )
    }
}

/// Whether the master's telephony answers this slave, if the settings ask it.
pub(super) async fn master_telephony(context: &Context, master: IpAddr) -> Option<Check> {
    let probe = &context.settings.probe;
    if !probe.rungs.contains(&Rung::Service) {
        return None;
    }
    let target = SocketAddr::new(master, probe.sip_port);
    for _ in 0..ATTEMPTS {
        if sip::probe(target, PATIENCE).await == ProbeOutcome::Reply {
            return Some(Check::ok("peer-telephony", format!("SIP OPTIONS is answered at {target}")));
        }
    }
    Some(Check::warn(
        "peer-telephony",
        format!(
            "no answer to SIP OPTIONS at {target}: a rung that has not answered since the last role change is not armed \
             and decides nothing, so a crash of the master's Asterisk alone is not noticed"
        ),
        "let UDP pass from this node to that port; without it only a dead host is a failover, as in the documents",
    ))
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::super::Level;
    use super::super::testing::Place;
    use super::*;
    use crate::sip::Message;

    fn icmp() -> Option<Icmp> {
        let (icmp, check) = pings();
        if icmp.is_none() {
            eprintln!("SKIPPED: {}", check.finding);
            assert_eq!(check.level, Level::Fail);
        }
        icmp
    }

    /// Answers of loopback addresses, which an administrator may set as references.
    #[tokio::test]
    async fn references_are_asked_and_their_lack_is_told() {
        let Some(icmp) = icmp() else { return };
        let place = Place::new();
        assert_eq!(references(&place.context(), &icmp).await.level, Level::Warn);
        let mut context = place.context();
        context.settings.probe.reference = vec!["127.0.0.9".parse().unwrap()];
        assert_eq!(references(&context, &icmp).await.level, Level::Ok);
    }

    #[tokio::test]
    async fn a_peer_that_answers_pings_is_well() {
        let Some(icmp) = icmp() else { return };
        assert_eq!(peer_ping(&icmp, "127.0.0.12".parse().unwrap()).await.level, Level::Ok);
    }

    #[tokio::test]
    async fn a_master_whose_telephony_does_not_answer_leaves_the_rung_unarmed() {
        let place = Place::new();
        let mut context = place.context();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        context.settings.probe.sip_port = address.port();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            let (length, source) = socket.recv_from(&mut buffer).await.unwrap();
            let Ok(Message::Request(request)) = Message::parse(&buffer[..length]) else {
                panic!("no request")
            };
            let answer = request.respond(401, "Unauthorized", source).unwrap().to_string();
            socket.send_to(answer.as_bytes(), source).await.unwrap();
        });
        assert_eq!(master_telephony(&context, address.ip()).await.unwrap().level, Level::Ok);
        serving.await.unwrap();
        // nobody listens there any more
        let check = master_telephony(&context, address.ip()).await.unwrap();
        assert_eq!(check.level, Level::Warn);
        assert!(check.finding.contains("not armed"), "{}", check.finding);
        context.settings.probe.rungs = vec![Rung::Host];
        assert_eq!(master_telephony(&context, address.ip()).await, None);
    }
}
