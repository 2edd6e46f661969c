//! RFC 9112, section by section: what may be read in two ways is refused, and
//! what stands behind it is never a request. The cases are those that lists of
//! request smuggling have in common, as tests of our own.
//!
//! See [`crate::smuggling`] for what is settled rather than refused.

use crate::support::{
    message::{self, Kind, Read},
    script::Script,
    soon,
};

/// What somebody would like to get past us.
const SMUGGLED: &str = "GET /function/f/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Each of these is answered with a refusal and the end of the connection, and
/// the function hears nothing of it.
async fn refused(cases: &[(&str, u16)]) {
    let mut script = Script::start().await;
    for (case, status) in cases {
        let mut caller = script.sends(format!("{case}{SMUGGLED}")).await;
        let answer = soon(case, caller.rest()).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{case:?}: {answer:?} is no {status}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{case:?}: {answer:?}");
        assert!(script.is_quiet(), "{case:?} was called");
    }
    script.answers("after").await;
    assert!(script.is_quiet(), "one of them was called");
}

/// Requests whose head is fine and whose body is not: the function may have the
/// beginning, and never a whole one.
async fn broken_off(cases: &[(&str, u16)]) {
    let mut script = Script::start().await;
    for (case, status) in cases {
        let head = "POST /function/f/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut caller = script.sends(format!("{head}{case}{SMUGGLED}")).await;
        let answer = soon(case, caller.rest()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{case:?}: {answer:?}"
        );
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{case:?}: {answer:?}");
        script.idle().await;
        while !script.is_quiet() {
            let mut call = script.call().await;
            let rest = soon(case, call.wire.rest()).await;
            let read = message::read(format!("{}{rest}", call.head).as_bytes(), Kind::Request);
            assert!(matches!(read, Read::Partial(_)), "{case:?}: {read:?}");
        }
    }
    script.answers("after").await;
}

/// Answers that nobody can pass on: 502, and nothing of them reaches the caller.
async fn unusable(answers: &[&str]) {
    let mut script = Script::start().await;
    for answer in answers {
        let mut caller = script
            .sends("POST /function/f/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await;
        let mut call = script.call().await;
        call.wire.send(format!("{answer}{SMUGGLED}")).await;
        let text = soon(answer, caller.rest()).await;
        assert!(text.starts_with("HTTP/1.1 502 "), "{answer:?}: {text:?}");
        assert!(
            !text.contains("smuggled") && !text.contains("X-Evil"),
            "{answer:?}: {text:?}"
        );
        script.idle().await;
    }
    script.answers("after").await;
}

#[tokio::test]
async fn section_2_2_lines_and_what_stands_before_them() {
    refused(&[
        ("GET /function/f HTTP/1.1\r\n Host: x\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\n\tX: y\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\rX-Evil: y\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\rHost: x\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\n\rX: y\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 400),
        ("\0GET /function/f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (" GET /function/f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("\u{feff}GET /function/f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ])
    .await;
    // A server ignores empty lines before a request, once.
    let mut script = Script::start().await;
    let mut caller = script.sends("\r\nGET /function/f/x HTTP/1.1\r\nHost: x\r\n\r\n").await;
    script.well(&mut caller, "x").await;
}

#[tokio::test]
async fn section_2_3_versions() {
    refused(&[
        ("GET /function/f HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f HTTP/1.2\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f http/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f HTTP/1.10\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f HTTP/01.1\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f HTTP /1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f HTTPS/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f HTTP/1,1\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f \r\nHost: x\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn section_3_request_lines() {
    refused(&[
        ("GET\t/function/f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f\tHTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1 x\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("G(T /function/f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET: /function/f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("/function/f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f\u{1} HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /function/f\u{7f} HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn section_3_2_hosts() {
    let mut script = Script::start().await;
    for case in [
        "GET /function/f HTTP/1.1\r\n\r\n",
        "GET /function/f HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET /function/f HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n",
        "GET http://x/function/f HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET http://x/function/f HTTP/1.1\r\n\r\n",
        "GET /function/f HTTP/1.1\r\nHost: x y\r\n\r\n",
        "GET /function/f HTTP/1.1\r\nHost: x/y\r\n\r\n",
        "GET /function/f HTTP/1.1\r\nHost: x, y\r\n\r\n",
        "GET /function/f HTTP/1.1\r\nHost: u@x\r\n\r\n",
    ] {
        // Where it ends is clear, so the connection may go on.
        let mut caller = script.sends(case).await;
        let answer = caller.message(Kind::Answer).await;
        assert_eq!(answer.status(), 400, "{case:?}: {answer:?}");
        assert!(script.is_quiet(), "{case:?} was called");
    }
    script.answers("after").await;
}

#[tokio::test]
async fn section_5_1_names() {
    refused(&[
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nX\t: y\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nX\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nX Y: z\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nX(: z\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nX\0: z\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nX\u{e9}: z\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn section_5_2_folded_lines() {
    refused(&[
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", 400),
        ("GET /function/f HTTP/1.1\r\nHost: x\r\nX: y\r\n\tz\r\n\r\n", 400),
        (
            "POST /function/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST /function/f HTTP/1.1\r\nHost: x\r\nX: y\r\n\tContent-Length: 9\r\n\r\n",
            400,
        ),
    ])
    .await;
}

#[tokio::test]
async fn section_6_1_transfer_codings() {
    let mut cases = Vec::new();
    for coding in [
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
    ] {
        for length in ["", "Content-Length: 5\r\n"] {
            cases.push(format!(
                "POST /function/f HTTP/1.1\r\nHost: x\r\n{length}{coding}\r\n\r\n0\r\n\r\n"
            ));
        }
    }
    let cases: Vec<(&str, u16)> = cases.iter().map(|case| (&**case, 400)).collect();
    refused(&cases).await;
}

#[tokio::test]
async fn section_6_1_chunks_that_came_with_http_1_0_are_none() {
    refused(&[(
        "POST /function/f HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    )])
    .await;
}

#[tokio::test]
async fn section_6_2_lengths() {
    let mut cases = Vec::new();
    for length in [
        "+5",
        "-5",
        "5 5",
        "5,5",
        "5, 5",
        "5, 6",
        "5;",
        "5.0",
        "0x5",
        "5_0",
        "5e0",
        "\"5\"",
        "",
        "five",
        "\u{b}5",
        "99999999999999999999",
        "18446744073709551616",
        "5\0",
        "5\r\nContent-Length: 6",
        "6\r\nContent-Length: 5",
        "5\r\ncontent-length: ",
        "5\r\n 6",
    ] {
        cases.push(format!(
            "POST /function/f HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        ));
    }
    let cases: Vec<(&str, u16)> = cases.iter().map(|case| (&**case, 400)).collect();
    refused(&cases).await;
}

#[tokio::test]
async fn section_6_3_the_length_of_a_request_is_what_both_sides_take() {
    let mut script = Script::start().await;
    // A request within a body is a part of it, whatever the method and the status.
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
        for (framing, body) in [
            (format!("Content-Length: {}", SMUGGLED.len()), SMUGGLED.to_owned()),
            (
                "Transfer-Encoding: chunked".to_owned(),
                format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
            ),
            ("Transfer-Encoding: CHUNKED".to_owned(), "0\r\n\r\n".to_owned()),
            ("Content-Length: 0".to_owned(), String::new()),
        ] {
            let request = format!("{method} /function/f/x HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{body}");
            let mut caller = script.sends(&request).await;
            let mut call = script.call().await;
            let message = call.message().await;
            assert_eq!(message.first(), method, "{request:?}: {message:?}");
            let smuggled = if body.len() > 10 { SMUGGLED } else { "" };
            assert_eq!(message.text(), smuggled, "{request:?}: {message:?}");
            call.wire
                .send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                .await;
            assert_eq!(call.wire.rest().await, "", "{request:?}");
            caller.until("\r\n\r\n").await;
            assert!(script.is_quiet(), "{request:?} was two");
        }
    }
    script.answers("after").await;
}

#[tokio::test]
async fn section_6_3_answers_whose_length_nobody_knows() {
    let mut answers = Vec::new();
    for framing in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: five",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \u{b}chunked",
    ] {
        answers.push(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\nhello"));
    }
    unusable(&answers.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn section_7_1_chunks() {
    broken_off(&[
        ("x\r\n", 400),
        ("-1\r\nx\r\n0\r\n\r\n", 400),
        ("+1\r\nx\r\n0\r\n\r\n", 400),
        ("0x1\r\nx\r\n0\r\n\r\n", 400),
        ("1_0\r\nx\r\n0\r\n\r\n", 400),
        ("\r\n0\r\n\r\n", 400),
        (";a\r\n0\r\n\r\n", 400),
        ("10000000000000000\r\nx\r\n0\r\n\r\n", 400),
        ("fffffffffffffffff\r\nx\r\n0\r\n\r\n", 400),
        ("1\nx\r\n0\r\n\r\n", 400),
        ("1\rx\r\n0\r\n\r\n", 400),
        ("1\r\nxy\r\n0\r\n\r\n", 400),
        ("1\r\nx\n0\r\n\r\n", 400),
        ("1\r\nx\rX0\r\n\r\n", 400),
        ("1\r\nx0\r\n\r\n", 400),
        ("1 2\r\nx\r\n0\r\n\r\n", 400),
        ("1;a\nb\r\nx\r\n0\r\n\r\n", 400),
        ("1;a\rb\r\nx\r\n0\r\n\r\n", 400),
        ("1,a\r\nx\r\n0\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn section_7_1_2_trailers() {
    broken_off(&[
        ("0\r\nX\r\n\r\n", 400),
        ("0\r\nX : y\r\n\r\n", 400),
        ("0\r\n: y\r\n\r\n", 400),
        ("0\r\nX: \0\r\n\r\n", 400),
        ("0\r\nX: y\rz\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn section_4_and_11_1_answers_that_are_none() {
    unusable(&[
        "hello\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX : X-Evil\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: y\r\n X-Evil: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: y\rX-Evil: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: \0\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ])
    .await;
}
