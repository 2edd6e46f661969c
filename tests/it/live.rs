//! The checklist of live configuration, on the real program with real files.
//! The number in a name is the point's; `config/README.md` lists them.
//!
//! The live value is read from what the gateway answers. The regular poll is a
//! minute away, far beyond a test's patience, so what goes live was noticed.

mod detect;
mod directory;
mod edits;
mod kubernetes;
mod listeners;
mod load;
mod report;
mod secrets;

use std::path::Path;

use serde_json::Value;

use crate::support::{Gateway, eventually, gateway::field};

/// Noticed by events only, and soon.
const QUICK: &str = "[reload]\ndebounce = \"50ms\"\ndebounce_max = \"1s\"\npoll_interval = \"1m\"\n";

/// A valid file with a value of its own.
fn marked(marker: &str) -> String {
    format!("[provider]\nkind = \"memory\"\ndefault_namespace = \"{marker}\"\n{QUICK}")
}

/// The value that is live: the gateway names it when it knows no such function.
async fn live(gateway: &Gateway) -> String {
    let answer = gateway.get("/function/none").send().await.expect("an answer");
    let problem: Value = answer.json().await.expect("a problem");
    let detail = problem["detail"].as_str().expect("a detail");
    let name = detail
        .strip_prefix("function none.")
        .and_then(|rest| rest.split(' ').next());
    name.unwrap_or_else(|| panic!("{detail}")).to_owned()
}

async fn becomes(gateway: &Gateway, marker: &str) {
    eventually(&format!("'{marker}' live"), || async {
        (live(gateway).await == marker).then_some(())
    })
    .await;
}

/// Whether the last look at the files found what is live, or made it so.
async fn successful(gateway: &Gateway, expected: bool) {
    eventually(&format!("success {expected}"), || async {
        let gauge = gateway.metric("gateway_config_last_reload_successful").await?;
        ((gauge > 0.5) == expected).then_some(())
    })
    .await;
}

fn says(part: &str) -> impl Fn(&Value) -> bool {
    move |line| line.to_string().contains(part)
}

fn is_reload(line: &Value) -> bool {
    field(line, "message") == "configuration reloaded"
}

fn write(path: impl AsRef<Path>, content: &str) {
    std::fs::write(path, content).expect("writable");
}

/// A gateway with `one` live.
async fn start() -> Gateway {
    let gateway = Gateway::new().config(&marked("one")).start().await;
    assert_eq!(live(&gateway).await, "one");
    gateway
}
