//! Shares of a whole: `0.2` or `"20%"`.

use std::fmt;

/// A share, from 0 to 1, kept in millionths so that it can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u32);

/// What 1 is kept as.
const WHOLE: u32 = 1_000_000;

impl Ratio {
    /// The whole.
    pub const ALL: Self = Self(WHOLE);

    /// Whole percents, at most 100.
    pub const fn percent(percent: u32) -> Self {
        Self(if percent > 100 { WHOLE } else { percent * (WHOLE / 100) })
    }

    /// Reads `0.2`, `1` and `20%`; `None` outside of 0 to 1.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, whole) = match text.strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 100.0),
            None => (text, 1.0),
        };
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let share = number.parse::<f64>().ok().filter(|_| plain)? / whole;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and a million"
        )]
        (0.0..=1.0)
            .contains(&share)
            .then(|| Self((share * f64::from(WHOLE)).round() as u32))
    }

    /// The share as a fraction.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_as_fraction_or_percent() {
        for (text, shown) in [
            ("0.2", "0.2"),
            ("20%", "0.2"),
            ("1", "1"),
            ("0", "0"),
            ("12.5 %", "0.125"),
        ] {
            assert_eq!(Ratio::parse(text).expect(text).to_string(), shown);
        }
        for text in ["", "%", "-1", "1.1", "101%", "NaN", "1e-1", "a"] {
            assert_eq!(Ratio::parse(text), None, "{text}");
        }
        assert_eq!(Ratio::percent(20), Ratio::parse("0.2").expect("a share"));
        assert_eq!(Ratio::percent(200), Ratio::ALL);
    }
}
