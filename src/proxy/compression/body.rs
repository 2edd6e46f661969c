//! Answers that are compressed on their way.
//!
//! Nothing is held back: what was compressed goes out whenever the function has
//! no more for now, so that what it says bit by bit arrives bit by bit.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use async_compression::{
    Level,
    brotli::EncoderParams,
    tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder},
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tokio::io::AsyncWrite;

use crate::{config::Algorithm, upstream::BoxError};

/// Compressed bytes that are worth a piece of their own.
const ENOUGH: usize = 16 * 1024;

/// Most bytes that are compressed without letting others have a turn.
const TURN: usize = 64 * 1024;

/// Between what is small and what is quick, towards the latter: somebody waits.
const GZIP_LEVEL: i32 = 5;
const BROTLI_LEVEL: i32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// Memory for each answer under way, as the logarithm of bytes: 256 KiB.
const BROTLI_WINDOW: i32 = 18;

/// A body that is compressed while it is read.
pub struct Compressed<B> {
    inner: B,
    /// `None` once the end was written.
    encoder: Option<Encoder>,
    /// Something may be left in the encoder.
    unflushed: bool,
    trailers: Option<HeaderMap>,
}

/// Writes into memory, so it never waits.
enum Encoder {
    Gzip(Box<GzipEncoder<Vec<u8>>>),
    Brotli(Box<BrotliEncoder<Vec<u8>>>),
    Zstd(Box<ZstdEncoder<Vec<u8>>>),
}

macro_rules! each {
    ($self:ident, $encoder:ident => $call:expr) => {
        match $self {
            Self::Gzip($encoder) => $call,
            Self::Brotli($encoder) => $call,
            Self::Zstd($encoder) => $call,
        }
    };
}

impl Encoder {
    fn new(algorithm: Algorithm) -> Self {
        let out = Vec::new();
        match algorithm {
            Algorithm::Gzip => Self::Gzip(Box::new(GzipEncoder::with_quality(out, Level::Precise(GZIP_LEVEL)))),
            Algorithm::Brotli => {
                let params = EncoderParams::default().quality(Level::Precise(BROTLI_LEVEL));
                let params = params.window_size(BROTLI_WINDOW);
                Self::Brotli(Box::new(BrotliEncoder::with_params(out, params)))
            }
            Algorithm::Zstd => Self::Zstd(Box::new(ZstdEncoder::with_quality(out, Level::Precise(ZSTD_LEVEL)))),
        }
    }

    fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let count = each!(self, encoder => now(|cx| Pin::new(&mut **encoder).poll_write(cx, data)))?;
            data = &data[count..];
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        each!(self, encoder => now(|cx| Pin::new(&mut **encoder).poll_flush(cx)))
    }

    fn finish(&mut self) -> io::Result<()> {
        each!(self, encoder => now(|cx| Pin::new(&mut **encoder).poll_shutdown(cx)))
    }

    /// What came out so far.
    fn out(&mut self) -> &mut Vec<u8> {
        each!(self, encoder => encoder.get_mut())
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(self.out()).into()
    }
}

/// The result of what does not wait.
fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::Error::other("memory made the encoder wait")),
    }
}

impl<B> Compressed<B> {
    /// Compresses `inner`.
    pub fn new(inner: B, algorithm: Algorithm) -> Self {
        Self {
            inner,
            encoder: Some(Encoder::new(algorithm)),
            unflushed: false,
            trailers: None,
        }
    }
}

impl<B> HttpBody for Compressed<B>
where
    B: HttpBody<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut turn = 0;
        while let Some(encoder) = &mut this.encoder {
            let ended = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        turn += data.len();
                        encoder.write(&data)?;
                        this.unflushed = true;
                        this.inner.is_end_stream()
                    }
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        true
                    }
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => true,
                Poll::Pending if !this.unflushed => return Poll::Pending,
                Poll::Pending => {
                    turn = TURN;
                    false
                }
            };
            if ended {
                encoder.finish()?;
                let rest = encoder.take();
                this.encoder = None;
                return Poll::Ready(Some(Ok(Frame::data(rest))));
            }
            if turn >= TURN {
                encoder.flush()?;
                this.unflushed = false;
            }
            if encoder.out().len() >= ENOUGH || (turn >= TURN && !encoder.out().is_empty()) {
                return Poll::Ready(Some(Ok(Frame::data(encoder.take()))));
            }
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZstdDecoder};
    use futures_util::{FutureExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tokio::{io::AsyncReadExt, sync::mpsc};

    use super::*;

    const ALL: [Algorithm; 3] = [Algorithm::Gzip, Algorithm::Brotli, Algorithm::Zstd];

    async fn plain(algorithm: Algorithm, compressed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        match algorithm {
            Algorithm::Gzip => GzipDecoder::new(compressed).read_to_end(&mut out).await,
            Algorithm::Brotli => BrotliDecoder::new(compressed).read_to_end(&mut out).await,
            Algorithm::Zstd => ZstdDecoder::new(compressed).read_to_end(&mut out).await,
        }?;
        Ok(out)
    }

    fn body(
        receiver: mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>,
        algorithm: Algorithm,
    ) -> impl HttpBody<Data = Bytes, Error = BoxError> + Unpin {
        let frames = stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        });
        Compressed::new(StreamBody::new(Box::pin(frames)), algorithm)
    }

    #[tokio::test]
    async fn what_comes_out_is_what_went_in_and_smaller() {
        let text: Vec<u8> = (0..300_000_u32)
            .flat_map(|number| (number % 1000).to_string().into_bytes())
            .collect();
        for algorithm in ALL {
            for step in [7_001, 100_000, text.len()] {
                let (send, receive) = mpsc::unbounded_channel();
                for piece in text.chunks(step) {
                    send.send(Ok(Frame::data(Bytes::copy_from_slice(piece)))).expect("open");
                }
                let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().expect("a value"))]);
                send.send(Ok(Frame::trailers(trailers.clone()))).expect("open");
                drop(send);
                let whole = body(receive, algorithm).collect().await.expect("a body");
                assert_eq!(whole.trailers(), Some(&trailers));
                let compressed = whole.to_bytes();
                assert!(
                    compressed.len() < text.len() / 4,
                    "{algorithm:?} {step}: {}",
                    compressed.len()
                );
                assert!(
                    plain(algorithm, &compressed).await.expect("compressed") == text,
                    "{algorithm:?} {step}"
                );
            }
        }
    }

    #[tokio::test]
    async fn what_the_function_says_goes_out_before_it_says_more() {
        for algorithm in ALL {
            let (send, receive) = mpsc::unbounded_channel();
            let mut body = body(receive, algorithm);
            let mut compressed = Vec::new();
            for word in ["one ", "two ", "three "] {
                assert!(body.frame().now_or_never().is_none(), "nothing was said");
                send.send(Ok(Frame::data(Bytes::from(word)))).expect("open");
                let frame = body.frame().await.expect("open").expect("a frame");
                compressed.extend_from_slice(&frame.into_data().expect("data"));
                let mut said = vec![0; 100];
                // It breaks off there, so only what is complete can be read.
                let count = match algorithm {
                    Algorithm::Gzip => GzipDecoder::new(&*compressed).read(&mut said).await,
                    Algorithm::Brotli => BrotliDecoder::new(&*compressed).read(&mut said).await,
                    Algorithm::Zstd => ZstdDecoder::new(&*compressed).read(&mut said).await,
                };
                let count = count.expect("readable");
                assert!(
                    String::from_utf8_lossy(&said[..count]).starts_with("one "),
                    "{algorithm:?} {word}"
                );
                assert!(said[..count].ends_with(word.as_bytes()), "{algorithm:?}: {said:?}");
            }
            drop(send);
            while let Some(frame) = body.frame().await {
                compressed.extend_from_slice(&frame.expect("a frame").into_data().expect("data"));
            }
            assert_eq!(plain(algorithm, &compressed).await.expect("whole"), b"one two three ");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_has_no_end() {
        let (send, receive) = mpsc::unbounded_channel();
        send.send(Ok(Frame::data(Bytes::from("half")))).expect("open");
        send.send(Err("gone".into())).expect("open");
        let error = body(receive, Algorithm::Gzip).collect().await.expect_err("no end");
        assert_eq!(error.to_string(), "gone");
    }
}
