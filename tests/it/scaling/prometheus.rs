//! With a real Prometheus and a real AlertManager: the rule and the receiver that
//! come with OpenFaaS (compatibility.md section 4.4), and signals of several
//! gateways.

use std::{path::Path, time::Duration};

use serde_json::json;
use tokio::process::Child;

use super::{QUICK, becomes, deploy, explain};
use crate::support::{Gateway, eventually, free_port, gateway::client, load::Load, server};

async fn ready(port: u16, program: &str) {
    eventually(program, || async {
        let url = format!("http://127.0.0.1:{port}/-/ready");
        let answer = client().get(url).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
}

/// Prometheus that scrapes these addresses every second.
async fn prometheus(directory: &Path, port: u16, scraped: &[String], more: &str) -> Child {
    let targets = serde_json::to_string(scraped).expect("JSON");
    let config = format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n{more}scrape_configs:\n- job_name: gateway\n  \
         static_configs:\n  - targets: {targets}\n"
    );
    std::fs::write(directory.join("prometheus.yml"), config).expect("written");
    let arguments = [
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let child = server("prometheus", directory, &arguments);
    ready(port, "prometheus").await;
    child
}

/// The rule of OpenFaaS with shorter times.
const RULE: &str = r#"groups:
- name: prometheus/alert.rules
  rules:
  - alert: APIHighInvocationRate
    expr: sum(rate(gateway_function_invocation_total{code="200"}[10s])) BY (function_name) > 5
    for: 1s
    labels:
      service: gateway
      severity: major
    annotations:
      description: High invocation total on "{{ $labels.function_name }}"
      summary: High invocation total on "{{ $labels.function_name }}"
"#;

#[tokio::test]
async fn the_rule_of_openfaas_scales_up_and_its_end_leaves_the_fewest() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let mut gateway = Gateway::new().basic_auth("admin", "pass word").start().await;
    gateway.sign_in("admin", "pass word");
    let labels = json!({ "com.openfaas.scale.min": "1", "com.openfaas.scale.max": "5",
        "com.openfaas.scale.factor": "40" });
    deploy(&gateway, "f", 5, &labels).await;

    let (web, alerts) = (free_port(), free_port());
    std::fs::write(directory.join("password"), "pass word").expect("written");
    let receiver = format!(
        "route:\n  group_by: ['alertname', 'cluster', 'service']\n  group_wait: 1s\n  group_interval: 1s\n  \
         repeat_interval: 1s\n  receiver: scale-up\nreceivers:\n- name: scale-up\n  webhook_configs:\n  - url: \
         {}/system/alert\n    send_resolved: true\n    http_config:\n      basic_auth:\n        username: admin\n        \
         password_file: password\n",
        gateway.url()
    );
    std::fs::write(directory.join("alertmanager.yml"), receiver).expect("written");
    let arguments = [
        "--config.file=alertmanager.yml".to_owned(),
        "--storage.path=alerts".to_owned(),
        format!("--web.listen-address=127.0.0.1:{alerts}"),
        "--cluster.listen-address=".to_owned(),
    ];
    let _alertmanager = server("prometheus-alertmanager", directory, &arguments);
    ready(alerts, "prometheus-alertmanager").await;
    std::fs::write(directory.join("alert.rules.yml"), RULE).expect("written");
    let alerting = format!(
        "rule_files:\n- alert.rules.yml\nalerting:\n  alertmanagers:\n  - static_configs:\n    - targets: \
         ['127.0.0.1:{alerts}']\n"
    );
    let _prometheus = prometheus(directory, web, &[gateway.metrics_address().to_string()], &alerting).await;

    let load = Load::start(&gateway, "/function/f", 2);
    // 40 % of 5 is 2 more each time it fires.
    wait_for(&gateway, 3).await;
    wait_for(&gateway, 5).await;
    assert_eq!(load.stop().await.failed, 0);
    wait_for(&gateway, 1).await;
    let changes = explain(&gateway, "f").await["changes"].clone();
    let told: Vec<_> = changes
        .as_array()
        .expect("a list")
        .iter()
        .map(|change| {
            (
                change["from"].as_u64(),
                change["to"].as_u64(),
                change["reason"].as_str(),
            )
        })
        .collect();
    let by_alert = |from, to| (Some(from), Some(to), Some("alert"));
    assert_eq!(told, [by_alert(5, 1), by_alert(3, 5), by_alert(1, 3)]);
}

/// What Prometheus and AlertManager do takes them seconds.
async fn wait_for(gateway: &Gateway, replicas: u32) {
    for _ in 0..6 {
        let reached = becomes(gateway, "f", replicas);
        if tokio::time::timeout(Duration::from_secs(9), reached).await.is_ok() {
            return;
        }
    }
    panic!("never {replicas} replicas: {:?}", gateway.status("f", "").await);
}

#[tokio::test]
async fn signals_come_from_prometheus_where_there_are_several_gateways() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let web = free_port();
    let config = format!(
        "{QUICK}signals = \"prometheus\"\nqueries = {{ fixed = \"label_replace(vector(45), \\\"function_name\\\", \
         \\\"g.openfaas-fn\\\", \\\"\\\", \\\"\\\")\" }}\n[prometheus]\nhost = \"127.0.0.1\"\nport = {web}\n"
    );
    let gateway = Gateway::new().config(&config).start().await;
    let labels = json!({ "com.openfaas.scale.type": "capacity", "com.openfaas.scale.target": "2",
        "com.openfaas.scale.target-proportion": "1", "com.openfaas.scale.max": "3" });
    deploy(&gateway, "f", 100, &labels).await;
    let told = explain(&gateway, "f").await;
    assert!(told["load"].is_null(), "nobody measures yet: {told}");
    let custom = json!({ "com.openfaas.scale.type": "fixed", "com.openfaas.scale.target": "20",
        "com.openfaas.scale.target-proportion": "1" });
    deploy(&gateway, "g", 1, &custom).await;
    let _prometheus = prometheus(directory, web, &[gateway.metrics_address().to_string()], "").await;
    becomes(&gateway, "g", 3).await;
    let load = Load::start(&gateway, "/function/f", 6);
    wait_for(&gateway, 3).await;
    assert_eq!(load.stop().await.failed, 0);
    let told = explain(&gateway, "f").await;
    assert!(told["load"].as_f64().is_some_and(|load| load > 4.0), "{told}");
}
