//! The pure parts of the road to functions, again and again: `instructions.py`
//! counts the instructions of each under callgrind, which a busy machine does not
//! change as it changes times.
//!
//! usage: pure CASE TIMES

use std::{
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use faas_gateway::{
    config::{self, Sources},
    proxy::{
        fast::{
            answer, head,
            write::{self, Added, CallLine, Target, Told},
        },
        headers::{self, CallHeaders},
    },
    routing::{Asked, RouteTable},
    scaling::{
        decide::{History, Rules, Seen},
        rules::{self, Above},
    },
    trace::TraceContext,
};
use http::{HeaderMap, HeaderValue, Method, header};

const REQUEST: &[u8] =
    b"POST /function/figlet/a/b?x=1 HTTP/1.1\r\nHost: gateway.example:8080\r\nUser-Agent: curl/8.5.0\r\n\
    Accept: */*\r\nContent-Type: application/json\r\nContent-Length: 1024\r\nX-Request-Id: 0123456789\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\
    Date: Thu, 26 Nov 2026 00:00:00 GMT\r\nServer: figlet\r\nCache-Control: no-store\r\n\r\n";

fn call() -> CallLine {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    CallLine::new(b"0b8ce0ef-3f3c-4f7b-9d3f-6a1f5f0a7c11", now).expect("short")
}

fn read_request() {
    let mut storage = head::storage();
    black_box(matches!(
        head::read(&mut storage, black_box(REQUEST)),
        head::Read::Plain(_)
    ));
}

fn write_request(out: &mut Vec<u8>, call: &CallLine) {
    let mut storage = head::storage();
    let head::Read::Plain(head) = head::read(&mut storage, black_box(REQUEST)) else {
        panic!("it is plain");
    };
    out.clear();
    let to = Target {
        base: "",
        rest: "/a/b?x=1",
    };
    write::start(out, head.method.as_bytes(), to, b"127.0.0.1:8080", None);
    let told = Told {
        call,
        peer: "192.0.2.7:40000",
        proto: "http",
        prefix: "",
        trace: None,
    };
    write::fields(out, &head, &told);
    black_box(&out);
}

fn answer(out: &mut Vec<u8>, call: &CallLine) {
    let mut storage = answer::storage();
    let answer::Read::Final(head) = answer::read(&mut storage, black_box(ANSWER), false) else {
        panic!("it is an answer");
    };
    out.clear();
    let added = Added {
        call,
        took: Duration::from_micros(1234),
        date: b"Thu, 26 Nov 2026 00:00:00 GMT",
        close: false,
    };
    write::answer(out, &head, &added);
    black_box(&out);
}

/// What the base lane does to a request's headers.
fn base_headers(call: &CallHeaders, peer: SocketAddr) {
    let mut map = HeaderMap::new();
    for (name, value) in [
        (header::HOST, "gateway.example:8080"),
        (header::USER_AGENT, "curl/8.5.0"),
        (header::ACCEPT, "*/*"),
        (header::CONNECTION, "keep-alive, x-hop"),
        (header::CONTENT_TYPE, "application/json"),
    ] {
        map.insert(name, HeaderValue::from_static(value));
    }
    headers::to_upstream(&mut map, call, peer, None);
    black_box(&map);
}

fn routes() -> RouteTable {
    let routes: Vec<String> = (0..1000)
        .map(|number| format!("[[routes]]\nhosts = [\"h{number}.example\"]\npath = \"/p{number}\"\nfunction = \"f\"\n"))
        .collect();
    let routes = routes.concat();
    let text = format!("provider.kind = \"memory\"\n{routes}");
    let loaded = config::parse(Some(&text), &Sources::default()).expect("valid");
    RouteTable::new(&loaded.config)
}

fn route(table: &RouteTable) {
    let asked = Asked {
        host: Some(black_box("h500.example")),
        path: "/p500/rest",
        method: &Method::GET,
        preflight: None,
    };
    black_box(table.find(asked).is_some());
}

fn decide(history: &mut History, rules: &Rules, second: u64) {
    let seen = Seen {
        at: Duration::from_secs(second * 2),
        desired: 4,
        ready: 4,
        load: Some(150.0 + (second % 7) as f64),
        busy: true,
    };
    black_box(history.decide(seen, rules));
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(case), Some(times)) = (arguments.next(), arguments.next().and_then(|times| times.parse().ok())) else {
        // `cargo test --benches` and the like run it without.
        return;
    };
    let times: u64 = times;
    let (call, mut out) = (call(), Vec::with_capacity(4096));
    let call_headers = CallHeaders {
        call_id: HeaderValue::from_static("0b8ce0ef-3f3c-4f7b-9d3f-6a1f5f0a7c11"),
        start_time: HeaderValue::from_static("1790000000000000000"),
        request_changes: None,
    };
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 4711));
    match case.as_str() {
        "read_request" => (0..times).for_each(|_| read_request()),
        "read_and_write_request" => (0..times).for_each(|_| write_request(&mut out, &call)),
        "read_and_write_answer" => (0..times).for_each(|_| answer(&mut out, &call)),
        "base_lane_headers" => (0..times).for_each(|_| base_headers(&call_headers, peer)),
        "trace_context" => (0..times).for_each(|_| {
            black_box(TraceContext::parse(black_box(
                b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )));
        }),
        "route_of_1000" => {
            let table = routes();
            (0..times).for_each(|_| route(&table));
        }
        "scaling_decision" => {
            let (mut history, rules) = (History::default(), rules());
            (0..times).for_each(|second| decide(&mut history, &rules, second));
        }
        _ => panic!("there is no case {case}"),
    }
}

/// What the defaults come to.
fn rules() -> Rules {
    let defaults = config::parse(Some("provider.kind = \"memory\""), &Sources::default()).expect("valid");
    rules::of(None, &Above::default(), &defaults.config.scaling).rules
}
