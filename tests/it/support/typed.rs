//! What tests do with the answers of the generated client: see [`Gateway::client`](super::Gateway::client).

use std::fmt::Debug;

use faas_gateway_client::{ByteStream, Error, ResponseValue, types::Problem};
use futures_util::StreamExt as _;

/// What a call comes to that answers with this.
pub(crate) type Answer<T> = Result<ResponseValue<T>, Error<Problem>>;

/// The content of an answer that is no error.
#[track_caller]
pub(crate) fn done<T>(answer: Answer<T>) -> T {
    match answer {
        Ok(answer) => answer.into_inner(),
        Err(error) => panic!("{error:?}"),
    }
}

/// The problem that a call ended with.
#[track_caller]
pub(crate) fn problem(error: Error<Problem>) -> Problem {
    match error {
        Error::ErrorResponse(answer) => {
            let status = answer.status().as_u16();
            let problem = answer.into_inner();
            assert_eq!(i64::from(problem.status), i64::from(status));
            problem
        }
        other => panic!("this is no problem: {other:?}"),
    }
}

/// The problem that a call is refused with.
#[track_caller]
pub(crate) fn refused<T: Debug>(answer: Result<T, Error<Problem>>) -> Problem {
    problem(answer.expect_err("an error"))
}

/// A stream to its end.
pub(crate) async fn text(mut stream: ByteStream) -> String {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.expect("bytes"));
    }
    String::from_utf8(bytes).expect("text")
}

/// What became of a call of a function, whose errors may be its own.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) status: u16,
    /// Whether the gateway answered in the function's place.
    pub(crate) by_gateway: bool,
    pub(crate) body: String,
}

impl Called {
    pub(crate) async fn of(answer: Result<ResponseValue<ByteStream>, Error<ByteStream>>) -> Self {
        let answer = match answer {
            Ok(answer) | Err(Error::ErrorResponse(answer)) => answer,
            Err(other) => panic!("{other:?}"),
        };
        let mark = answer.headers().get("x-openfaas-internal");
        Self {
            status: answer.status().as_u16(),
            by_gateway: mark.is_some_and(|mark| mark == "gateway"),
            body: text(answer.into_inner()).await,
        }
    }

    /// What the gateway says in the function's place.
    #[track_caller]
    pub(crate) fn problem(&self) -> Problem {
        assert!(self.by_gateway, "{self:?}");
        serde_json::from_str(&self.body).expect("a problem")
    }
}
