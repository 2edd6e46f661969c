//! What the end of a call leads to: jobs that are kept in the same moment. Pure.
//!
//! A caller's URL is told of every end but one that somebody asked for: who takes
//! a call back knows (compatibility.md sections 5.2 and 5.3). The same ends go on
//! to where the function's settings say. That may be a function whose own answers
//! go on, and so in a circle, so the calls of a chain are counted.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{RETRY, RETRY_MAX};
use crate::{
    config::Destination,
    proxy::headers::{CALL_DEPTH, CALL_ID, DURATION_SECONDS, INTERNAL, SOURCE_CALL_ID},
    queue::{Answer, Job, State, Target, fields, settings::Settings},
};

const FUNCTION_STATUS: HeaderName = HeaderName::from_static("x-function-status");
const FUNCTION_NAME: HeaderName = HeaderName::from_static("x-function-name");

/// What is told of a call that had no answer, as OpenFaaS does.
const UNANSWERED: u16 = 503;

/// How many times an answer goes on from one call to the next.
const MOST_HOPS: u32 = 10;

/// What describes a body (RFC 9110 section 8), and so goes with it.
const REPRESENTATION: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE];

/// A call that has ended, and how.
pub(super) struct Ended<'e> {
    pub(super) job: &'e Job,
    pub(super) state: State,
    /// The answer to the last try.
    pub(super) answer: Option<&'e Answer>,
    /// When the last try began.
    pub(super) started: DateTime<Utc>,
    /// How long it took.
    pub(super) took: Duration,
    /// Its number, and how many there may be.
    pub(super) tries: (u32, u32),
    pub(super) now: DateTime<Utc>,
}

/// What an end leads to.
#[derive(Default)]
pub(super) struct Follow {
    /// These jobs.
    pub(super) jobs: Vec<Job>,
    /// Where the answer would go if it had not gone on so often.
    pub(super) refused: Option<Destination>,
}

/// What the end of a call leads to.
pub(super) fn after(ended: &Ended<'_>, settings: &Settings) -> Follow {
    if ended.job.target != Target::Function || ended.state == State::Cancelled {
        return Follow::default();
    }
    let mut follow = Follow::default();
    let callback = ended.job.callback.as_ref();
    follow
        .jobs
        .extend(callback.map(|url| ended.to_url("callback", url.clone())));
    let (destination, role) = match ended.state {
        State::Succeeded => (&settings.on_success, "success"),
        _ => (&settings.on_failure, "failure"),
    };
    let depth = ended.depth().saturating_add(1);
    match destination {
        Some(destination) if depth > MOST_HOPS => follow.refused = Some(destination.clone()),
        Some(Destination::Url(url)) => follow.jobs.push(ended.to_url(role, url.to_string())),
        Some(Destination::Function(function)) => follow.jobs.push(Job {
            function: function.clone(),
            ..ended.to_function(role, depth)
        }),
        None => {}
    }
    follow
}

impl Ended<'_> {
    /// How many calls there were before this one.
    fn depth(&self) -> u32 {
        let headers = fields::map(&self.job.headers);
        let depth = headers.get(CALL_DEPTH).and_then(|depth| depth.to_str().ok());
        depth.and_then(|depth| depth.parse().ok()).unwrap_or(0)
    }

    /// A job that calls a function with the answer.
    fn to_function(&self, role: &str, depth: u32) -> Job {
        let job = self.next(role);
        let answered = self.answer.map(|answer| fields::map(&answer.headers));
        let mut headers = HeaderMap::new();
        for name in REPRESENTATION {
            if let Some(value) = answered.as_ref().and_then(|answered| answered.get(&name)) {
                headers.insert(name, value.clone());
            }
        }
        set(&mut headers, CALL_ID, job.id.clone());
        set(&mut headers, SOURCE_CALL_ID, self.job.id.clone());
        set(&mut headers, CALL_DEPTH, depth.to_string());
        self.about_the_call(&mut headers);
        Job {
            headers: fields::of(&headers),
            ..job
        }
    }

    /// A job that takes the answer to a URL.
    fn to_url(&self, role: &str, url: String) -> Job {
        let mut headers = self
            .answer
            .map(|answer| fields::map(&answer.headers))
            .unwrap_or_default();
        // Where it goes and how it is framed is that request's own.
        for name in [
            header::CONTENT_LENGTH,
            header::DATE,
            header::EXPECT,
            header::HOST,
            INTERNAL,
        ] {
            headers.remove(name);
        }
        set(&mut headers, CALL_ID, self.job.id.clone());
        set(
            &mut headers,
            DURATION_SECONDS,
            format!("{:.6}", self.took.as_secs_f64()),
        );
        let (number, most) = self.tries;
        set(&mut headers, RETRY, number.to_string());
        set(&mut headers, RETRY_MAX, most.to_string());
        self.about_the_call(&mut headers);
        Job {
            target: Target::Url(url),
            headers: fields::of(&headers),
            ..self.next(role)
        }
    }

    fn about_the_call(&self, headers: &mut HeaderMap) {
        let status = self.answer.map_or(UNANSWERED, |answer| answer.status);
        set(headers, FUNCTION_STATUS, status.to_string());
        set(headers, FUNCTION_NAME, self.job.function.to_string());
    }

    /// A job with the answer's body. Its id is the same for the same try, so that
    /// an end that is noted twice leads to one job; and another once the call is
    /// made anew, which is another end.
    fn next(&self, role: &str) -> Job {
        Job {
            id: format!("{}-{role}-{}", self.job.id, self.started.timestamp_micros()),
            function: self.job.function.clone(),
            target: Target::Function,
            path: String::new(),
            query: String::new(),
            headers: Vec::new(),
            body: self.answer.map(|answer| answer.body.clone()).unwrap_or_default(),
            callback: None,
            idempotency_key: None,
            created: self.now,
            due: self.now,
        }
    }
}

/// Sets a header, where the value may be one.
fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// The part of an answer that is kept as the result.
pub(super) fn shortened(answer: Answer, most: u64) -> Answer {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if answer.body.len() <= most {
        return answer;
    }
    Answer {
        // A copy, or the rest would stay in memory with it.
        body: Bytes::copy_from_slice(&answer.body[..most]),
        truncated: true,
        ..answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FunctionRef;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a time")
    }

    fn job() -> Job {
        Job {
            id: "1".to_owned(),
            function: FunctionRef::new("f", "fn"),
            target: Target::Function,
            path: "/a".to_owned(),
            query: "b".to_owned(),
            headers: vec![("authorization".to_owned(), b"secret".to_vec())],
            body: Bytes::from("question"),
            callback: Some("http://u:p@host/done".to_owned()),
            idempotency_key: Some("key".to_owned()),
            created: at(0),
            due: at(0),
        }
    }

    fn answer() -> Answer {
        let pairs = [
            ("content-type", "text/plain"),
            ("host", "evil"),
            ("content-length", "6"),
        ];
        Answer {
            status: 200,
            headers: pairs.map(|(name, value)| (name.to_owned(), value.into())).into(),
            body: Bytes::from("answer"),
            truncated: false,
        }
    }

    fn ended<'e>(job: &'e Job, state: State, answer: Option<&'e Answer>) -> Ended<'e> {
        Ended {
            job,
            state,
            answer,
            started: at(5),
            took: Duration::from_millis(1500),
            tries: (2, 3),
            now: at(7),
        }
    }

    /// Nothing goes on.
    fn settings() -> Settings {
        let config = crate::config::parse(Some("provider.kind = \"memory\""), &crate::config::Sources::default());
        let config = config.expect("valid").config;
        let table = crate::config::FunctionQueue::nothing();
        let annotations = crate::config::QueueAnnotations::default();
        crate::queue::settings::of(&config.queue, table, &annotations, "fn").0
    }

    fn jobs(ended: &Ended<'_>) -> Vec<Job> {
        after(ended, &settings()).jobs
    }

    #[test]
    fn a_callback_says_what_became_of_the_call() {
        let (job, answer) = (job(), answer());
        let [told] = &jobs(&ended(&job, State::Succeeded, Some(&answer)))[..] else {
            panic!("one job");
        };
        assert_eq!(told.id, "1-callback-1800000005000000");
        assert_eq!(told.target, Target::Url("http://u:p@host/done".to_owned()));
        assert_eq!((&*told.body, told.created, told.due), (&b"answer"[..], at(7), at(7)));
        assert_eq!((&told.callback, &told.idempotency_key), (&None, &None));
        let headers = fields::map(&told.headers);
        for (name, value) in [
            ("content-type", Some("text/plain")),
            ("x-call-id", Some("1")),
            ("x-function-name", Some("f.fn")),
            ("x-function-status", Some("200")),
            ("x-duration-seconds", Some("1.500000")),
            ("x-retry", Some("2")),
            ("x-retry-max", Some("3")),
            ("host", None),
            ("content-length", None),
            ("authorization", None),
        ] {
            let found = headers.get(name).map(|value| value.to_str().expect("text"));
            assert_eq!(found, value, "{name}");
        }
    }

    #[test]
    fn every_end_is_told_but_that_of_a_call_that_was_taken_back() {
        let job = job();
        for (state, told) in [
            (State::Succeeded, 1),
            (State::Failed, 1),
            (State::Dead, 1),
            (State::Cancelled, 0),
        ] {
            assert_eq!(jobs(&ended(&job, state, None)).len(), told, "{state:?}");
        }
        let silent = jobs(&ended(&job, State::Dead, None)).remove(0);
        assert_eq!(fields::map(&silent.headers)["x-function-status"], "503");
        assert!(
            jobs(&ended(&silent, State::Dead, None)).is_empty(),
            "nobody is told of a callback"
        );
        let plain = Job { callback: None, ..job };
        assert!(jobs(&ended(&plain, State::Dead, None)).is_empty());
    }

    #[test]
    fn an_answer_goes_on_to_a_function_or_a_url() {
        let job = Job {
            callback: None,
            ..job()
        };
        let answer = answer();
        let settings = Settings {
            on_success: Some(Destination::Function(FunctionRef::new("next", "dev"))),
            on_failure: Some(Destination::Url("https://host/failed".parse().expect("a URL"))),
            ..settings()
        };
        let next = after(&ended(&job, State::Succeeded, Some(&answer)), &settings)
            .jobs
            .remove(0);
        assert_eq!(next.id, "1-success-1800000005000000");
        assert_eq!(
            (next.function, next.target),
            (FunctionRef::new("next", "dev"), Target::Function)
        );
        assert_eq!((&*next.body, &*next.path, &*next.query), (&b"answer"[..], "", ""));
        let headers = fields::map(&next.headers);
        let mut found: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        found.sort_unstable();
        let expected = [
            ("content-type", "text/plain"),
            ("x-call-depth", "1"),
            ("x-call-id", "1-success-1800000005000000"),
            ("x-function-name", "f.fn"),
            ("x-function-status", "200"),
            ("x-source-call-id", "1"),
        ];
        assert_eq!(found, expected);
        for state in [State::Failed, State::Dead] {
            let told = after(&ended(&job, state, None), &settings).jobs.remove(0);
            assert_eq!(told.target, Target::Url("https://host/failed".to_owned()));
            assert_eq!(told.id, "1-failure-1800000005000000");
        }
        assert!(after(&ended(&job, State::Cancelled, None), &settings).jobs.is_empty());
    }

    #[test]
    fn a_chain_of_calls_has_an_end() {
        let itself = Destination::Function(FunctionRef::new("f", "fn"));
        let settings = Settings {
            on_failure: Some(itself.clone()),
            ..settings()
        };
        let mut job = Job {
            callback: None,
            ..job()
        };
        let mut hops = 0;
        let refused = loop {
            let mut follow = after(&ended(&job, State::Dead, None), &settings);
            if let Some(refused) = follow.refused {
                assert!(follow.jobs.is_empty());
                break refused;
            }
            job = follow.jobs.remove(0);
            hops += 1;
        };
        assert_eq!((hops, refused), (MOST_HOPS, itself));
    }

    #[test]
    fn a_result_is_kept_up_to_its_bound() {
        for (most, body, truncated) in [(100, "answer", false), (6, "answer", false), (2, "an", true)] {
            let found = shortened(answer(), most);
            assert_eq!((&*found.body, found.truncated), (body.as_bytes(), truncated), "{most}");
        }
    }
}
