//! The requests that wait for their reply.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use tokio::sync::oneshot;

use super::packet::Echo;
use crate::probe::ProbeOutcome;

/// Keyed by whom was asked and by the request's number.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    requests: HashMap<(IpAddr, u16), Request>,
    last: u16,
}

#[derive(Debug)]
struct Request {
    nonce: u64,
    deadline: Instant,
    outcome: oneshot::Sender<ProbeOutcome>,
}

impl Outstanding {
    /// The number of the next request to that target. `None`: all 65,536 wait, which no sane interval makes.
    pub(super) fn next_sequence(&mut self, target: IpAddr) -> Option<u16> {
        (0..=u16::MAX).find_map(|_| {
            self.last = self.last.wrapping_add(1);
            (!self.requests.contains_key(&(target, self.last))).then_some(self.last)
        })
    }

    pub(super) fn insert(
        &mut self,
        target: IpAddr,
        sequence: u16,
        nonce: u64,
        deadline: Instant,
        outcome: oneshot::Sender<ProbeOutcome>,
    ) {
        self.requests.insert((target, sequence), Request { nonce, deadline, outcome });
    }

    /// A reply has come. It counts when it is from whom was asked, to that question, with its secret; only the first one does.
    pub(super) fn answered(&mut self, source: IpAddr, echo: Echo) {
        let key = (source, echo.sequence);
        if self.requests.get(&key).is_some_and(|request| request.nonce == echo.nonce)
            && let Some(request) = self.requests.remove(&key)
        {
            // nobody waits any more: that is theirs to decide
            let _ = request.outcome.send(ProbeOutcome::Reply);
        }
    }

    /// Gives up those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        for (_, request) in self.requests.extract_if(|_, request| request.deadline <= now) {
            let _ = request.outcome.send(ProbeOutcome::Lost);
        }
    }

    /// When the next one's time is over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.requests.values().map(|request| request.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    const MASTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 11));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 12));

    fn echo(sequence: u16, nonce: u64) -> Echo {
        Echo { ident: 1, sequence, nonce }
    }

    #[test]
    fn only_the_right_source_number_and_nonce_is_a_reply_and_only_once() {
        let mut outstanding = Outstanding::default();
        let deadline = Instant::now() + Duration::from_secs(1);
        let (outcome, mut seen) = oneshot::channel();
        outstanding.insert(MASTER, 5, 42, deadline, outcome);
        for (source, echo) in [(OTHER, echo(5, 42)), (MASTER, echo(6, 42)), (MASTER, echo(5, 43))] {
            outstanding.answered(source, echo);
            assert_eq!(seen.try_recv(), Err(TryRecvError::Empty));
        }
        outstanding.answered(MASTER, echo(5, 42));
        assert_eq!(seen.try_recv(), Ok(ProbeOutcome::Reply));
        outstanding.answered(MASTER, echo(5, 42));
        assert_eq!(outstanding.next_deadline(), None);
    }

    #[test]
    fn each_request_is_lost_at_its_own_deadline() {
        let mut outstanding = Outstanding::default();
        let now = Instant::now();
        let (early, mut early_seen) = oneshot::channel();
        let (late, mut late_seen) = oneshot::channel();
        outstanding.insert(MASTER, 1, 1, now + Duration::from_millis(80), early);
        outstanding.insert(MASTER, 2, 2, now + Duration::from_millis(400), late);
        assert_eq!(outstanding.next_deadline(), Some(now + Duration::from_millis(80)));
        outstanding.expire(now + Duration::from_millis(80));
        assert_eq!(early_seen.try_recv(), Ok(ProbeOutcome::Lost));
        assert_eq!(late_seen.try_recv(), Err(TryRecvError::Empty));
        // too late for the first one
        outstanding.answered(MASTER, echo(1, 1));
        assert_eq!(outstanding.next_deadline(), Some(now + Duration::from_millis(400)));
    }

    #[test]
    fn numbers_in_use_are_passed_over() {
        let mut outstanding = Outstanding { last: u16::MAX - 1, ..Outstanding::default() };
        let (outcome, _seen) = oneshot::channel();
        outstanding.insert(MASTER, u16::MAX, 1, Instant::now(), outcome);
        assert_eq!(outstanding.next_sequence(MASTER), Some(0));
        assert_eq!(outstanding.next_sequence(OTHER), Some(1));
    }
}
