//! What no message can hold, in the object store.
//!
//! An object that is gone is told from one that cannot be read now, for what needs it
//! ends in the first case and waits in the second. Replicas of the store may be behind,
//! and an object's list of parts outlives them: only what the leader of the store's
//! stream says counts as gone.

use async_nats::jetstream::{
    ErrorCode,
    object_store::{DeleteErrorKind, GetErrorKind, Object, ObjectInfo},
    stream::LastRawMessageErrorKind,
};
use base64::{Engine, prelude::BASE64_URL_SAFE};
use tokio::io::AsyncReadExt;

use super::{Bytes, HEAD, HeaderMap, Streams, TIMEOUT, bucket, message, token, words};

/// Why there is no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum ObjectError {
    /// It is not there, or not whole; to ask again changes nothing.
    #[error("{0}")]
    Gone(String),
    /// It cannot be read now.
    #[error("{0}")]
    Unavailable(String),
}

impl Streams {
    /// Writes something that may be large.
    pub(in super::super) async fn put_large(
        &self,
        subject: String,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), String> {
        let payload = if payload.len() + HEAD > self.client.server_info().max_payload {
            self.put_object(&subject, &payload).await?;
            headers.insert(message::OBJECT, &*subject);
            Bytes::new()
        } else {
            payload
        };
        let put = self.put(subject, headers, payload, None).await;
        put.map(drop).map_err(words)
    }

    /// What [`Streams::put_large`] wrote.
    ///
    /// # Errors
    /// `Gone` when only its object is.
    pub(in super::super) async fn get_large(&self, subject: &str) -> Result<Option<(HeaderMap, Bytes)>, ObjectError> {
        let Some(found) = self.get(subject).await.map_err(ObjectError::Unavailable)? else {
            return Ok(None);
        };
        let payload = match found.headers.get(message::OBJECT) {
            Some(object) if object.as_str() == subject => self.object(subject).await?,
            _ => found.payload,
        };
        Ok(Some((found.headers, payload)))
    }

    /// Removes it.
    pub(in super::super) async fn erase_large(&self, subject: &str) -> Result<(), String> {
        if let Some(found) = self.get(subject).await? {
            if found
                .headers
                .get(message::OBJECT)
                .is_some_and(|object| object.as_str() == subject)
            {
                self.erase_object(subject).await;
            }
            self.erase(subject).await?;
        }
        Ok(())
    }

    pub(super) async fn put_object(&self, name: &str, mut bytes: &[u8]) -> Result<(), String> {
        self.bodies.put(name, &mut bytes).await.map(drop).map_err(words)
    }

    /// An object's bytes, whole.
    pub(in super::super) async fn object(&self, name: &str) -> Result<Bytes, ObjectError> {
        let mut object = self.open_object(name).await?;
        let mut bytes = Vec::with_capacity(object.info.size);
        while bytes.len() < object.info.size {
            // Nobody says that a part does not come.
            let read = tokio::time::timeout(TIMEOUT, object.read_buf(&mut bytes)).await;
            match read {
                Ok(Ok(0)) => return Err(self.gone(name, "is shorter than when it was written")),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    return Err(self.gone(name, "is not what was written"));
                }
                Ok(Err(error)) => return Err(ObjectError::Unavailable(words(error))),
                Err(_) => {
                    let parts = format!("$O.{}.C.{}", bucket(&self.queue), object.info.nuid);
                    return Err(match self.leaders(&parts).await {
                        Ok(None) => self.gone(name, "has lost its parts"),
                        Ok(Some(_)) => ObjectError::Unavailable(format!("nothing of object {name} within {TIMEOUT:?}")),
                        Err(error) => ObjectError::Unavailable(error),
                    });
                }
            }
        }
        Ok(bytes.into())
    }

    /// An object to be read.
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub(in super::super) async fn open_object(&self, name: &str) -> Result<Object, ObjectError> {
        let error = match self.bodies.get(name).await {
            Ok(object) => return Ok(object),
            Err(error) => error,
        };
        match self.leaders(&self.info_subject(name)).await {
            Ok(Some(info)) if !is_deleted(&info) => Err(ObjectError::Unavailable(words(error))),
            Ok(Some(_)) => Err(self.gone(name, "was deleted")),
            Ok(None) => Err(self.gone(name, "is not there")),
            Err(_) if error.kind() != GetErrorKind::NotFound => Err(ObjectError::Unavailable(words(error))),
            Err(error) => Err(ObjectError::Unavailable(error)),
        }
    }

    /// What the leader of the store's stream has last of a subject.
    async fn leaders(&self, subject: &str) -> Result<Option<Bytes>, String> {
        match self.store.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                // The store itself is gone.
                LastRawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    Ok(None)
                }
                _ => Err(words(error)),
            },
        }
    }

    /// Where the store tells of an object (ADR-20 of NATS).
    fn info_subject(&self, name: &str) -> String {
        format!("$O.{}.M.{}", bucket(&self.queue), BASE64_URL_SAFE.encode(name))
    }

    fn gone(&self, name: &str, why: &str) -> ObjectError {
        ObjectError::Gone(format!("{name} in the object store {} {why}", bucket(&self.queue)))
    }

    /// Removes an object; one that stays takes room and does no other harm.
    pub(in super::super) async fn erase_object(&self, name: &str) {
        let erased = match self.bodies.delete(name).await {
            // It leaves a word that it was there, for good.
            Ok(()) => self
                .store
                .purge()
                .filter(self.info_subject(name))
                .await
                .map(drop)
                .map_err(words),
            Err(error) if error.kind() == DeleteErrorKind::NotFound => Ok(()),
            Err(error) => Err(words(error)),
        };
        if let Err(error) = erased {
            tracing::warn!(name, error, "object of an asynchronous call not removed");
        }
    }

    /// The object of a job's body.
    pub(in super::super) fn body_object(id: &str) -> String {
        format!("body.{}", token(id))
    }
}

/// Whether what is known of an object says that it was deleted.
fn is_deleted(info: &[u8]) -> bool {
    serde_json::from_slice::<ObjectInfo>(info).is_ok_and(|info| info.deleted)
}
