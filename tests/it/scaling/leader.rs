//! Several gateways before one provider, with a real NATS server: one scales, and
//! another does when that one ends.

use super::{QUICK, explain};
use crate::support::{Gateway, eventually, gateway::Setup, nats::Nats};

fn setup(port: u16) -> Setup {
    let config = format!("{QUICK}leader = \"nats\"\n[queue]\nnats_address = \"127.0.0.1\"\nnats_port = {port}\n");
    Gateway::new().config(&config)
}

/// Waits until a gateway does what `mode` says about its function.
async fn is(gateway: &Gateway, mode: &str) -> String {
    eventually(mode, || async {
        let told = explain(gateway, "f").await;
        let leader = told["leader"].as_str()?.to_owned();
        (told["mode"] == mode).then_some(leader)
    })
    .await
}

#[tokio::test]
async fn one_gateway_scales_and_the_next_takes_over() {
    let nats = Nats::start().await;
    let port = nats.port();
    let labels = serde_json::json!({ "com.openfaas.scale.type": "rps" });
    let mut first = setup(port).start().await;
    super::deploy(&first, "f", 1, &labels).await;
    let leader = is(&first, "load").await;
    let second = setup(port).start().await;
    super::deploy(&second, "f", 1, &labels).await;
    assert_eq!(is(&second, "standby").await, leader);
    first.signal(nix::sys::signal::Signal::SIGTERM);
    first.ended().await;
    assert_ne!(is(&second, "load").await, leader);
}
