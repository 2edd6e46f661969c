//! What is on the wire, to the letter: order, framing, interim answers and ends
//! of connections. Names begin with the section of RFC 9110 or 9112.

use crate::support::{
    message::{self, Kind, Message, Read},
    script::Script,
    soon,
};

const GET: &str = "GET /function/f/x HTTP/1.1\r\nHost: x\r\n\r\n";

/// What a caller gets when the function answers with this, and whether the
/// connection goes on.
async fn answered(request: &str, kind: Kind, answer: &str) -> Message {
    let mut script = Script::start().await;
    let mut caller = script.sends(request).await;
    let mut call = script.call().await;
    call.wire.send(answer).await;
    let message = caller.message(kind).await;
    // Nothing of it is left over on either side.
    let next = GET.replace("/x", "/next");
    caller.send(&next).await;
    drop(call);
    script.well(&mut caller, "next").await;
    message
}

#[tokio::test]
async fn rfc9112_9_3_2_pipelined_requests_are_answered_in_order_one_after_the_other() {
    let mut script = Script::start().await;
    let request = |number: usize| match number % 3 {
        0 => format!("GET /function/f/{number} HTTP/1.1\r\nHost: x\r\n\r\n"),
        1 => format!("POST /function/f/{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"),
        _ => format!(
            "POST /function/f/{number} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ),
    };
    let mut caller = script.sends((0..12).map(request).collect::<String>()).await;
    let mut call = script.call().await;
    for number in 0..12 {
        assert!(
            call.head.split(' ').nth(1) == Some(&format!("/function/f/{number}")),
            "{}",
            call.head
        );
        if number % 3 > 0 {
            call.wire.until(if number % 3 == 1 { "abc" } else { "0\r\n\r\n" }).await;
        }
        assert!(script.is_quiet(), "a request overtook the one before");
        let body = number.to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        call.wire.send(answer).await;
        if number < 11 {
            call = script.next(call).await;
        }
    }
    for number in 0..12 {
        assert_eq!(caller.message(Kind::Answer).await.text(), number.to_string());
    }
}

#[tokio::test]
async fn rfc9112_2_2_a_request_is_the_same_wherever_it_is_cut() {
    let mut script = Script::start().await;
    let request =
        "POST /function/f/x?y HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;e\r\nabc\r\n0\r\n\r\n";
    let mut caller = script.caller().await;
    for at in 1..request.len() {
        caller.send(&request[..at]).await;
        tokio::task::yield_now().await;
        if at % 8 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        caller.send(&request[at..]).await;
        let mut call = script.call().await;
        assert!(
            call.head.starts_with("POST /function/f/x?y HTTP/1.1\r\n"),
            "{at}: {}",
            call.head
        );
        let body = call.wire.until("0\r\n\r\n").await;
        let message = message::read(format!("{}{body}", call.head).as_bytes(), Kind::Request);
        assert!(
            matches!(&message, Read::Whole(message, _) if message.text() == "abc"),
            "{at}: {message:?}"
        );
        call.wire
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await;
        assert_eq!(caller.message(Kind::Answer).await.status(), 200, "{at}");
    }
}

#[tokio::test]
async fn rfc9110_9_3_2_head_has_the_fields_and_no_body_however_it_is_framed() {
    for (framing, name, value) in [
        ("Content-Length: 1000", "content-length", "1000"),
        ("Transfer-Encoding: chunked", "transfer-encoding", "chunked"),
        ("ETag: 1", "etag", "1"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
        let message = answered(&GET.replace("GET", "HEAD"), Kind::AnswerToHead, &answer).await;
        assert_eq!(message.status(), 200);
        // RFC 9110 section 9.3.2: it may leave out what is known only with the body.
        let values = message.values(name);
        assert!(
            values == [value] || (name == "transfer-encoding" && values.is_empty()),
            "{message:?}"
        );
    }
}

#[tokio::test]
async fn rfc9110_9_3_7_options_of_a_function_are_its_own_and_those_of_the_server_are_not() {
    let answer = "HTTP/1.1 204 No Content\r\nAllow: GET, PUT\r\n\r\n";
    let message = answered(&GET.replace("GET", "OPTIONS"), Kind::Answer, answer).await;
    assert_eq!(
        (message.status(), message.values("allow")),
        (204, vec!["GET, PUT".to_owned()])
    );
    let mut script = Script::start().await;
    let mut caller = script.sends("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = caller.message(Kind::Answer).await;
    assert!(answer.status() < 500 && script.is_quiet(), "{answer:?}");
}

#[tokio::test]
async fn rfc9112_6_3_lengths_and_chunks_stay_what_they_are() {
    let message = answered(GET, Kind::Answer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(
        (message.values("content-length"), message.text()),
        (vec!["5".to_owned()], "hello".to_owned())
    );
    assert!(message.values("transfer-encoding").is_empty(), "{message:?}");
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    let message = answered(GET, Kind::Answer, chunks).await;
    assert_eq!(
        (message.values("transfer-encoding"), message.text()),
        (vec!["chunked".to_owned()], "hello".to_owned())
    );
    assert!(message.values("content-length").is_empty(), "{message:?}");
    for answer in [
        "HTTP/1.1 304 Not Modified\r\nETag: 1\r\n\r\n",
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
    ] {
        let message = answered(GET, Kind::Answer, answer).await;
        assert!(
            message.body.is_empty() && answer.contains(&message.status().to_string()),
            "{message:?}"
        );
    }
}

#[tokio::test]
async fn rfc9112_6_3_8_an_answer_that_ends_with_its_connection_becomes_chunks() {
    let mut script = Script::start().await;
    for version in ["1.0", "1.1"] {
        let mut caller = script.sends(GET).await;
        let mut call = script.call().await;
        call.wire.send(format!("HTTP/{version} 200 OK\r\n\r\nhe")).await;
        // It flows before it has ended.
        let mut text = caller.until("he").await;
        call.wire.send("llo").await;
        drop(call);
        text.push_str(&caller.until("0\r\n\r\n").await);
        let read = message::read(text.as_bytes(), Kind::Answer);
        assert!(
            matches!(&read, Read::Whole(message, _) if message.text() == "hello"),
            "{read:?}"
        );
    }
}

#[tokio::test]
async fn rfc9112_6_1_a_caller_of_http_1_0_gets_no_chunks_and_no_further_answer() {
    let mut script = Script::start().await;
    for (answer, body) in [
        (
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "\r\n\r\nhello",
        ),
        ("Content-Length: 5\r\n\r\nhello", "\r\n\r\nhello"),
    ] {
        let mut caller = script.sends("GET /function/f/x HTTP/1.0\r\nHost: x\r\n\r\n").await;
        let mut call = script.call().await;
        assert!(call.head.contains(" HTTP/1.1\r\n"), "{}", call.head);
        call.wire.send(format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        let text = caller.rest().await;
        assert!(
            text.ends_with(body) && !text.to_ascii_lowercase().contains("chunked"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn rfc9112_9_6_each_side_closes_for_itself() {
    let mut script = Script::start().await;
    // The caller closes, the function's connection is kept.
    let mut caller = script.sends(GET.replace("Host", "Connection: close\r\nHost")).await;
    let mut call = script.call().await;
    assert!(
        !call.head.to_ascii_lowercase().contains("connection: close"),
        "{}",
        call.head
    );
    call.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let text = caller.rest().await;
    assert!(
        text.contains("\r\nConnection: close\r\n") && text.ends_with("hi"),
        "{text}"
    );
    // The function closes, the caller's connection is kept.
    let mut caller = script.sends(GET).await;
    let mut call = script.next(call).await;
    call.wire
        .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    drop(call);
    let answer = caller.message(Kind::Answer).await;
    assert!(answer.values("connection").is_empty(), "{answer:?}");
    caller.send(GET).await;
    script.well(&mut caller, "x").await;
}

#[tokio::test]
async fn rfc9110_15_2_interim_answers_are_no_answers() {
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
        "HTTP/1.1 102 Processing\r\nContent-Length: 50\r\n\r\n",
    ] {
        let answer = format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        let message = answered(GET, Kind::Answer, &answer).await;
        assert_eq!((message.status(), message.text()), (200, "hi".to_owned()), "{interim}");
    }
}

#[tokio::test]
async fn rfc9110_10_1_1_a_caller_that_expects_100_sends_its_body_when_it_is_wanted() {
    let mut script = Script::start().await;
    for (framing, body, end) in [
        ("Content-Length: 2", "hi", "hi"),
        ("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n", "0\r\n\r\n"),
    ] {
        let head = format!("POST /function/f/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{framing}\r\n\r\n");
        let mut caller = script.sends(head).await;
        assert_eq!(caller.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        caller.send(body).await;
        let mut call = script.call().await;
        assert!(!call.head.to_ascii_lowercase().contains("expect"), "{}", call.head);
        call.wire.until(end).await;
        call.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(caller.message(Kind::Answer).await.text(), "ok");
    }
    // Refused: no body is asked for.
    let refused = "POST /function/a@b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut caller = script.sends(refused).await;
    let answer = caller.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn events_come_one_by_one_and_their_fields_as_they_were() {
    let mut script = Script::start().await;
    let mut caller = script
        .sends(GET.replace("Host", "Accept: text/event-stream\r\nHost"))
        .await;
    let mut call = script.call().await;
    call.wire
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let head = caller.until("\r\n\r\n").await;
    assert!(
        head.contains("\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"),
        "{head}"
    );
    for number in 0..20 {
        let event = format!("id: {number}\ndata: {number}\n\n");
        call.wire.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        caller.until(&event).await;
    }
    drop(caller);
    soon("the end of the call", call.wire.rest()).await;
}

#[tokio::test]
async fn rfc9112_7_1_2_trailers_pass_and_are_no_fields() {
    let mut script = Script::start().await;
    let trailers = "X-Sum: 1\r\nContent-Length: 7\r\nTransfer-Encoding: gzip\r\nHost: y\r\n";
    // Up, where the framing must not change what follows.
    let request = "POST /function/f/x HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut caller = script
        .sends(format!("{request}2\r\nhi\r\n0\r\n{trailers}\r\n{GET}"))
        .await;
    let mut call = script.call().await;
    let seen = call.message().await;
    assert_eq!(seen.trailers, [("x-sum".to_owned(), b"1".to_vec())], "{seen:?}");
    call.wire
        .send("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n")
        .await;
    let answer = caller.message(Kind::Answer).await;
    assert_eq!(answer.trailers, [("x-sum".to_owned(), b"1".to_vec())]);
    assert!(answer.values("x-sum").is_empty());
    drop(call);
    script.well(&mut caller, "x").await;
}
