//! A function that answers with bytes, as it is told, and remembers what it was
//! asked. It stands for the provider too, which knows the function `f`.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::sample::Index;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
};

use crate::fuzz::grammar::Answer;
use crate::support::message::{self, Kind, Message, Read};

/// What is asked last on each connection, and answered in a way that is known.
pub(super) const LAST: &str = "/function/f/last";

/// The field that marks that answer.
pub(super) const LAST_MARK: &str = "x-last";

const LAST_ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Last: 1\r\n\r\nlast";

const STATUS: &str = r#"{"name":"f","image":"scripted","replicas":1,"availableReplicas":1}"#;

/// Between two pieces of an answer: long enough for the first to be read alone, usually.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// A function's listener and what it does.
pub(super) struct Function {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    script: Mutex<Script>,
    busy: watch::Sender<usize>,
    hang_up: Notify,
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    seen: Vec<Result<Message, &'static str>>,
}

/// Something under way; dropping it ends it.
struct Busy(Arc<State>);

impl Busy {
    fn new(state: &Arc<State>) -> Self {
        state.busy.send_modify(|busy| *busy += 1);
        Self(Arc::clone(state))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|busy| *busy -= 1);
    }
}

impl Function {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let function = Self {
            address: listener.local_addr().expect("bound"),
            state: Arc::default(),
        };
        let state = Arc::clone(&function.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        function
    }

    /// Answers with these, one after the other.
    pub(super) fn will(&self, answers: &[Answer]) {
        let mut script = self.state.script.lock().expect("no panic");
        script.answers = answers.iter().cloned().collect();
        script.seen.clear();
    }

    /// Closes the connections on which nothing is left to be done.
    pub(super) fn hang_up(&self) {
        self.state.hang_up.notify_waiters();
    }

    /// What it was asked since then, once nothing is under way any more.
    pub(super) async fn saw(&self) -> Vec<Result<Message, &'static str>> {
        let mut busy = self.state.busy.subscribe();
        busy.wait_for(|busy| *busy == 0).await.expect("it is kept");
        std::mem::take(&mut self.state.script.lock().expect("no panic").seen)
    }
}

impl State {
    fn note(&self, message: Result<Message, &'static str>) {
        self.script.lock().expect("no panic").seen.push(message);
    }

    fn next(&self) -> Option<Answer> {
        self.script.lock().expect("no panic").answers.pop_front()
    }
}

/// Answers what comes on a connection; errors are the gateway's leaving.
async fn serve(mut stream: TcpStream, state: Arc<State>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (mut received, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let mut busy = (!received.is_empty()).then(|| Busy::new(&state));
        let (mut answer, mut answered) = (None, false);
        let message = loop {
            let head = match message::read(&received, Kind::Request) {
                Read::Whole(message, length) => {
                    received.drain(..length);
                    break message;
                }
                Read::Wrong(why) => {
                    state.note(Err(why));
                    return None;
                }
                Read::Partial(head) => head,
            };
            if let Some(head) = &head
                && is_called(head)
                && answer.is_none()
            {
                answer = Some(state.next());
                if let Some(Some(answer)) = answer.as_ref().filter(|answer| is_early(answer.as_ref())) {
                    answered = true;
                    write(&mut stream, &answer.bytes(head.first() == "HEAD"), &answer.cuts).await?;
                    if answer.closes {
                        state.note(Ok(head.clone()));
                        // The gateway may keep it, and look at it much later.
                        drop(busy);
                        return drain(stream, chunk).await;
                    }
                }
            }
            let read = tokio::select! {
                read = stream.read(&mut chunk) => read,
                () = state.hang_up.notified(), if received.is_empty() => return None,
            };
            if let Ok(count @ 1..) = read {
                busy.get_or_insert_with(|| Busy::new(&state));
                received.extend_from_slice(&chunk[..count]);
            } else {
                if let Some(head) = head {
                    state.note(Ok(head));
                }
                return None;
            }
        };
        if !is_called(&message) {
            stream.write_all(known(&message).as_bytes()).await.ok()?;
            continue;
        }
        let to_head = message.first() == "HEAD";
        state.note(Ok(message));
        let answer = answer.unwrap_or_else(|| state.next());
        if answered {
            continue;
        }
        match answer {
            None => {
                let body = if to_head { "" } else { "ok" };
                let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}");
                stream.write_all(text.as_bytes()).await.ok()?;
            }
            Some(answer) => {
                write(&mut stream, &answer.bytes(to_head), &answer.cuts).await?;
                if answer.closes {
                    return None;
                }
            }
        }
    }
}

/// Whether a request is one of the case.
fn is_called(message: &Message) -> bool {
    message.second().starts_with("/function/") && message.second() != LAST
}

fn is_early(answer: Option<&Answer>) -> bool {
    answer.is_some_and(|answer| answer.early)
}

/// The answer to a request that is not of the case.
fn known(message: &Message) -> String {
    let text = |status: &str, body: &str| format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    match message.second().split('?').next().unwrap_or_default() {
        LAST => LAST_ANSWER.to_owned(),
        "/healthz" => text("200 OK", "OK"),
        "/system/functions" => text("200 OK", &format!("[{STATUS}]")),
        "/system/function/f" => text("200 OK", STATUS),
        _ => text("404 Not Found", ""),
    }
}

/// Closes without losing what was sent: unread bytes would make it a reset.
async fn drain(mut stream: TcpStream, mut chunk: Vec<u8>) -> Option<()> {
    stream.shutdown().await.ok()?;
    while let Ok(1..) = stream.read(&mut chunk).await {}
    None
}

async fn write(stream: &mut TcpStream, bytes: &[u8], cuts: &[Index]) -> Option<()> {
    for (number, piece) in pieces(bytes, cuts).into_iter().enumerate() {
        if number > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        stream.write_all(piece).await.ok()?;
    }
    Some(())
}

/// Bytes in pieces.
pub(super) fn pieces<'b>(bytes: &'b [u8], cuts: &[Index]) -> Vec<&'b [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let pieces = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
    pieces.filter(|piece| !piece.is_empty()).collect()
}
