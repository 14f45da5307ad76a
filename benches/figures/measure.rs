use std::time::Duration;

use ha_tests::{Host, Lab};

/// What one run of a command in the master cost, as the shell that started it and the network card saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// From before its process was started until it had ended.
    pub(crate) took: Duration,
    /// Bytes that left the master meanwhile, with everything that frames carry: SSH's own handshake, TCP's headers.
    pub(crate) sent: u64,
    /// Bytes that reached the master meanwhile.
    pub(crate) received: u64,
}

impl Sample {
    /// Bytes, sent and received.
    pub(crate) fn both_ways(&self) -> u64 {
        self.sent + self.received
    }
}

/// A command that takes longer has hung.
const LIMIT: Duration = Duration::from_secs(1800);

/// Runs a command in the master; returns what it cost and what it wrote on stdout.
///
/// Clock and counters are read by the shell that runs the command, so entering the host is not counted.
#[track_caller]
pub(crate) fn run(lab: &Lab, command: &str) -> (Sample, String) {
    let script = format!(
        "card=/sys/class/net/eth0/statistics
        read -r sent < $card/tx_bytes; read -r received < $card/rx_bytes; begin=$EPOCHREALTIME
        {command} </dev/null >/run/lab/figures.out; code=$?
        end=$EPOCHREALTIME; read -r sent_then < $card/tx_bytes; read -r received_then < $card/rx_bytes
        echo $((${{end/.}} - ${{begin/.}})) $((sent_then - sent)) $((received_then - received)); exit $code"
    );
    let ran = lab.sh_within(Host::Master, &script, LIMIT);
    let out = std::fs::read_to_string(lab.mailbox(Host::Master, "figures.out")).unwrap_or_default();
    assert!(ran.succeeded(), "`{command}` exited with {}: {}{out}", ran.code, ran.said());
    let numbers: Vec<u64> = ran.stdout.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [took, sent, received] = numbers[..] else { panic!("not three numbers: {}", ran.stdout) };
    (Sample { took: Duration::from_micros(took), sent, received }, out)
}

/// The middle one. Of two in the middle the smaller: the baseline's runs are even in number, and its median must not
/// flatter the engine. `None`: there are none.
pub(crate) fn median<T: Ord + Copy>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn one_slow_run_does_not_move_the_median() {
        assert_eq!(median([3, 1, 900, 2, 2]), Some(2));
        assert_eq!(median([4, 1]), Some(1));
        assert_eq!(median::<u8>([]), None);
    }
}
