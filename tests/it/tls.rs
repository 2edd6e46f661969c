//! TLS on the listeners: calls over it, certificates that change, callers'
//! certificates, and those who speak something else.

use std::{
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Gateway, Upstream, eventually, free_port,
    gateway::field,
    soon,
    tls::{Authority, Secured},
    upstream::{body, echoed},
    wire::Wire,
};

const CALL: &str = "GET /function/echo HTTP/1.1\r\nHost: x\r\n\r\n";

async fn call(wire: &mut Wire, headers: &str) -> Value {
    wire.send(CALL.replace("\r\n\r\n", &format!("\r\n{headers}\r\n"))).await;
    let head = wire.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let json = wire.until("null}").await;
    serde_json::from_str(&json[json.find('{').expect("JSON")..]).expect("JSON")
}

/// What curl says, given the authority's certificate.
pub(crate) async fn curl(secured: &Secured, arguments: &[&str]) -> (Option<i32>, String) {
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(secured.ca())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("curl is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

async fn reload(wire: &mut Wire) -> String {
    wire.send("POST /system/config/reload HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nContent-Length: 0\r\n\r\n")
        .await;
    let head = wire.until("\r\n\r\n").await;
    let body = wire.until("}").await;
    format!("{head}{body}")
}

#[tokio::test]
async fn functions_are_called_over_tls_and_learn_so() {
    let upstream = Upstream::start().await;
    let secured = Secured::new();
    let gateway = secured.before(&upstream.url(), "").start().await;
    let mut wire = secured.caller().connect(gateway.address()).await;
    // On the base lane first, for nobody knows the function, then on the fast one where that is on.
    for _ in 0..3 {
        let seen = call(&mut wire, "").await;
        assert_eq!(echoed(&seen, "x-forwarded-proto"), ["https"]);
        let seen = call(&mut wire, "X-Forwarded-Proto: http\r\n").await;
        assert_eq!(echoed(&seen, "x-forwarded-proto"), ["http"], "an earlier proxy's word");
    }
    let url = format!("https://localhost:{}/function/echo", gateway.address().port());
    for (arguments, version) in [
        (&["--http1.1"][..], "1.1"),
        (&["--http2"], "2"),
        (&["--http1.1", "--tls-max", "1.2"], "1.1"),
        (&["--http2", "--tls-max", "1.2"], "2"),
        (&["--http2", "--tlsv1.3"], "2"),
    ] {
        let written = [
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{http_version}",
            &*url,
        ];
        let (_, said) = curl(&secured, &[arguments, &written[..]].concat()).await;
        assert_eq!(said, format!("200 {version}"), "{arguments:?}");
    }
    let (code, said) = curl(&secured, &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", &url]).await;
    assert_ne!(code, Some(0), "TLS 1.1: {said}");
}

#[tokio::test]
async fn large_bodies_cross_tls_whole() {
    let upstream = Upstream::start().await.function("mirror", |request| async {
        body(200, request.into_body().map_err(std::io::Error::other))
    });
    let secured = Secured::new();
    let gateway = secured.before(&upstream.url(), "").start().await;
    let sent: Vec<u8> = (0..4 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let file = secured.directory.path().join("sent");
    std::fs::write(&file, &sent).expect("writable");
    let url = format!("https://localhost:{}/function/mirror", gateway.address().port());
    for protocol in ["--http1.1", "--http1.1", "--http2"] {
        let got = secured.directory.path().join("got");
        let data = format!("@{}", file.display());
        let arguments = [
            protocol,
            "--data-binary",
            &data,
            "--output",
            got.to_str().expect("text"),
            &url,
        ];
        let (code, said) = curl(&secured, &arguments).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(
            std::fs::read(&got).expect("a body") == sent,
            "{protocol}: the body changed on its way"
        );
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_wrong_pair_for_none() {
    let upstream = Upstream::start().await;
    let secured = Secured::new();
    let gateway = secured
        .before(&upstream.url(), "[reload]\nwatch = \"off\"\n")
        .start()
        .await;
    let caller = secured.caller();
    let mut open = caller.connect(gateway.address()).await;
    call(&mut open, "").await;
    let first = caller.shown(gateway.address()).await;

    let second = secured.authority.issue();
    second.write(secured.directory.path());
    let said = reload(&mut open).await;
    assert!(said.contains("\"applied\""), "{said}");
    assert!(
        caller.shown(gateway.address()).await == second.der(),
        "the new one is shown"
    );
    assert!(first != second.der());
    call(&mut open, "").await;

    // A certificate of another key, and then none at all.
    let third = secured.authority.issue();
    for (cert, expected) in [
        (&*third.cert, "is not the key of"),
        ("", "has no certificate in PEM form"),
    ] {
        std::fs::write(secured.directory.path().join("tls.crt"), cert).expect("writable");
        let said = reload(&mut open).await;
        assert!(said.starts_with("HTTP/1.1 422") && said.contains(expected), "{said}");
        assert!(said.contains("server.tls."), "{said}");
        assert!(
            caller.shown(gateway.address()).await == second.der(),
            "the old one stays"
        );
    }
    third.write(secured.directory.path());
    assert!(reload(&mut open).await.contains("\"applied\""));
    assert!(caller.shown(gateway.address()).await == third.der());
    call(&mut open, "").await;
}

#[tokio::test]
async fn certificates_rotate_under_load_without_a_failed_call() {
    let upstream = Upstream::start().await;
    let secured = Secured::new();
    let gateway = secured
        .before(&upstream.url(), "[reload]\ndebounce = \"20ms\"\n")
        .start()
        .await;
    let caller = secured.caller();
    let (done, calls) = (AtomicBool::new(false), AtomicU32::new(0));
    let kept = async {
        let mut wire = caller.connect(gateway.address()).await;
        while !done.load(Ordering::Relaxed) {
            call(&mut wire, "").await;
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    let fresh = async {
        while !done.load(Ordering::Relaxed) {
            let mut wire = caller.connect(gateway.address()).await;
            call(&mut wire, "").await;
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    let rotate = async {
        for _ in 0..5 {
            let next = secured.authority.issue();
            next.write(secured.directory.path());
            eventually("the new certificate", || async {
                (caller.shown(gateway.address()).await == next.der()).then_some(())
            })
            .await;
        }
        done.store(true, Ordering::Relaxed);
    };
    futures_util::join!(kept, fresh, rotate);
    assert!(calls.into_inner() > 10, "no load");
}

#[tokio::test]
async fn tls_is_turned_on_and_off_while_running() {
    let upstream = Upstream::start().await;
    let secured = Secured::new();
    let gateway = Gateway::before(&upstream.url())
        .config("[reload]\nwatch = \"off\"")
        .start()
        .await;
    let mut plain = Wire::connect(gateway.address()).await;
    call(&mut plain, "").await;
    let file = |toml: &str| {
        std::fs::write(gateway.config_file(), format!("{toml}[reload]\nwatch = \"off\"\n")).expect("writable");
    };
    file(&secured.toml());
    assert!(reload(&mut plain).await.contains("\"server.tls.cert_file\""));
    call(&mut plain, "").await;
    let mut secret = secured.caller().connect(gateway.address()).await;
    call(&mut secret, "").await;
    file("");
    assert!(reload(&mut secret).await.contains("\"applied\""));
    for open in [&mut plain, &mut secret, &mut Wire::connect(gateway.address()).await] {
        call(open, "").await;
    }
}

#[tokio::test]
async fn those_who_speak_something_else_are_told_or_dropped() {
    let upstream = Upstream::start().await;
    let secured = Secured::new();
    let gateway = secured
        .before(&upstream.url(), "")
        .env("read_timeout", "300ms")
        .start()
        .await;
    let answer = Wire::exchange(gateway.address(), CALL).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("this port speaks TLS"),
        "{answer}"
    );
    // Nothing, half a handshake, and no handshake at all.
    for said in [&b""[..], b"\x16\x03\x01", b"\0\0\0\0\0\0"] {
        let mut wire = Wire::connect(gateway.address()).await;
        wire.send(said).await;
        wire.rest().await;
    }
    let strange = secured.authority.caller(&["h3"]).try_connect(gateway.address()).await;
    assert!(strange.is_err(), "no protocol in common");
    eventually("all closed", || async {
        (gateway.metric("gateway_connections_open{listener=\"main\"}").await? < 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_internal_listener_has_the_same_certificate() {
    let upstream = Upstream::start().await;
    let secured = Secured::new();
    let gateway = secured
        .before(&upstream.url(), "")
        .env("FAAS__SERVER__INTERNAL_LISTEN", "127.0.0.1:0")
        .start()
        .await;
    let line = gateway
        .logged("listening", |line| field(line, "message") == "listening")
        .await;
    let internal = crate::support::gateway::logged_address(&line, "internal");
    let seen = call(&mut secured.caller().connect(internal).await, "").await;
    assert_eq!(echoed(&seen, "x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn callers_show_certificates_where_they_are_asked_for_them() {
    let upstream = Upstream::start().await;
    let secured = Secured::new();
    let theirs = Authority::new();
    let authorities = secured.directory.path().join("clients.crt");
    std::fs::write(&authorities, theirs.pem()).expect("writable");
    let file = |auth: &str| {
        format!(
            "{}client_ca_file = \"{}\"\n{auth}[reload]\nwatch = \"off\"\n",
            secured.toml(),
            authorities.display()
        )
    };
    let gateway = Gateway::before(&upstream.url()).config(&file("")).start().await;
    let (pair, stranger) = (theirs.issue(), Authority::new().issue());
    let forged = "Client-Cert: :forged:\r\nClient-Cert-Chain: :forged:\r\n";
    let with = secured.caller().with(&pair);
    let mut known = with.connect(gateway.address()).await;
    let shown = format!(":{}:", BASE64_STANDARD.encode(pair.der()));
    for _ in 0..3 {
        let seen = call(&mut known, forged).await;
        assert_eq!(echoed(&seen, "client-cert"), [shown.as_str()]);
        assert!(echoed(&seen, "client-cert-chain").is_empty(), "{seen}");
    }
    for unknown in [secured.caller(), secured.caller().with(&stranger)] {
        // With TLS 1.3 the refusal comes after the caller's side of the handshake.
        let refused = match unknown.try_connect(gateway.address()).await {
            Ok(stream) => {
                let mut wire = Wire::over(stream);
                wire.send(CALL).await;
                wire.rest().await.is_empty()
            }
            Err(_) => true,
        };
        assert!(refused, "a caller without a certificate of ours was let in");
    }

    std::fs::write(gateway.config_file(), file("client_auth = \"optional\"\n")).expect("writable");
    assert!(reload(&mut known).await.contains("\"applied\""));
    let mut anonymous = secured.caller().connect(gateway.address()).await;
    let seen = call(&mut anonymous, forged).await;
    assert!(echoed(&seen, "client-cert").is_empty(), "{seen}");
    let seen = call(&mut with.connect(gateway.address()).await, forged).await;
    assert_eq!(echoed(&seen, "client-cert"), [shown.as_str()]);

    // Where nobody is asked, it is an earlier proxy's word.
    std::fs::write(gateway.config_file(), file("client_auth = \"off\"\n")).expect("writable");
    assert!(reload(&mut known).await.contains("\"applied\""));
    let seen = call(&mut secured.caller().connect(gateway.address()).await, forged).await;
    assert_eq!(echoed(&seen, "client-cert"), [":forged:"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_told_wherever_they_are_checked() {
    let secured = Secured::new();
    let other = Secured::new();
    std::fs::copy(
        other.directory.path().join("tls.key"),
        secured.directory.path().join("tls.key"),
    )
    .expect("copied");
    let expected = format!(
        ":1: server.tls.key_file: {}: is not the key of the first certificate in server.tls.cert_file",
        secured.directory.path().join("tls.key").display()
    );
    let file = secured.directory.path().join("candidate.toml");
    std::fs::write(&file, secured.toml()).expect("writable");
    let check = tokio::process::Command::new(env!("CARGO_BIN_EXE_faas-gateway"))
        .arg("check")
        .arg(&file)
        .output()
        .await
        .expect("runs");
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert_eq!(
        (check.status.code(), said.contains(&expected)),
        (Some(64), true),
        "{said}"
    );

    let gateway = Gateway::new().start().await;
    let answer = gateway
        .post("/system/config/validate")
        .body(secured.toml())
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 422);
    let problem: Value = answer.json().await.expect("a problem");
    assert!(
        problem["errors"][0].as_str().expect("text").contains(&expected),
        "{problem}"
    );

    let directory = tempfile::tempdir().expect("a directory");
    let start = Gateway::new()
        .config(&secured.toml())
        .command(directory.path())
        .output();
    let start = soon("the end", start).await.expect("runs");
    let said = String::from_utf8_lossy(&start.stderr).into_owned();
    assert!(start.status.code() == Some(1) && said.contains(&expected), "{said}");
}

#[tokio::test]
async fn a_gateway_with_tls_can_be_asked_whether_it_is_well() {
    let secured = Secured::new();
    let (main, metrics) = (free_port(), free_port());
    let toml = format!(
        "[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n[server]\nlisten = \"127.0.0.1:{main}\"\n{}",
        secured.toml()
    );
    let gateway = Gateway::new().listens_by_file().config(&toml).start().await;
    let mut healthcheck = tokio::process::Command::new(env!("CARGO_BIN_EXE_faas-gateway"));
    let healthcheck = healthcheck.args(["healthcheck", "--config"]).arg(gateway.config_file());
    let output = healthcheck.output().await.expect("runs");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_connection_that_idles_is_closed_with_notice() {
    let upstream = Upstream::start().await;
    let secured = Secured::new();
    let gateway = secured
        .before(&upstream.url(), "")
        .env("read_timeout", "300ms")
        .start()
        .await;
    let mut stream = secured
        .caller()
        .try_connect(gateway.address())
        .await
        .expect("a handshake");
    stream.write_all(CALL.as_bytes()).await.expect("sent");
    let mut said = Vec::new();
    // Without notice, TLS calls it cut off.
    soon("the end", stream.read_to_end(&mut said))
        .await
        .expect("an orderly end");
    assert!(said.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn sticky_cookies_are_for_https_where_it_ends_here() {
    let other = |_| async { crate::support::upstream::text(200, "") };
    let upstream = Upstream::start().await.function("other", other);
    let secured = Secured::new();
    let route = "[[routes]]\npath = \"/shop\"\nsplit = [{ function = \"echo\", weight = 1 }, { function = \"other\", weight = 1 }]\nsticky = { cookie = \"v\" }\n";
    let gateway = secured.before(&upstream.url(), route).start().await;
    let mut wire = secured.caller().connect(gateway.address()).await;
    wire.send("GET /shop HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = wire.until("\r\n\r\n").await;
    assert!(head.contains("; Secure"), "{head}");
}

#[tokio::test]
async fn a_call_under_way_survives_the_end_of_tls_on_its_listener() {
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    let held = std::sync::Mutex::new(Some(held));
    let upstream = Upstream::start().await.function("holds", move |_| {
        let held = held.lock().expect("no panic").take().expect("called once");
        async move {
            held.await.expect("the test says when");
            crate::support::upstream::text(200, "after all")
        }
    });
    let secured = Secured::new();
    let gateway = secured.before(&upstream.url(), "").start().await;
    let mut wire = secured.caller().connect(gateway.address()).await;
    wire.send("GET /function/holds HTTP/1.1\r\nHost: x\r\n\r\n").await;
    eventually("the call", || async {
        let series = "gateway_function_invocation_inflight{function_name=\"holds\"}";
        (gateway.metric(series).await? > 0.0).then_some(())
    })
    .await;
    std::fs::write(gateway.config_file(), "[ui]\nenabled = false\n").expect("writable");
    let request = CALL.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    eventually("plain HTTP", || async {
        let answer = Wire::exchange(gateway.address(), &request);
        let answer = tokio::time::timeout(Duration::from_secs(5), answer);
        answer.await.ok()?.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    release.send(()).expect("the function waits");
    wire.until("after all").await;
}
