//! Reading all records as they are written, and what others send.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        AckKind,
        consumer::{DeliverPolicy, pull},
    },
};
use chrono::Utc;
use futures_util::StreamExt;

use super::{
    GRAVE, Shared, message,
    streams::{About, Streams},
};

/// Pause before what failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Connects and reads, for good.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut client = None;
    let mut told = String::new();
    loop {
        let Err(error) = read(&shared, &mut client).await;
        let address = shared.options.server.address();
        if error == told {
            tracing::debug!(error, "queue in NATS not read; trying again");
        } else {
            tracing::warn!(error, address, "queue in NATS not read; trying again");
        }
        // What was read once is good enough to go on with: all writes say at which
        // revision they are meant.
        let was_read = shared.ready.borrow().is_ok();
        if !was_read {
            shared.set_ready(Err(error.clone()));
        }
        told = error;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads until something fails.
async fn read(shared: &Shared, client: &mut Option<Client>) -> Result<std::convert::Infallible, String> {
    let connected = match client {
        Some(client) => client.clone(),
        None => client
            .insert({
                let connected = shared
                    .options
                    .server
                    .connect_counting(&shared.options.name, &shared.reconnects)
                    .await;
                connected?
            })
            .clone(),
    };
    let streams = Arc::new(Streams::open(connected, &shared.options).await?);
    streams.remove_others(shared.options.is_shared).await?;
    let config = pull::OrderedConfig {
        filter_subject: streams.state_filter(),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ..pull::OrderedConfig::default()
    };
    let consumer = streams
        .calls
        .create_consumer(config)
        .await
        .map_err(|error| error.to_string())?;
    let nothing = consumer.cached_info().num_pending == 0;
    let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
    {
        let mut inner = shared.inner();
        inner.index.begin();
        inner.streams = Some(Arc::clone(&streams));
        inner.consumers.clear();
    }
    let mut is_settled = false;
    let mut settle = |is_last: bool| {
        if is_last && !is_settled {
            is_settled = true;
            shared.inner().index.settle();
            shared.set_ready(Ok(()));
            shared.changed.notify_one();
            tracing::info!(address = shared.options.server.address(), "queue in NATS ready");
        }
    };
    settle(nothing);
    while let Some(message) = messages.next().await {
        let message = message.map_err(|error| error.to_string())?;
        let info = message.info().map_err(|error| error.to_string())?;
        let (revision, is_last) = (info.stream_sequence, info.pending == 0);
        match streams.about(&message.subject) {
            Some(About::Call(id)) => shared.note(&id, revision, &message.payload),
            Some(About::Paused(function)) => {
                let paused = !message.payload.is_empty();
                shared.inner().index.schedule.pause(function.as_ref(), paused);
                shared.changed.notify_one();
            }
            None => tracing::debug!(subject = %message.subject, "unknown subject in the queue"),
        }
        settle(is_last);
    }
    Err("the server ended the list of records".to_owned())
}

/// Forgets jobs that have been gone for a while. In every gateway that reads records,
/// also in one that makes no calls: it learns of all that go.
pub(super) async fn tend(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(GRAVE / 2).await;
        let cleared = async {
            let streams = shared.streams().map_err(|error| error.to_string())?;
            shared.clear_graves(&streams).await
        };
        if let Err(error) = cleared.await {
            tracing::debug!(error, "calls that are gone not forgotten yet");
        }
    }
}

/// Takes calls that others send to the queue's own subject, as OpenFaaS does, into
/// the line of their functions.
pub(super) async fn take_in(shared: Arc<Shared>) {
    loop {
        if let Err(error) = take_in_some(&shared).await {
            tracing::debug!(error, "nothing taken from the subject of others; trying again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn take_in_some(shared: &Shared) -> Result<(), String> {
    let streams = shared.streams().map_err(|error| error.to_string())?;
    let consumer = streams.open_consumer().await?;
    let mut messages = consumer.messages().await.map_err(|error| error.to_string())?;
    while let Some(received) = messages.next().await {
        let received = received.map_err(|error| error.to_string())?;
        let namespace = &shared.options.default_namespace;
        match message::decode(received.headers.as_ref(), &received.payload, namespace, Utc::now()) {
            Ok((job, _)) => {
                shared.publish(job).await.map_err(|error| error.to_string())?;
                received.ack().await.map_err(|error| error.to_string())?;
            }
            Err(error) => {
                tracing::error!(%error, "message of others dropped");
                received
                    .ack_with(AckKind::Term)
                    .await
                    .map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(())
}
