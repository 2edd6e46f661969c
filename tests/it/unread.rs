//! Answers that come before their request has ended: what is left of it costs the
//! connection only where it is long in coming, and then the caller is told.

use std::time::Duration;

use crate::support::{
    message::{Kind, Message},
    script::Script,
    wire::Wire,
};

/// Refused on the way to a function, by the function's settings (on the fast lane where
/// there is one), by the API and by what keeps calls.
const REFUSED: [(&str, u16); 5] = [
    ("/function/", 404),
    ("/function/f/x", 413),
    ("/healthz", 405),
    ("/no/such/page", 404),
    ("/async-function/", 404),
];

const NEXT: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

async fn script() -> Script {
    Script::with(|setup| setup.config("[functions.f]\nbody.max_request = 4\n")).await
}

fn says_close(answer: &Message) -> bool {
    answer.values("connection") == ["close"]
}

/// A caller that sent a head with these fields.
async fn asks(script: &Script, path: &str, fields: &str) -> Wire {
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
    script.sends(head).await
}

/// The same, which is answered with this status.
async fn refused(script: &Script, (path, status): (&str, u16), fields: &str) -> (Wire, Message) {
    let mut caller = asks(script, path, fields).await;
    let answer = caller.message(Kind::Answer).await;
    assert_eq!(answer.status(), status, "{path}: {answer:?}");
    (caller, answer)
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_to_the_next_request() {
    let mut script = script().await;
    for (path, status) in REFUSED {
        for (fields, pieces) in [
            ("Content-Length: 10", ["01234", "56789"]),
            ("Transfer-Encoding: chunked", ["5\r\n01234\r\n", "0\r\n\r\n"]),
        ] {
            if status == 413 && fields.starts_with("Transfer") {
                // Nobody knows before it has been called.
                continue;
            }
            let mut caller = asks(&script, path, fields).await;
            for piece in pieces {
                // Whoever does not wait for it has answered by now, and closes.
                tokio::time::sleep(Duration::from_millis(20)).await;
                caller.send(piece).await;
            }
            let answer = caller.message(Kind::Answer).await;
            assert_eq!(answer.status(), status, "{path}, {fields}: {answer:?}");
            assert!(!says_close(&answer), "{path}, {fields}: {answer:?}");
            caller.send(NEXT).await;
            assert_eq!(caller.message(Kind::Answer).await.status(), 200, "{path}, {fields}");
        }
    }
    assert!(script.is_quiet(), "one of them was called");
}

#[tokio::test]
async fn a_refused_request_that_does_not_end_ends_its_connection_and_the_answer_says_so() {
    let script = &script().await;
    let each = REFUSED.map(|case| async move {
        let (mut caller, answer) = refused(script, case, "Content-Length: 10").await;
        assert!(says_close(&answer), "{case:?}: {answer:?}");
        assert_eq!(caller.rest().await, "", "{case:?}");
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test]
async fn what_is_too_much_to_read_in_vain_is_refused_at_once() {
    let script = script().await;
    for case in REFUSED {
        let large = format!("Content-Length: {}", 256 * 1024 + 1);
        let (_caller, answer) = refused(&script, case, &large).await;
        assert!(says_close(&answer), "{case:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_not() {
    let script = script().await;
    for case in REFUSED {
        let fields = "Content-Length: 10\r\nExpect: 100-continue";
        let (mut caller, answer) = refused(&script, case, fields).await;
        assert!(says_close(&answer), "{case:?}: {answer:?}");
        assert_eq!(caller.rest().await, "", "{case:?}");
    }
}

#[tokio::test]
async fn what_is_no_body_ends_its_connection_and_the_answer_says_so() {
    let script = script().await;
    for (path, status) in REFUSED {
        let status = if status == 413 { 400 } else { status };
        let (mut caller, answer) = refused(&script, (path, status), "Transfer-Encoding: chunked\r\n\r\n4x").await;
        assert!(says_close(&answer), "{path}: {answer:?}");
        assert_eq!(caller.rest().await, "", "{path}");
    }
}
