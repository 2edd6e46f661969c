//! A function whose every byte the test sends itself: each call becomes a
//! [`Call`], and what is read and written of it is up to the test.
//!
//! It stands for the provider too, which knows one function, `f`.

use std::collections::VecDeque;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{
    Gateway,
    gateway::Setup,
    message::{Kind, Message},
    soon,
    wire::Wire,
};

const STATUS: &str = r#"{"name":"f","image":"scripted","replicas":1,"availableReplicas":1}"#;

/// What a function answers with as a sign that the gateway is well.
const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell";

/// The function and the gateway before it.
pub(crate) struct Script {
    pub(crate) gateway: Gateway,
    calls: mpsc::UnboundedReceiver<Call>,
    kept: VecDeque<Call>,
}

/// A call that has come: its head was read, nothing was answered.
pub(crate) struct Call {
    pub(crate) head: String,
    pub(crate) wire: Wire,
}

impl Script {
    /// A gateway that knows the function.
    pub(crate) async fn start() -> Self {
        Self::with(|setup| setup).await
    }

    /// The same, with more settings.
    pub(crate) async fn with(settings: impl FnOnce(Setup) -> Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (sender, calls) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, sender.clone()));
            }
        });
        let gateway = settings(Gateway::before(&format!("http://{address}"))).start().await;
        let mut script = Self {
            gateway,
            calls,
            kept: VecDeque::new(),
        };
        // Only functions that are known are called on the fast lane.
        script.answers("warm").await;
        script
    }

    /// Connects a caller.
    pub(crate) async fn caller(&self) -> Wire {
        Wire::connect(self.gateway.address()).await
    }

    /// Connects a caller that sends this at once.
    pub(crate) async fn sends(&self, bytes: impl AsRef<[u8]>) -> Wire {
        let mut caller = self.caller().await;
        caller.send(bytes).await;
        caller
    }

    /// The next call that comes.
    pub(crate) async fn call(&mut self) -> Call {
        match self.kept.pop_front() {
            Some(call) => call,
            None => soon("a call", self.calls.recv()).await.expect("it listens"),
        }
    }

    /// Whether no call has come that nobody asked for yet.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.kept.extend(self.calls.try_recv());
        self.kept.is_empty()
    }

    /// Makes a call that is answered, as a sign that the gateway is well.
    pub(crate) async fn answers(&mut self, path: &str) {
        let request = format!("GET /function/f/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut caller = self.sends(request).await;
        let mut call = self.call().await;
        assert!(
            call.head.starts_with(&format!("GET /function/f/{path} ")),
            "{}",
            call.head
        );
        call.wire.send(WELL).await;
        drop(call);
        let answer = caller.rest().await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("well"),
            "{answer}"
        );
    }

    /// Answers the call of a request that was sent, and reads that.
    pub(crate) async fn well(&mut self, caller: &mut Wire, path: &str) {
        let mut call = self.call().await;
        assert!(
            call.head.contains(&format!(" /function/f/{path} ")),
            "{} is not {path}",
            call.head
        );
        call.wire.send(WELL).await;
        let answer = caller.until("\r\n\r\nwell").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// The next call, on the connection of the last or on another.
    pub(crate) async fn next(&mut self, mut last: Call) -> Call {
        if let Some(call) = self.kept.pop_front() {
            return call;
        }
        soon("the next call", async {
            tokio::select! {
                head = last.wire.head() => match head {
                    Some(head) => Call { head, wire: last.wire },
                    None => self.calls.recv().await.expect("it listens"),
                },
                call = self.calls.recv() => call.expect("it listens"),
            }
        })
        .await
    }

    /// Waits until no call is under way.
    pub(crate) async fn idle(&self) {
        super::eventually("the end of every call", || async {
            let series = r#"gateway_function_invocation_inflight{function_name="f"}"#;
            (self.gateway.metric(series).await? == 0.0).then_some(())
        })
        .await;
    }
}

impl Call {
    /// The whole request.
    pub(crate) async fn message(&mut self) -> Message {
        self.wire.again(&self.head);
        self.wire.message(Kind::Request).await
    }
}

/// Answers the gateway's own questions, and hands the first call to the test.
async fn serve(stream: TcpStream, calls: mpsc::UnboundedSender<Call>) {
    let mut wire = Wire::over(stream);
    while let Some(head) = wire.head().await {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let text =
            |status: &str, body: &str| format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = match path.split('?').next().unwrap_or_default() {
            "/healthz" => text("200 OK", "OK"),
            "/system/functions" => text("200 OK", &format!("[{STATUS}]")),
            "/system/function/f" => text("200 OK", STATUS),
            own if own.starts_with("/system/") => text("404 Not Found", ""),
            _ => {
                // The test may have ended.
                let _ = calls.send(Call { head, wire });
                return;
            }
        };
        wire.send(answer).await;
    }
}
