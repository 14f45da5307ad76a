//! Failover and failback, several times, with messages left on both sides.

use super::*;

/// The number of the messages that people left so far, and what they did.
struct Story {
    pair: Pair,
    left: u32,
}

impl Story {
    fn leave(&mut self, at_mine: bool, folder: &str) {
        let node = if at_mine { &self.pair.mine } else { &self.pair.theirs };
        fs::create_dir_all(node.path(folder)).unwrap();
        self.left += 1;
        asterisk::store(node, folder, self.left).expect("nobody holds the lock");
    }

    /// The one that returns carries to the one that serves, then becomes equal to it.
    fn returns(&mut self, mine: bool) {
        if !mine {
            std::mem::swap(&mut self.pair.mine, &mut self.pair.theirs);
        }
        self.pair.carry().unwrap();
        self.pair.mine.pull(&self.pair.theirs);
        assert_eq!(self.pair.mine.heard(), self.pair.theirs.heard());
        if !mine {
            std::mem::swap(&mut self.pair.mine, &mut self.pair.theirs);
        }
    }

    fn assert_all_there(&self) {
        let mut said: Vec<u32> = self.pair.mine.heard().into_values().collect();
        said.sort();
        assert_eq!(said, (1..=self.left).collect::<Vec<_>>());
    }
}

#[test]
fn over_many_failovers_no_message_is_lost_or_doubled() {
    let mut story = Story { pair: Pair::new(), left: 0 };
    story.returns(false);
    for turn in 0..6 {
        let mine_serves = turn % 2 == 0;
        // pulled by the other one ...
        story.leave(mine_serves, "601/INBOX");
        story.leave(mine_serves, "602/INBOX");
        story.returns(!mine_serves);
        // ... and left in the last minute
        story.leave(mine_serves, "601/INBOX");
        story.leave(mine_serves, "603/INBOX");
        // it crashes, and the other one serves
        story.leave(!mine_serves, "601/INBOX");
        story.leave(!mine_serves, "602/INBOX");
        story.returns(mine_serves);
        story.assert_all_there();
    }
    // numbers without gaps, in the order in which they were left on the node that served
    let heard = story.pair.mine.heard();
    for mailbox in ["601", "602", "603"] {
        let places: Vec<&String> = heard.keys().filter(|place| place.starts_with(mailbox)).collect();
        let numbers: Vec<String> =
            (0..places.len()).map(|number| format!("{mailbox}/INBOX/msg{number:04}")).collect();
        assert_eq!(places, numbers.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_standby_that_dies_before_the_carrying_is_done_costs_no_message() {
    let mut story = Story { pair: Pair::new(), left: 0 };
    story.leave(true, "601/INBOX");
    story.returns(false);
    // the primary takes one more and crashes; the standby serves; the primary is back passive
    story.leave(true, "601/INBOX");
    story.leave(false, "601/INBOX");
    let mut receiver = story.pair.theirs.receiver();
    receiver.offer(story.pair.mine.scan()).unwrap();
    // the standby dies now: the primary serves with what it has, and takes another one
    drop(receiver);
    story.leave(true, "601/INBOX");
    // the standby returns, passive, with the one that it alone has
    story.returns(false);
    story.assert_all_there();
}
