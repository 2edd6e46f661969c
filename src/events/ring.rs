//! The latest events, numbered, for readers that each go through them at their own
//! pace. Pure: no clock, no waiting.

use std::{collections::VecDeque, fmt, sync::Arc};

/// Where a reader is: after the event with this number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(pub(super) u64);

/// What an event is called on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A function came, went or changed.
    Function,
    /// Its replicas changed.
    Replicas,
    /// It was scaled.
    Scaling,
    /// Asynchronous calls got into another state.
    Async,
    /// The configuration was read.
    Configuration,
}

impl Kind {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Replicas => "replicas",
            Self::Scaling => "scaling",
            Self::Async => "async",
            Self::Configuration => "configuration",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What kind of thing.
    pub kind: Kind,
    /// Where: the namespace of its function, where it is about one that has one.
    pub namespace: Option<String>,
    /// Its data: JSON on one line.
    pub data: String,
}

/// Why a reader has to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// It says of no event that it was its last.
    Connected,
    /// What it has missed is no longer kept.
    TooOld,
    /// The event it names is of another process, or none.
    UnknownId,
}

impl Reset {
    /// As the API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::TooOld => "too_old",
            Self::UnknownId => "unknown_id",
        }
    }
}

/// The id of an event: of which process, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// Tells processes apart.
    pub epoch: u32,
    /// The number.
    pub(super) position: Position,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.epoch, self.position.0)
    }
}

impl Id {
    /// Reads what [`Id`] is written as, and nothing else.
    fn parse(text: &str) -> Option<Self> {
        let (epoch, number) = text.split_once('-')?;
        let id = Self {
            epoch: u32::from_str_radix(epoch, 16).ok()?,
            position: Position(number.parse().ok()?),
        };
        (id.to_string() == text).then_some(id)
    }
}

/// The latest events.
#[derive(Debug)]
pub(super) struct Ring {
    epoch: u32,
    most: usize,
    /// Number of the last event.
    last: Position,
    /// The latest, the oldest first.
    kept: VecDeque<Arc<Event>>,
}

impl Ring {
    /// Nothing has happened yet; at most so many are kept.
    pub(super) fn new(epoch: u32, most: usize) -> Self {
        Self {
            epoch,
            most,
            last: Position(0),
            kept: VecDeque::new(),
        }
    }

    /// After the last event.
    pub(super) fn end(&self) -> Position {
        self.last
    }

    /// The id of the event before a position.
    pub(super) fn id(&self, position: Position) -> Id {
        Id {
            epoch: self.epoch,
            position,
        }
    }

    /// Adds an event.
    pub(super) fn push(&mut self, event: Event) {
        if self.kept.len() == self.most {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::new(event));
        self.last.0 += 1;
    }

    /// At most so many events after `position`, each with the position after it.
    ///
    /// # Errors
    /// Some of them are no longer kept.
    pub(super) fn after(&self, position: Position, most: usize) -> Result<Vec<(Position, Arc<Event>)>, Reset> {
        let begin = self.last.0 - self.kept.len() as u64;
        let Some(skipped) = position.0.checked_sub(begin) else {
            return Err(Reset::TooOld);
        };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let events = self.kept.iter().skip(skipped).take(most);
        let numbers = position.0 + 1..;
        Ok(numbers.map(Position).zip(events.cloned()).collect())
    }

    /// Where a reader goes on whose last event had this id.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) fn resume(&self, last: Option<&str>) -> Result<Position, Reset> {
        let Some(last) = last else {
            return Err(Reset::Connected);
        };
        let id = Id::parse(last).filter(|id| id.epoch == self.epoch && id.position <= self.last);
        let Some(Id { position, .. }) = id else {
            return Err(Reset::UnknownId);
        };
        self.after(position, 0).map(|_| position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(events: u64) -> Ring {
        let mut ring = Ring::new(0xab, 3);
        for number in 1..=events {
            ring.push(Event {
                kind: Kind::Function,
                namespace: None,
                data: number.to_string(),
            });
        }
        ring
    }

    fn read(ring: &Ring, position: u64, most: usize) -> Result<Vec<String>, Reset> {
        let events = ring.after(Position(position), most)?;
        Ok(events
            .iter()
            .map(|(position, event)| format!("{}:{}", position.0, event.data))
            .collect())
    }

    #[test]
    fn readers_get_what_they_have_missed_or_are_told() {
        let missed = |events: &[&str]| Ok(events.iter().map(|event| (*event).to_owned()).collect());
        for (events, position, most, expected) in [
            (0, 0, 9, missed(&[])),
            (2, 0, 9, missed(&["1:1", "2:2"])),
            (2, 1, 9, missed(&["2:2"])),
            (2, 2, 9, missed(&[])),
            (5, 1, 9, Err(Reset::TooOld)),
            (5, 2, 9, missed(&["3:3", "4:4", "5:5"])),
            (5, 2, 2, missed(&["3:3", "4:4"])),
        ] {
            assert_eq!(read(&ring(events), position, most), expected, "{events} {position}");
        }
    }

    #[test]
    fn ids_are_those_of_this_process() {
        let ring = ring(5);
        assert_eq!(ring.id(ring.end()).to_string(), "000000ab-5");
        for (last, expected) in [
            (None, Err(Reset::Connected)),
            (Some("000000ab-5"), Ok(Position(5))),
            (Some("000000ab-2"), Ok(Position(2))),
            (Some("000000ab-1"), Err(Reset::TooOld)),
            (Some("000000ab-6"), Err(Reset::UnknownId)),
            (Some("000000ac-5"), Err(Reset::UnknownId)),
            (Some("ab-5"), Err(Reset::UnknownId)),
            (Some("000000ab-+5"), Err(Reset::UnknownId)),
            (Some("5"), Err(Reset::UnknownId)),
        ] {
            assert_eq!(ring.resume(last), expected, "{last:?}");
        }
    }
}
