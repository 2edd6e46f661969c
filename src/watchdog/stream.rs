//! Mode `streaming`: one process for each call, whose output is the answer's
//! body, sent as it is written.
//!
//! The status is 200 before the function has said anything, so a failure shows
//! only in the log and as the answer's end, as in OpenFaaS.

use std::{io, process::Stdio};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::ChildStdin,
    time::Instant,
};

use super::{
    answer::{self, Asked},
    env,
    fork::{content_type, output_pipe},
    log::{Lines, Source, note},
    process::{Launcher, Running, describe},
    settings::Settings,
};
use crate::{
    shutdown::Tasks,
    upstream::{Body, BoxError},
};

/// Answers a call. Dropping the response's body kills the process.
pub(super) fn call(
    request: Request<Body>,
    launcher: &Launcher,
    settings: &Settings,
    lines: Lines,
    tasks: &Tasks,
) -> Response<Body> {
    let start = Instant::now();
    let asked = Asked::of(&request);
    let (parts, body) = request.into_parts();
    let mut command = launcher.for_a_call();
    if settings.cgi_headers {
        command.envs(env::variables(&parts));
    }
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let started = output_pipe().and_then(|(output, writer)| {
        command.stdout(writer);
        Ok((output, Running::start(command)?))
    });
    let response = match started {
        Err(error) => answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot run the function: {error}\n"),
        ),
        Ok((output, mut running)) => {
            if let Some(stdin) = running.child.stdin.take() {
                let bound = settings.read_timeout;
                tasks.spawn(async move {
                    match tokio::time::timeout(bound, feed(body, stdin)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => note(format_args!("cannot pass the request on to the function: {error}")),
                        Err(_) => note(format_args!(
                            "the request body did not arrive within read_timeout ({bound:?})"
                        )),
                    }
                });
            }
            if let Some(stderr) = running.child.stderr.take() {
                tasks.spawn(lines.copy(Source::Stderr, stderr));
            }
            let end = settings.exec_timeout.map(|limit| start + limit);
            let mut response = Response::new(output_body(output, running, end));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, content_type(settings));
            response
        }
    };
    asked.log(&response, start.elapsed(), settings.log_callid);
    response
}

/// Writes a body to a process as it arrives; ends early when the process does
/// not want more.
async fn feed(mut body: Body, mut stdin: ChildStdin) -> Result<(), BoxError> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        match stdin.write_all(&data).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// The process whose output is being sent.
struct Output {
    pipe: pipe::Receiver,
    running: Running,
    end: Option<Instant>,
}

fn output_body(pipe: pipe::Receiver, running: Running, end: Option<Instant>) -> Body {
    let chunks = stream::unfold(Some(Output { pipe, running, end }), |state| async {
        let mut output = state?;
        match output.next().await {
            Ok(Some(chunk)) => Some((Ok(Frame::data(chunk)), Some(output))),
            Ok(None) => None,
            Err(error) => Some((Err(BoxError::from(error)), None)),
        }
    });
    StreamBody::new(chunks).boxed_unsync()
}

impl Output {
    /// What the process wrote next; nothing once it has ended or was killed.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(end) = self.end else { return self.read().await };
        if let Ok(chunk) = tokio::time::timeout_at(end, self.read()).await {
            return chunk;
        }
        self.running.kill();
        note(format_args!("killed the function: exec_timeout has passed"));
        Ok(None)
    }

    async fn read(&mut self) -> io::Result<Option<Bytes>> {
        let mut chunk = BytesMut::with_capacity(16 * 1024);
        if self.pipe.read_buf(&mut chunk).await? > 0 {
            return Ok(Some(chunk.freeze()));
        }
        let status = self.running.child.wait().await?;
        if !status.success() {
            note(format_args!("the function failed: {}", describe(status)));
        }
        Ok(None)
    }
}
