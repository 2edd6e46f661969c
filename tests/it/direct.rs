//! Functions that are called at their own host, which has several addresses.
//!
//! Each replica listens on a loopback address of its own, at the port of all
//! functions; the gateway finds them in a hosts file of the test.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::support::{
    Gateway, Upstream, eventually,
    gateway::{Setup, can_mount},
    upstream::text,
    wire::Wire,
};

/// A function named `f` and the hosts file with its addresses.
struct Cluster {
    provider: Upstream,
    network: [u8; 2],
    directory: tempfile::TempDir,
}

impl Cluster {
    /// A cluster without replicas; `None` where nobody can make mounts.
    async fn start() -> Option<Self> {
        can_mount("a host with several addresses").then_some(())?;
        let provider = Upstream::start().await;
        let cluster = Self {
            provider: provider.function("f", async |_| text(500, "the provider was asked")),
            network: [rand::random_range(1..=254), rand::random()],
            directory: tempfile::tempdir().expect("a directory"),
        };
        cluster.list(&[]);
        Some(cluster)
    }

    fn address(&self, number: u8) -> SocketAddr {
        let [b, c] = self.network;
        (Ipv4Addr::new(127, b, c, number), 8080).into()
    }

    fn hosts(&self) -> PathBuf {
        self.directory.path().join("hosts")
    }

    /// Gives the function these addresses.
    fn list(&self, numbers: &[u8]) {
        let lines = numbers
            .iter()
            .map(|number| format!("{} f\n", self.address(*number).ip()));
        std::fs::write(self.hosts(), lines.collect::<String>()).expect("writable");
    }

    async fn replica(&self, number: u8) -> Replica {
        Replica::start(self.address(number)).await
    }

    fn setup(&self, config: &str) -> Setup {
        let config = format!(
            "[provider]\ndirect_functions = true\n[reload]\nwatch = \"off\"\n[metrics]\nrefresh_interval = \"1h\"\n\
             [invoke]\nresolve_interval = \"10ms\"\n{config}"
        );
        Gateway::before(&self.provider.url())
            .hosts(self.hosts())
            .config(&config)
    }

    async fn gateway(&self) -> Gateway {
        self.setup("").start().await
    }
}

/// One replica; it ends when it is dropped.
struct Replica {
    calls: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    /// How long a call takes.
    takes: watch::Sender<Duration>,
    /// A permit lets a call of `/held` go.
    go: Arc<Semaphore>,
    _accepting: JoinSet<()>,
}

impl Replica {
    async fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a loopback address");
        let (calls, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (takes, lasting) = watch::channel(Duration::ZERO);
        let go = Arc::new(Semaphore::new(0));
        let mut accepting = JoinSet::new();
        let (counted, opened, gate) = (Arc::clone(&calls), Arc::clone(&connections), Arc::clone(&go));
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::Relaxed);
                let (counted, lasting, gate) = (Arc::clone(&counted), lasting.clone(), Arc::clone(&gate));
                let service = service_fn(move |request: Request<Incoming>| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let (takes, gate) = (*lasting.borrow(), Arc::clone(&gate));
                    async move {
                        if request.uri().path() == "/held" {
                            gate.acquire().await.expect("open").forget();
                        }
                        if !takes.is_zero() {
                            tokio::time::sleep(takes).await;
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(address.ip().to_string()))))
                    }
                });
                serving.spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            calls,
            connections,
            takes,
            go,
            _accepting: accepting,
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Calls until each of these was called.
async fn all_known(gateway: &Gateway, replicas: &[&Replica]) {
    for replica in replicas {
        let before = replica.calls();
        eventually("a call of each replica", || async {
            assert_eq!(
                gateway.get("/function/f").send().await.expect("an answer").status(),
                200
            );
            (replica.calls() > before).then_some(())
        })
        .await;
    }
}

/// This many calls on each of eight connections; how many each replica got.
async fn shares(gateway: &Gateway, calls: usize, replicas: &[Replica]) -> Vec<usize> {
    let before: Vec<_> = replicas.iter().map(Replica::calls).collect();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let address = gateway.address();
        callers.spawn(async move {
            let mut wire = Wire::connect(address).await;
            for _ in 0..calls {
                wire.send("GET /function/f HTTP/1.1\r\nHost: x\r\n\r\n").await;
                wire.until("\r\n\r\n127.").await;
            }
        });
    }
    callers.join_all().await;
    let counts = replicas.iter().zip(before);
    counts.map(|(replica, before)| replica.calls() - before).collect()
}

#[tokio::test]
async fn calls_are_shared_evenly_and_a_slow_replica_gets_fewer() {
    let Some(cluster) = Cluster::start().await else { return };
    let mut replicas = Vec::new();
    for number in 1..=4 {
        replicas.push(cluster.replica(number).await);
    }
    cluster.list(&[1, 2, 3, 4]);
    let gateway = cluster.gateway().await;
    all_known(&gateway, &replicas.iter().collect::<Vec<_>>()).await;
    let counts = shares(&gateway, 250, &replicas).await;
    assert!(counts.iter().all(|count| count.abs_diff(500) < 75), "{counts:?}");
    replicas[2].takes.send_replace(Duration::from_millis(30));
    let counts = shares(&gateway, 50, &replicas).await;
    let usual = counts.iter().sum::<usize>() / 4;
    assert!(counts[2] < usual / 2, "{counts:?}");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_passed_over() {
    let Some(cluster) = Cluster::start().await else { return };
    let replica = cluster.replica(5).await;
    cluster.list(&[1, 2, 3, 4, 5, 6]);
    // Also where calls are not repeated otherwise, whatever their method.
    for retries in [
        "",
        "[functions.\"*\"]\nretries = { attempts = 1, backoff = \"1m\", backoff_max = \"1m\" }",
    ] {
        let gateway = cluster.setup(retries).start().await;
        all_known(&gateway, &[&replica]).await;
        for _ in 0..50 {
            let answer = gateway.post("/function/f").body("x").send().await.expect("an answer");
            assert_eq!(
                (answer.status().as_u16(), answer.text().await.expect("text")),
                (200, cluster.address(5).ip().to_string())
            );
        }
        // All six were tried in the beginning, and again each second; not by each call.
        let retried = gateway
            .metric("gateway_function_retries_total{function_name=\"f\"}")
            .await;
        assert!(retried.is_some_and(|retried| retried < 60.0), "{retried:?}");
    }
}

#[tokio::test]
async fn addresses_come_and_go_and_calls_under_way_end() {
    let Some(cluster) = Cluster::start().await else { return };
    let (first, second) = (cluster.replica(1).await, cluster.replica(2).await);
    cluster.list(&[1]);
    let gateway = cluster.gateway().await;
    all_known(&gateway, &[&first]).await;
    let held = gateway.get("/function/f/held").send();
    let held = tokio::spawn(async move { held.await.expect("an answer").status() });
    eventually("the call", || async {
        gateway
            .metric("gateway_function_invocation_inflight{function_name=\"f\"}")
            .await
            .filter(|count| *count > 0.0)
    })
    .await;
    cluster.list(&[1, 2]);
    // It has no call under way, so from then on it gets all others.
    all_known(&gateway, &[&second]).await;
    cluster.list(&[2]);
    eventually("no more calls of the first", || async {
        let before = first.calls();
        for _ in 0..8 {
            gateway.get("/function/f").send().await.expect("an answer");
        }
        (first.calls() == before).then_some(())
    })
    .await;
    // What cannot be looked up is where it was.
    cluster.list(&[]);
    gateway
        .logged("the failure", |line| {
            line.to_string().contains("cannot look up a function's addresses")
        })
        .await;
    assert_eq!(
        gateway.get("/function/f").send().await.expect("an answer").status(),
        200
    );
    first.go.add_permits(1);
    assert_eq!(
        held.await.expect("no panic"),
        200,
        "under way on the address that is gone"
    );
}

#[tokio::test]
async fn point_17_addresses_and_their_connections_outlive_a_reload() {
    let Some(cluster) = Cluster::start().await else { return };
    let replicas = [cluster.replica(1).await, cluster.replica(2).await];
    cluster.list(&[1, 2]);
    let gateway = cluster.gateway().await;
    let both = [&replicas[0], &replicas[1]];
    all_known(&gateway, &both).await;
    shares(&gateway, 20, &replicas).await;
    // Each lane has connections of its own, and the first call after a reload is on the base lane.
    for _ in 0..20 {
        let call = gateway.get("/function/f").header("te", "trailers");
        assert_eq!(call.send().await.expect("an answer").status(), 200);
    }
    cluster.list(&[]);
    gateway
        .logged("the failure", |line| {
            line.to_string().contains("cannot look up a function's addresses")
        })
        .await;
    let opened = || both.map(|replica| replica.connections.load(Ordering::Relaxed));
    let before = opened();
    let file = std::fs::read_to_string(gateway.config_file()).expect("readable");
    let bounds = "max_idle_conns = 99\nidle_conn_timeout = \"80s\"\n[functions.\"*\"]\ntimeouts.total = \"59s\"\n";
    gateway.configure(&format!("{file}{bounds}")).await;
    for _ in 0..20 {
        assert_eq!(
            gateway.get("/function/f").send().await.expect("an answer").status(),
            200
        );
    }
    assert_eq!(opened(), before, "on the connections there were");
}
