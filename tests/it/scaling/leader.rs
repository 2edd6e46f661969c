//! Several gateways before one provider, with a real NATS server: one scales, and
//! another does when that one ends.

use std::path::Path;

use tokio::process::Child;

use super::{QUICK, explain, server};
use crate::support::{Gateway, eventually, free_port, gateway::Setup};

/// A NATS server with JetStream that ends with the test, and its port.
async fn nats(directory: &Path) -> (Child, u16) {
    let port = free_port();
    let arguments = [
        "--addr",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--jetstream",
        "--store_dir",
        ".",
    ];
    let child = server("nats-server", directory, &arguments.map(str::to_owned));
    eventually("the NATS server", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
    })
    .await;
    (child, port)
}

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
    let directory = tempfile::tempdir().expect("a directory");
    let (_nats, port) = nats(directory.path()).await;
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
