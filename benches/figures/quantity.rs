//! Amounts as a person reads them, three digits or so.

use std::time::Duration;

/// `4.45 s`, `312 ms`, `0.8 ms`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds >= 99.95 => format!("{seconds:.0} s"),
        _ if seconds >= 9.995 => format!("{seconds:.1} s"),
        _ if seconds >= 0.9995 => format!("{seconds:.2} s"),
        _ if seconds >= 0.00995 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{:.1} ms", seconds * 1e3),
    }
}

/// `54.1 MB`, `38.2 KB`, `812 B`; a kilobyte is 1,000 bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    let count = bytes as f64;
    match count {
        _ if count >= 1e6 => format!("{:.1} MB", count / 1e6),
        _ if count >= 1e3 => format!("{:.1} KB", count / 1e3),
        _ => format!("{bytes} B"),
    }
}

/// `100,000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_a_unit_that_fits() {
        let times = [0.0008, 0.0312, 0.312, 4.451, 70.14, 131.0];
        let texts = times.map(|seconds| time(Duration::from_secs_f64(seconds)));
        assert_eq!(texts, ["0.8 ms", "31 ms", "312 ms", "4.45 s", "70.1 s", "131 s"]);
        assert_eq!([812, 38_240, 54_100_000].map(bytes), ["812 B", "38.2 KB", "54.1 MB"]);
        assert_eq!(
            [7, 999, 1000, 100_000, 1_234_567].map(count),
            ["7", "999", "1,000", "100,000", "1,234,567"]
        );
    }
}
