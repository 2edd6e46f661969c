//! Names of metrics: an interface, as the parent module says.

/// Completed calls by function and status code.
pub const INVOCATION_TOTAL: &str = "gateway_function_invocation_total";
/// Time of completed calls.
pub const FUNCTION_SECONDS: &str = "gateway_functions_seconds";
/// Calls that were sent on, completed or not. A counter in spite of its name.
pub const INVOCATION_STARTED: &str = "gateway_function_invocation_started";
/// Calls under way.
pub const INVOCATION_INFLIGHT: &str = "gateway_function_invocation_inflight";
/// Calls that were not sent on, by reason.
pub const REFUSED_TOTAL: &str = "gateway_function_refused_total";
/// Calls that wait for their turn, of functions with `max_in_flight`.
pub const QUEUED: &str = "gateway_function_queued";
/// 1 while a function is not called because it keeps failing, else 0; of
/// functions with `breaker`.
pub const BREAKER_OPEN: &str = "gateway_function_breaker_open";
/// Further tries of calls. OpenFaaS has no such name.
pub const FUNCTION_RETRIES: &str = "gateway_function_retries_total";
/// Changes of replicas by direction and reason. OpenFaaS has no such name.
pub const SCALING_DECISIONS: &str = "gateway_scaling_decisions_total";
/// How long calls waited for a replica, of those that did.
pub const ACTIVATION_SECONDS: &str = "gateway_function_activation_seconds";
/// Desired replicas.
pub const SERVICE_COUNT: &str = "gateway_service_count";
/// Replicas that can take calls.
pub const SERVICE_READY_COUNT: &str = "gateway_service_ready_count";
/// Load that one replica should take, for the autoscaler.
pub const SERVICE_TARGET_LOAD: &str = "gateway_service_target_load";
/// Fewest replicas.
pub const SERVICE_MIN: &str = "gateway_service_min";
/// Time of requests to system routes.
pub const HTTP_SECONDS: &str = "http_request_duration_seconds";
/// Requests to system routes.
pub const HTTP_TOTAL: &str = "http_requests_total";
/// Open connections by listener.
pub const CONNECTIONS_OPEN: &str = "gateway_connections_open";
/// Accepted connections by listener.
pub const CONNECTIONS_ACCEPTED: &str = "gateway_connections_accepted_total";
/// 1 while the configuration in use is the newest one read, else 0.
pub const RELOAD_SUCCESSFUL: &str = "gateway_config_last_reload_successful";
/// When the configuration in use was read.
pub const RELOAD_SUCCESS_TIME: &str = "gateway_config_last_reload_success_timestamp_seconds";
/// Reloads by what asked for them and how they ended.
pub const RELOADS_TOTAL: &str = "gateway_config_reloads_total";
/// Always 1; its label tells the fingerprint of the live configuration.
pub const CONFIG_INFO: &str = "gateway_config_info";
/// Number of the live configuration.
pub const CONFIG_GENERATION: &str = "gateway_config_generation";
/// Keys that wait for a restart.
pub const CONFIG_PENDING: &str = "gateway_config_pending_restart";
/// Configurations that are in use: the live one, and those that requests
/// under way began with.
pub const CONFIG_ALIVE: &str = "gateway_config_live_generations";
/// Connections to functions, or to the provider in front of them.
pub const UPSTREAM_CONNECTIONS: &str = "gateway_upstream_connections";
/// Lines of the access log that were dropped.
pub const ACCESS_LOG_DROPPED: &str = "gateway_access_log_dropped_total";
/// Other log lines that were dropped.
pub const LOG_DROPPED: &str = "gateway_log_dropped_total";
/// Spans that were not exported, by reason.
pub const TRACES_DROPPED: &str = "gateway_traces_dropped_total";
/// Spans that were exported.
pub const TRACES_EXPORTED: &str = "gateway_traces_exported_total";
/// Tries of asynchronous calls, by what became of the call.
pub const ASYNC_CALLS: &str = "gateway_async_calls_total";
/// Time of tries of asynchronous calls.
pub const ASYNC_SECONDS: &str = "gateway_async_call_seconds";
/// Time until an asynchronous call was kept for good.
pub const ASYNC_ENQUEUE: &str = "gateway_async_enqueue_seconds";
/// Callbacks by how they ended.
pub const ASYNC_CALLBACKS: &str = "gateway_async_callbacks_total";
/// Answers of asynchronous calls that went no further because they went on too often.
pub const ASYNC_LOOPS: &str = "gateway_async_loops_refused_total";
/// Asynchronous calls that are due, by function; OpenFaaS Pro's name.
pub const WORKER_PENDING: &str = "queue_worker_pending_messages";
/// Asynchronous calls under way, by function; OpenFaaS Pro's name.
pub const WORKER_INFLIGHT: &str = "queue_worker_function_invocation_inflight";
/// Tries of asynchronous calls; OpenFaaS Pro's name.
pub const WORKER_PROCESSED: &str = "queue_worker_messages_processed_total";
/// Asynchronous calls that were kept; OpenFaaS Pro's name.
pub const WORKER_SUBMITTED: &str = "queue_worker_messages_submitted_total";
/// Asynchronous calls and what they led to, by function and state.
pub const ASYNC_JOBS: &str = "gateway_async_jobs";
/// How long the oldest asynchronous call of a function has waited.
pub const ASYNC_OLDEST: &str = "gateway_async_oldest_seconds";
/// Connections to NATS that were made again; OpenFaaS Pro's names of its gateway and its queue-worker.
pub const NATS_RECONNECTS: &str = "gateway_nats_reconnect_total";
/// The same.
pub const WORKER_RECONNECTS: &str = "queue_worker_nats_reconnect_total";
/// When the clock calls a function next.
pub const CRON_NEXT: &str = "gateway_cron_next_timestamp_seconds";
/// What is wrong with the annotations of functions that the clock is to call.
pub const CRON_MISTAKES: &str = "gateway_cron_mistakes";
/// Calls by the clock, by what came of keeping them.
pub const CRON_CALLS: &str = "gateway_cron_calls_total";
/// Requests to the receiver of spans that failed.
pub const TRACES_FAILURES: &str = "gateway_traces_export_failures_total";
/// Streams of events that are read.
pub const EVENT_READERS: &str = "gateway_event_readers";
/// Always 1; its label tells the version.
pub const BUILD_INFO: &str = "gateway_build_info";
