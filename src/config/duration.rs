//! Durations as OpenFaaS users write them: bare seconds or Go's notation.

use std::time::Duration;

/// Reads `60` (seconds), `1m30s`, `250ms`, `1.5h`. Negative values, unknown
/// units and anything else are `None` (compatibility.md section 2 lists what
/// Go accepts; a negative timeout is refused here because it means nothing).
/// More than Go's own limit, 292 years, is refused too: a deadline that far
/// cannot be computed.
pub fn parse(text: &str) -> Option<Duration> {
    parse_any(text).filter(|duration| i64::try_from(duration.as_nanos()).is_ok())
}

fn parse_any(text: &str) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let number_len = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let number: f64 = rest[..number_len].parse().ok()?;
        rest = &rest[number_len..];
        let unit_len = rest
            .find(|character: char| character.is_ascii_digit() || character == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit_len] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[unit_len..];
    }
    Duration::try_from_secs_f64(total).ok()
}

/// Writes a duration the way [`parse`] reads it.
pub fn format(duration: Duration) -> String {
    let nanos = duration.subsec_nanos();
    if nanos == 0 {
        let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
        return match (minutes, seconds) {
            (0, seconds) => format!("{seconds}s"),
            (minutes, 0) => format!("{minutes}m"),
            (minutes, seconds) => format!("{minutes}m{seconds}s"),
        };
    }
    if nanos.is_multiple_of(1_000_000) {
        return format!("{}ms", duration.as_millis());
    }
    if nanos.is_multiple_of(1_000) {
        return format!("{}us", duration.as_micros());
    }
    format!("{}ns", duration.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_and_bare_seconds() {
        for (text, millis) in [
            ("60", 60_000),
            ("0", 0),
            ("60s", 60_000),
            ("1m5s", 65_000),
            ("100ms", 100),
            ("1.5h", 5_400_000),
            ("1h1m1s1ms", 3_661_001),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "1d",
            "5 s",
            "0.25",
            "-5s",
            "-1",
            "s",
            "abc",
            "1..5s",
            "60 ",
            "9999999h",
            "9999999999999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn format_reads_back() {
        for text in ["60", "1m30s", "250ms", "5s", "7us", "30ns", "1s1ms", "1h"] {
            let duration = parse(text).expect("valid");
            assert_eq!(parse(&format(duration)), Some(duration));
        }
    }
}
