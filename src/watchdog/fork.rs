//! Modes `fork` and `serializing`: one process for each call, request and
//! answer held in memory.
//!
//! They differ in what an answer looks like, not in how the process is run.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::Command,
    time::Instant,
};

use super::{
    answer::{self, Asked},
    env,
    log::{Lines, Source, note},
    process::{Launcher, Running, describe},
    settings::Settings,
};
use crate::upstream::Body;

/// How one process ended, and what it wrote.
struct Finished {
    ending: Ending,
    output: Vec<u8>,
}

enum Ending {
    Exited(ExitStatus),
    TimedOut,
}

/// Answers a call as the classic watchdog does.
pub(super) async fn classic(
    request: Request<Body>,
    launcher: &Launcher,
    settings: &Settings,
    lines: Lines,
) -> Response<Body> {
    let start = Instant::now();
    if !env::classic_method(request.method()) {
        return answer::method_not_allowed("GET, POST, PUT, PATCH, DELETE");
    }
    let (parts, body) = request.into_parts();
    let input = match receive(body, settings.read_timeout).await {
        Ok(input) => input,
        Err(response) => return response,
    };
    note(format_args!("Forking fprocess."));
    if settings.write_debug {
        note(format_args!("Request body: {}", String::from_utf8_lossy(&input)));
    }
    let mut command = launcher.for_a_call();
    if settings.cgi_headers {
        command.envs(env::variables(&parts));
    }
    let finished = run(command, input, settings.combine_output, settings.exec_timeout, lines).await;
    let took = start.elapsed();
    let response = match finished {
        Err(error) => {
            note(format_args!("cannot run the function: {error}"));
            answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("cannot run the function: {error}\n"),
            )
        }
        Ok(Finished {
            ending: Ending::TimedOut,
            ..
        }) => {
            note(format_args!(
                "Killed process: exec_timeout ({:?}) has passed.",
                settings.exec_timeout.unwrap_or_default()
            ));
            answer::text(StatusCode::REQUEST_TIMEOUT, "Killed process.\n")
        }
        Ok(Finished {
            ending: Ending::Exited(status),
            output,
        }) => {
            if settings.write_debug {
                note(format_args!("Response body: {}", String::from_utf8_lossy(&output)));
            }
            if status.success() {
                note(format_args!(
                    "Wrote {} Bytes - Duration: {:.2}s",
                    output.len(),
                    took.as_secs_f64()
                ));
                let content_type = classic_content_type(settings.content_type.as_deref(), &parts.headers, &output);
                answer::typed(StatusCode::OK, content_type, output)
            } else {
                let ending = describe(status);
                note(format_args!("the function failed: {ending}"));
                let mut text = format!("{ending}\n").into_bytes();
                text.extend_from_slice(&output);
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    };
    answer::with_duration(response, took)
}

/// Answers a call as of-watchdog's serializing mode does.
pub(super) async fn serializing(
    request: Request<Body>,
    launcher: &Launcher,
    settings: &Settings,
    lines: Lines,
) -> Response<Body> {
    let start = Instant::now();
    let asked = Asked::of(&request);
    let (parts, body) = request.into_parts();
    let input = match receive(body, settings.read_timeout).await {
        Ok(input) => input,
        Err(response) => return response,
    };
    let mut command = launcher.for_a_call();
    if settings.cgi_headers {
        command.envs(env::variables(&parts));
    }
    let finished = run(command, input, false, settings.exec_timeout, lines).await;
    let response = match finished {
        Err(error) => answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot run the function: {error}\n"),
        ),
        Ok(Finished { ending, output }) => match ending {
            Ending::TimedOut => answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "signal: killed (exec_timeout has passed)\n",
            ),
            Ending::Exited(status) if !status.success() => {
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", describe(status)))
            }
            Ending::Exited(_) => answer::typed(StatusCode::OK, content_type(settings), output),
        },
    };
    let took = start.elapsed();
    asked.log(&response, took, settings.log_callid);
    answer::with_duration(response, took)
}

/// `content_type`, or what of-watchdog says without it.
pub(super) fn content_type(settings: &Settings) -> HeaderValue {
    settings
        .content_type
        .as_deref()
        .and_then(|text| HeaderValue::try_from(text).ok())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// The forced type, else the request's own, else what the bytes look like.
fn classic_content_type(forced: Option<&str>, request: &HeaderMap, output: &[u8]) -> HeaderValue {
    forced
        .and_then(|text| HeaderValue::try_from(text).ok())
        .or_else(|| request.get(header::CONTENT_TYPE).cloned())
        .unwrap_or_else(|| {
            if std::str::from_utf8(output).is_ok() {
                HeaderValue::from_static("text/plain; charset=utf-8")
            } else {
                HeaderValue::from_static("application/octet-stream")
            }
        })
}

/// Reads a request's body within `read_timeout`.
async fn receive(body: Body, bound: Duration) -> Result<Bytes, Response<Body>> {
    match tokio::time::timeout(bound, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(answer::text(
            StatusCode::BAD_REQUEST,
            format!("cannot read the request body: {error}\n"),
        )),
        Err(_) => Err(answer::text(
            StatusCode::REQUEST_TIMEOUT,
            format!("the request body did not arrive within read_timeout ({bound:?})\n"),
        )),
    }
}

/// Runs a command with `input` on its stdin and returns what it wrote.
///
/// With `combine` stderr is part of the output, in the order of writing;
/// without, it goes to the log. Dropping the future kills the process group.
async fn run(
    mut command: Command,
    input: Bytes,
    combine: bool,
    limit: Option<Duration>,
    lines: Lines,
) -> io::Result<Finished> {
    let (mut output, writer) = output_pipe()?;
    if combine {
        command.stderr(writer.try_clone()?);
    } else {
        command.stderr(Stdio::piped());
    }
    command.stdin(Stdio::piped()).stdout(writer);
    let mut running = Running::start(command)?;
    let stdin = running.child.stdin.take();
    let stderr = running.child.stderr.take();
    let mut collected = Vec::new();
    let work = async {
        let (fed, read, ()) = tokio::join!(
            async {
                if let Some(mut stdin) = stdin {
                    // A function may answer without reading what it was sent.
                    match stdin.write_all(&input).await {
                        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                        _ => {}
                    }
                }
                Ok(())
            },
            output.read_to_end(&mut collected),
            async {
                if let Some(stderr) = stderr {
                    lines.copy(Source::Stderr, stderr).await;
                }
            },
        );
        fed?;
        read?;
        running.child.wait().await
    };
    let ended = match limit {
        None => Ok(work.await),
        Some(limit) => tokio::time::timeout(limit, work).await,
    };
    let ending = if let Ok(status) = ended {
        Ending::Exited(status?)
    } else {
        running.kill();
        Ending::TimedOut
    };
    Ok(Finished {
        ending,
        output: collected,
    })
}

/// A pipe that several of a process's outputs can share.
pub(super) fn output_pipe() -> io::Result<(pipe::Receiver, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_classic_answer() {
        let json = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        for (forced, request, output, expected) in [
            (Some("image/png"), &json, &b"x"[..], "image/png"),
            (None, &json, b"x", "application/json"),
            (None, &HeaderMap::new(), b"text", "text/plain; charset=utf-8"),
            (None, &HeaderMap::new(), b"\xff\x00", "application/octet-stream"),
        ] {
            assert_eq!(classic_content_type(forced, request, output), expected);
        }
    }
}
