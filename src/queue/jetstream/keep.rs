//! Keeping jobs, driving them again, and removing them.

use std::sync::Arc;

use async_nats::HeaderMap;
use bytes::Bytes;
use chrono::Utc;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    AT_ONCE, GRAVE, Job, Lane, ObjectError, Published, PutError, QueueError, Record, Shared, Streams, unavailable,
};

/// Stands in line for jobs of a lane that are not known by their ids, and is none:
/// those come from header fields, which cannot have such a character.
fn stray(lane: &Lane) -> String {
    format!("\0{lane:?}")
}

/// Whether that is what stands in line.
pub(super) fn is_stray(id: &str) -> bool {
    id.starts_with('\0')
}

impl Shared {
    pub(super) fn has_room(&self, bytes: u64) -> Result<(), QueueError> {
        let inner = self.inner();
        inner
            .bounds
            .admit(inner.index.figures.jobs, inner.index.figures.bytes, bytes)
    }

    /// The id that an idempotency key stands for: the job's own, where it is new.
    async fn id_of_key(&self, streams: &Streams, job: &Job) -> Result<Option<String>, QueueError> {
        let Some(key) = &job.idempotency_key else {
            return Ok(None);
        };
        let subject = streams.key_subject(&job.function, key);
        let id = Bytes::from(job.id.clone());
        match streams.put(subject.clone(), HeaderMap::new(), id, Some(0)).await {
            Ok(_) => Ok(None),
            Err(PutError::Failed(error)) => Err(unavailable(error)),
            Err(PutError::Conflict) => {
                let found = streams.get(&subject).await.map_err(unavailable)?;
                Ok(found.map(|message| String::from_utf8_lossy(&message.payload).into_owned()))
            }
        }
    }

    pub(super) async fn publish(&self, mut job: Job) -> Result<Published, QueueError> {
        let streams = self.streams()?;
        if let Some(id) = self.id_of_key(&streams, &job).await? {
            if self.known(&streams, &id).await?.is_some() {
                return Ok(Published { id, is_new: false });
            }
            // Whoever had the key for it ended before the job was kept.
            job.id = id;
        }
        let (is_known, grave) = {
            let inner = self.inner();
            (inner.index.get(&job.id).is_some(), inner.index.grave(&job.id))
        };
        if is_known {
            // A caller that chose the id of another job means that job.
            return Ok(Published {
                id: job.id,
                is_new: false,
            });
        }
        if grave.is_some() {
            streams
                .erase(&streams.call_subject(&job.id))
                .await
                .map_err(unavailable)?;
            self.inner().index.clear_grave(&job.id);
        }
        let receipt = streams.send(&job, 0).await.map_err(unavailable)?;
        // From here on it is kept: whoever gets the message makes the record.
        let record = Record::new(&job, receipt.message, receipt.has_object);
        match self.write(&streams, &record, 0).await {
            Ok(()) | Err(PutError::Conflict) => {}
            Err(PutError::Failed(error)) => {
                tracing::warn!(id = job.id, error, "record of an asynchronous call not written yet");
            }
        }
        Ok(Published {
            id: job.id,
            is_new: !receipt.is_duplicate,
        })
    }

    /// Keeps the message of a job that ended badly, to drive it again.
    pub(super) async fn archive(
        &self,
        streams: &Streams,
        id: &str,
        headers: &HeaderMap,
        payload: Bytes,
    ) -> Result<(), String> {
        let mut kept = HeaderMap::new();
        for (name, values) in headers.iter() {
            if AsRef::<str>::as_ref(name).starts_with("Faas-") {
                for value in values {
                    kept.append(name.clone(), value.clone());
                }
            }
        }
        streams.put_large(streams.job_subject(id), kept, payload).await
    }

    pub(super) async fn redrive(&self, id: &str) -> Result<(), QueueError> {
        let streams = self.streams()?;
        let Some(known) = self.known(&streams, id).await? else {
            return Err(QueueError::NotFound(id.to_owned()));
        };
        let record = known.record;
        QueueError::unless_redrivable(id, record.state())?;
        self.has_room(record.bytes)?;
        let subject = streams.job_subject(id);
        let gone = |why: &str| {
            QueueError::Conflict(format!(
                "asynchronous call {id} cannot be made again: its request is gone: {why}"
            ))
        };
        let have = |error| match error {
            ObjectError::Gone(why) => gone(&why),
            ObjectError::Unavailable(error) => unavailable(error),
        };
        let found = match streams.get_large(&subject).await.map_err(have)? {
            Some(found) => Some(found),
            // It ended so just now, and its message is where it was.
            None => streams
                .message(record.message)
                .await
                .map_err(unavailable)?
                .map(|message| (message.headers, message.payload)),
        };
        let Some((headers, payload)) = found else {
            return Err(gone("it is not in NATS any more"));
        };
        if record.has_object {
            streams.open_object(&Streams::body_object(id)).await.map_err(have)?;
        }
        let run = record.run + 1;
        let receipt = streams
            .resend(&record.lane(), id, run, headers, payload)
            .await
            .map_err(unavailable)?;
        self.change(&streams, id, |record| {
            // Whoever got the message may have been faster.
            if record.run < run {
                *record = record.again(run, receipt.message, Utc::now());
            }
            Ok(())
        })
        .await?;
        streams
            .erase_large(&streams.answer_subject(id))
            .await
            .map_err(unavailable)?;
        streams.erase_large(&subject).await.map_err(unavailable)
    }

    /// Removes everything about a job that has ended.
    async fn remove(&self, record: &Record) -> Result<(), QueueError> {
        let streams = self.streams()?;
        let id = &*record.id;
        for subject in [streams.answer_subject(id), streams.job_subject(id)] {
            streams.erase_large(&subject).await.map_err(unavailable)?;
        }
        if record.has_object {
            streams.erase_object(&Streams::body_object(id)).await;
        }
        if let Some(key) = &record.key {
            let subject = streams.key_subject(&record.function(), key);
            streams.erase(&subject).await.map_err(unavailable)?;
        }
        let subject = streams.call_subject(id);
        let put = streams.put(subject, HeaderMap::new(), Bytes::new(), None).await;
        let revision = put.map_err(|error| unavailable(error.to_string()))?;
        self.inner().index.bury(id, revision, Utc::now());
        Ok(())
    }

    pub(super) async fn remove_all(&self, records: Vec<Arc<Record>>) -> Result<u64, QueueError> {
        let removals = stream::iter(records).map(|record| async move { self.remove(&record).await });
        let removed: Vec<()> = removals.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(removed.len() as u64)
    }

    /// Removes what is left of jobs that have been gone for long enough.
    pub(super) async fn clear_graves(&self, streams: &Streams) -> Result<(), String> {
        let graves = self.inner().index.old_graves(Utc::now() - GRAVE);
        for id in graves {
            streams.erase(&streams.call_subject(&id)).await?;
            self.inner().index.clear_grave(&id);
        }
        Ok(())
    }

    /// Has messages looked for of which nothing is known: who sent them ended before
    /// it could write their records.
    pub(super) async fn look_for_strays(&self, streams: &Streams) -> Result<(), String> {
        let lanes = streams.waiting_lanes().await?;
        let mut inner = self.inner();
        for lane in lanes {
            let lane = if self.options.is_shared { Lane::All } else { lane };
            if !inner.index.figures.is_busy(&lane) {
                inner.index.schedule.add(&stray(&lane), &lane, Utc::now());
            }
        }
        Ok(())
    }
}
