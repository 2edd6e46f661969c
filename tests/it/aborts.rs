//! Either side leaves, at every stage of a call: in the middle of a head, behind
//! it, within a body, before an answer and within it. The other side is told,
//! never sees half a message as a whole one, and the gateway is well after it.

use crate::support::{
    message::{self, Kind, Read},
    script::{Call, Script},
    soon,
    wire::Wire,
};

const GET: &str = "GET /function/f/x HTTP/1.1\r\nHost: x\r\n\r\n";
const LENGTH: &str = "POST /function/f/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
const CHUNKS: &str = "POST /function/f/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Ways to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Closes,
    Resets,
}

const WAYS: [Leaves; 2] = [Leaves::Closes, Leaves::Resets];

impl Leaves {
    fn leave(self, wire: Wire) {
        match self {
            Self::Closes => drop(wire),
            Self::Resets => wire.reset(),
        }
    }
}

/// What is left of a message when its connection has ended: no whole one.
fn broken(text: &str, kind: Kind) {
    let read = message::read(text.as_bytes(), kind);
    assert!(matches!(read, Read::Partial(_)), "{read:?} of {text:?}");
}

/// Reads what a function gets of a request that breaks off.
async fn gets_no_whole(mut call: Call) {
    let rest = soon("the end of the call", call.wire.rest()).await;
    broken(&format!("{}{rest}", call.head), Kind::Request);
}

#[tokio::test]
async fn a_caller_that_leaves_within_its_head_calls_nothing() {
    let mut script = Script::start().await;
    for way in WAYS {
        for part in [
            "",
            "G",
            "GET /function/f",
            "GET /function/f HTTP/1.1\r\nHo",
            &GET[..GET.len() - 2],
        ] {
            let caller = script.sends(part).await;
            way.leave(caller);
        }
        script.answers("after").await;
        assert!(script.is_quiet(), "a part of a head was a call");
    }
}

#[tokio::test]
async fn a_caller_that_leaves_between_head_and_body_or_within_it_breaks_the_request_off() {
    let mut script = Script::start().await;
    for way in WAYS {
        for (head, part) in [
            (LENGTH, ""),
            (LENGTH, "part"),
            (LENGTH, "123456789"),
            (CHUNKS, ""),
            (CHUNKS, "a\r\npart"),
            (CHUNKS, "4\r\npart\r\n"),
            (CHUNKS, "4\r\npart\r\n0\r\n"),
        ] {
            let mut caller = script.sends(head).await;
            let call = script.call().await;
            caller.send(part).await;
            way.leave(caller);
            gets_no_whole(call).await;
            script.idle().await;
        }
    }
    script.answers("after").await;
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_answer_or_within_it_ends_the_call() {
    let mut script = Script::start().await;
    for way in WAYS {
        for (request, body) in [(GET, ""), (LENGTH, "0123456789"), (CHUNKS, "2\r\nhi\r\n0\r\n\r\n")] {
            for answer in [
                "",
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
                "HTTP/1.1 200 OK\r\n\r\npart",
            ] {
                let mut caller = script.sends(format!("{request}{body}")).await;
                let mut call = script.call().await;
                call.wire.until(body).await;
                call.wire.send(answer).await;
                if !answer.is_empty() {
                    caller.until("part").await;
                }
                way.leave(caller);
                soon("the end of the call", call.wire.rest()).await;
                script.idle().await;
            }
        }
    }
    script.answers("after").await;
}

#[tokio::test]
async fn a_function_that_leaves_before_its_answer_is_a_502() {
    let mut script = Script::start().await;
    for way in WAYS {
        for (request, body) in [
            (LENGTH, ""),
            (LENGTH, "part"),
            (CHUNKS, "4\r\npart\r\n"),
            (LENGTH, "0123456789"),
        ] {
            for answer in [
                "",
                "HTTP/1.",
                "HTTP/1.1 200 OK\r\nContent-Le",
                "HTTP/1.1 200 OK\r\nA: b\r\n",
            ] {
                let mut caller = script.sends(format!("{request}{body}")).await;
                let mut call = script.call().await;
                call.wire.until(body).await;
                call.wire.send(answer).await;
                way.leave(call.wire);
                let head = caller.until("\r\n\r\n").await;
                assert!(
                    head.starts_with("HTTP/1.1 502"),
                    "{way:?} {request} {body} {answer}: {head}"
                );
                assert!(head.contains("X-Openfaas-Internal: "), "{head}");
                drop(caller);
                script.idle().await;
            }
        }
    }
    script.answers("after").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_a_whole_one() {
    let mut script = Script::start().await;
    for way in WAYS {
        for (head, part) in [
            ("Content-Length: 10", ""),
            ("Content-Length: 10", "part"),
            ("Content-Length: 10", "123456789"),
            ("Transfer-Encoding: chunked", ""),
            ("Transfer-Encoding: chunked", "4"),
            ("Transfer-Encoding: chunked", "4\r\n"),
            ("Transfer-Encoding: chunked", "4\r\npa"),
            ("Transfer-Encoding: chunked", "4\r\npart"),
            ("Transfer-Encoding: chunked", "4\r\npart\r\n"),
            ("Transfer-Encoding: chunked", "4\r\npart\r\n0"),
            ("Transfer-Encoding: chunked", "4\r\npart\r\n0\r\n"),
            ("Transfer-Encoding: chunked", "4\r\npart\r\n0\r\nX-Sum: 1\r\n"),
        ] {
            let mut caller = script.sends(GET).await;
            let mut call = script.call().await;
            call.wire.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
            // Had it not begun, it would be a 502.
            let mut answer = caller.until("\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            call.wire.send(part).await;
            way.leave(call.wire);
            answer.push_str(&caller.rest().await);
            broken(&answer, Kind::Answer);
            script.idle().await;
        }
    }
    script.answers("after").await;
}

#[tokio::test]
async fn an_answer_without_a_length_that_is_reset_is_never_a_whole_one() {
    let mut script = Script::start().await;
    let mut caller = script.sends(GET).await;
    let mut call = script.call().await;
    call.wire.send("HTTP/1.1 200 OK\r\n\r\npart").await;
    let mut answer = caller.until("part").await;
    call.wire.reset();
    answer.push_str(&caller.rest().await);
    broken(&answer, Kind::Answer);
    script.answers("after").await;
}

#[tokio::test]
async fn a_function_that_answers_and_closes_before_the_request_has_ended_is_heard() {
    let mut script = Script::start().await;
    for (head, part) in [(LENGTH, "part"), (CHUNKS, "4\r\npart\r\n")] {
        let mut caller = script.sends(format!("{head}{part}")).await;
        let mut call = script.call().await;
        call.wire.until("part").await;
        call.wire
            .send("HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much")
            .await;
        call.wire.half_close().await;
        let answer = caller.until("too much").await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        drop(caller);
        script.idle().await;
    }
    script.answers("after").await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_says_when_it_is_the_last() {
    let mut script = Script::start().await;
    for (head, part, rest) in [(LENGTH, "part", "second"), (CHUNKS, "4\r\npart\r\n", "0\r\n\r\n")] {
        let mut caller = script.sends(format!("{head}{part}")).await;
        let mut call = script.call().await;
        call.wire.until("part").await;
        call.wire
            .send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
            .await;
        let answer = caller.until("early").await;
        if answer.to_ascii_lowercase().contains("connection: close") {
            drop(caller);
        } else {
            caller.send(&format!("{rest}{GET}")).await;
            let mut next = script.call().await;
            next.wire
                .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
                .await;
            caller.until("second").await;
        }
    }
}

#[tokio::test]
async fn a_half_closed_function_may_go_on_with_its_answer_no_more() {
    let mut script = Script::start().await;
    for (answer, whole) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npart", true),
        ("HTTP/1.1 200 OK\r\n\r\npart", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
            false,
        ),
    ] {
        let mut caller = script.sends(GET).await;
        let mut call = script.call().await;
        call.wire.send(answer).await;
        let mut heard = caller.until("part").await;
        call.wire.half_close().await;
        if whole {
            if heard.contains("chunked") {
                heard.push_str(&caller.until("0\r\n\r\n").await);
            }
            let read = message::read(heard.as_bytes(), Kind::Answer);
            assert!(matches!(read, Read::Whole(..)), "{read:?}");
        } else {
            heard.push_str(&caller.rest().await);
            broken(&heard, Kind::Answer);
        }
        drop(call);
        script.idle().await;
    }
    script.answers("after").await;
}

/// Who closes its sending side is taken for gone, as by Go's server: a call that
/// nobody may be waiting for is given up rather than made in vain.
#[tokio::test]
async fn a_caller_that_half_closes_before_its_answer_has_left() {
    let mut script = Script::start().await;
    for (request, body) in [
        (GET, ""),
        (LENGTH, ""),
        (LENGTH, "part"),
        (LENGTH, "0123456789"),
        (CHUNKS, "4\r\npart\r\n"),
        (CHUNKS, "4\r\npart\r\n0\r\n\r\n"),
    ] {
        let mut caller = script.sends(format!("{request}{body}")).await;
        let mut call = script.call().await;
        call.wire.until(body).await;
        caller.half_close().await;
        soon("the end of the call", call.wire.rest()).await;
        let heard = soon("the end", caller.rest()).await;
        assert!(!heard.starts_with("HTTP/1.1 200"), "{heard}");
        script.idle().await;
    }
    let mut caller = script.sends(&GET[..20]).await;
    caller.half_close().await;
    let heard = soon("the end", caller.rest()).await;
    assert!(!heard.starts_with("HTTP/1.1 200"), "{heard}");
    script.answers("after").await;
}

#[tokio::test]
async fn a_caller_that_half_closes_within_its_answer_or_behind_it_hangs_nothing() {
    let mut script = Script::start().await;
    let mut caller = script.sends(GET).await;
    let mut call = script.call().await;
    call.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwe").await;
    caller.until("we").await;
    caller.half_close().await;
    let rest = soon("the end of both", async {
        tokio::join!(caller.rest(), call.wire.rest())
    })
    .await;
    assert_eq!(rest, (String::new(), String::new()));
    script.idle().await;
    let mut caller = script.sends(GET).await;
    script.well(&mut caller, "x").await;
    caller.half_close().await;
    assert_eq!(soon("the end", caller.rest()).await, "");
    script.answers("after").await;
}
