//! What two nodes that share an address tell each other, many times a second.

use std::time::Duration;

use thiserror::Error;

/// A point on the sender's `CLOCK_BOOTTIME`. Never compared with another node's.
pub type Stamp = Duration;

/// Length of an encoded [`Beat`], without what authenticates it.
pub const BEAT_LENGTH: usize = 80;
/// The first bytes: what this is, and in which version.
const MAGIC: [u8; 8] = *b"pbxbeat1";

/// Which side a node prefers to be, and so who goes first when nothing else tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// The master; SARK's standby is the other one.
    Standby,
    /// The slave; SARK's primary.
    Primary,
}

/// What a node does with the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// It does not hold it.
    Rests,
    /// It asks to be let have it.
    Claims,
    /// It was let have it, or nobody else is there, and is about to hold it.
    Takes,
    /// It holds it.
    Holds,
    /// It holds it, and would rather that the other one did.
    Offers,
    /// It has let it go for the other one.
    Gives,
}

/// One beat. Its number is the sender's clock when it was sent, so an acknowledgement of it is a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Beat {
    /// Drawn at random when the sender's engine started.
    pub session: u64,
    /// The receiver's session, as far as the sender knows it; 0: it has heard nobody.
    pub echo: u64,
    /// When it was sent, on the sender's clock; grows with each beat of a session.
    pub number: Stamp,
    /// The newest number that was heard of the echoed session.
    pub heard: Stamp,
    /// The sender's, from when it last held the address.
    pub epoch: u64,
    /// What the sender does with the address.
    pub act: Act,
    /// The number of the receiver's claim that the sender lets have it; zero: none.
    pub granted: Stamp,
    /// Whom the sender prefers to be.
    pub rank: Rank,
    /// The sender held the address when it last stopped, without letting it go.
    pub was_active: bool,
    /// The sender could start telephony.
    pub able: bool,
    /// Something is still to be carried between the nodes.
    pub carrying: bool,
    /// Somebody works on the sender.
    pub maintenance: bool,
    /// The address' interface is up there, and a reference answers through it.
    pub link: bool,
    /// The sender's lease and margin together.
    pub wait: Duration,
    /// How long it takes until the sender, who hears nobody, takes the address alone; zero: it hears the receiver, or will
    /// not.
    pub alone_in: Duration,
}

/// What is no beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BeatError {
    /// Another length.
    #[error("a beat has {BEAT_LENGTH} bytes, this has {0}")]
    Length(usize),
    /// Another program's, or another version's.
    #[error("not a beat of this version")]
    Magic,
    /// A value that no sender writes.
    #[error("{0} has no such value")]
    Value(&'static str),
}

impl Beat {
    /// Who goes first when neither node holds the address: the one that held it last.
    pub fn precedence(&self) -> (u64, bool, Rank) {
        (self.epoch, self.was_active, self.rank)
    }

    /// Whether the sender could be given the address now.
    pub fn could_take(&self) -> bool {
        self.able && self.link && !self.maintenance
    }

    /// Fixed length, big-endian, in the order of the fields.
    pub fn encode(&self) -> [u8; BEAT_LENGTH] {
        let mut bytes = [0; BEAT_LENGTH];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        let flags = [self.was_active, self.able, self.carrying, self.maintenance, self.link];
        let bits = flags.iter().rev().fold(0_u8, |bits, flag| bits << 1 | u8::from(*flag));
        put(&[self.act as u8, self.rank as u8, bits, 0, 0, 0, 0, 0]);
        for word in [self.session, self.echo, self.epoch] {
            put(&word.to_be_bytes());
        }
        for time in [self.number, self.heard, self.granted, self.wait, self.alone_in] {
            // five hundred years
            put(&u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_be_bytes());
        }
        bytes
    }

    /// The beat in these bytes, whose sender has been authenticated.
    pub fn decode(bytes: &[u8]) -> Result<Beat, BeatError> {
        let bytes: &[u8; BEAT_LENGTH] = bytes.try_into().map_err(|_| BeatError::Length(bytes.len()))?;
        let (magic, rest) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(BeatError::Magic);
        }
        let (head, words) = rest.split_at(8);
        let acts = [Act::Rests, Act::Claims, Act::Takes, Act::Holds, Act::Offers, Act::Gives];
        let act = *acts.get(usize::from(head[0])).ok_or(BeatError::Value("act"))?;
        let rank =
            *[Rank::Standby, Rank::Primary].get(usize::from(head[1])).ok_or(BeatError::Value("rank"))?;
        if head[2] >= 1 << 5 || head[3..].iter().any(|byte| *byte != 0) {
            return Err(BeatError::Value("flags"));
        }
        let flag = |bit: u8| head[2] & 1 << bit != 0;
        let word = |index: usize| {
            let word = words[index * 8..][..8].try_into().expect("eight bytes");
            u64::from_be_bytes(word)
        };
        let time = |index: usize| Duration::from_nanos(word(index));
        Ok(Beat {
            session: word(0),
            echo: word(1),
            epoch: word(2),
            number: time(3),
            heard: time(4),
            granted: time(5),
            wait: time(6),
            alone_in: time(7),
            act,
            rank,
            was_active: flag(0),
            able: flag(1),
            carrying: flag(2),
            maintenance: flag(3),
            link: flag(4),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_beat() -> impl Strategy<Value = Beat> {
        let acts = prop::sample::select(vec![
            Act::Rests,
            Act::Claims,
            Act::Takes,
            Act::Holds,
            Act::Offers,
            Act::Gives,
        ]);
        let words = prop::array::uniform8(any::<u64>());
        let flags = prop::array::uniform5(any::<bool>());
        let time = Duration::from_nanos;
        (acts, any::<bool>(), flags, words).prop_map(move |(act, primary, flags, words)| Beat {
            session: words[0],
            echo: words[1],
            epoch: words[2],
            number: time(words[3]),
            heard: time(words[4]),
            granted: time(words[5]),
            wait: time(words[6]),
            alone_in: time(words[7]),
            act,
            rank: if primary { Rank::Primary } else { Rank::Standby },
            was_active: flags[0],
            able: flags[1],
            carrying: flags[2],
            maintenance: flags[3],
            link: flags[4],
        })
    }

    proptest! {
        #[test]
        fn a_beat_comes_back_from_its_bytes(beat in any_beat()) {
            prop_assert_eq!(Beat::decode(&beat.encode()), Ok(beat));
        }

        #[test]
        fn any_bytes_are_a_beat_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(beat) = Beat::decode(&bytes) {
                prop_assert_eq!(beat.encode().to_vec(), bytes);
            }
        }
    }

    #[test]
    fn what_no_sender_writes_is_refused() {
        assert_eq!(Beat::decode(&[0; 3]), Err(BeatError::Length(3)));
        assert_eq!(Beat::decode(&[0; BEAT_LENGTH]), Err(BeatError::Magic));
    }
}
