//! The value of `Date`, written once a second.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::proxy::fast::write;

thread_local! {
    static NEWEST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Calls `then` with the value for `now`.
pub(super) fn with<T>(now: SystemTime, then: impl FnOnce(&[u8]) -> T) -> T {
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    NEWEST.with_borrow_mut(|(of, text)| {
        if *of != second || text.is_empty() {
            *of = second;
            *text = write::date(now);
        }
        then(text.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_changes_with_the_second() {
        for (seconds, expected) in [(0, "00:00:00"), (0, "00:00:00"), (61, "00:01:01"), (0, "00:00:00")] {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            let text = with(now, <[u8]>::to_vec);
            assert_eq!(text, format!("Thu, 01 Jan 1970 {expected} GMT").as_bytes());
        }
    }
}
