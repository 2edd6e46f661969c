//! How many jobs of one function run at a time: more while it answers well,
//! fewer when it says that it has enough. Pure.

/// The bound of one function. Additive increase, multiplicative decrease, as in
/// TCP: each success makes room for a part of a job more, being refused halves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limiter {
    limit: f64,
}

/// What a function begins with.
const FIRST: f64 = 4.0;

impl Default for Limiter {
    fn default() -> Self {
        Self { limit: FIRST }
    }
}

impl Limiter {
    /// Jobs that may run at a time; at least 1, at most `most`.
    pub fn limit(&self, most: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is at least 1 and small"
        )]
        let limit = self.limit as usize;
        limit.clamp(1, most.max(1))
    }

    /// Takes the status of an answer; `None` is no answer.
    pub fn answered(&mut self, status: Option<u16>, most: usize) {
        match status {
            Some(429 | 503) => self.limit = (self.limit / 2.0).max(1.0),
            Some(200..=399) => {
                let grown = self.limit + 1.0 / self.limit;
                self.limit = grown.min((most.max(1)) as f64).max(1.0);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_makes_room_and_being_refused_takes_half() {
        let mut limiter = Limiter::default();
        assert_eq!(limiter.limit(100), 4);
        for _ in 0..200 {
            limiter.answered(Some(200), 10);
        }
        assert_eq!(limiter.limit(10), 10);
        limiter.answered(Some(503), 10);
        assert_eq!(limiter.limit(10), 5);
        for _ in 0..10 {
            limiter.answered(Some(429), 10);
        }
        assert_eq!(limiter.limit(10), 1);
        for status in [None, Some(500), Some(404)] {
            limiter.answered(status, 10);
        }
        assert_eq!(limiter.limit(10), 1);
        assert_eq!(Limiter::default().limit(2), 2);
        assert_eq!(Limiter::default().limit(0), 1);
    }
}
