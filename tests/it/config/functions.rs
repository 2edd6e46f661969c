//! Settings of single functions.

use std::time::Duration;

use faas_gateway::{
    config::{Bound, CallAnnotations, Config, RetrySettings, UpstreamProtocol},
    model::FunctionRef,
};

use super::{errors, file};

const FILE: &str = "\
[functions.\"*\"]\ntimeouts.total = \"10s\"\n\
[functions.figlet]\ntimeouts.total = \"20s\"\n\
[functions.\"figlet.dev\"]\ntimeouts.total = \"30s\"\n\
[functions.\"cows.openfaas-fn\"]\ntimeouts.total = \"40s\"\n\
[functions.\"a.b.openfaas-fn\"]\ntimeouts.total = \"50s\"\n\
[functions.plain]\n";

fn total(config: &Config, name: &str, namespace: &str) -> (u64, &'static str) {
    let Bound { after, setting } = config.function(&FunctionRef::new(name, namespace)).total;
    (after.as_secs(), setting)
}

#[test]
fn the_nearest_setting_applies() {
    let config = file(FILE).expect("valid").config;
    let own = "functions.\"NAME\".timeouts.total";
    let every = "functions.\"*\".timeouts.total";
    for (name, namespace, expected) in [
        ("figlet", "openfaas-fn", (20, own)),
        ("figlet", "", (20, own)),
        ("figlet", "dev", (30, own)),
        ("figlet", "staging", (10, every)),
        ("cows", "openfaas-fn", (40, own)),
        ("cows", "", (40, own)),
        ("a.b", "openfaas-fn", (50, own)),
        ("plain", "openfaas-fn", (10, every)),
        ("other", "openfaas-fn", (10, every)),
    ] {
        assert_eq!(total(&config, name, namespace), expected, "{name}.{namespace}");
    }
    let none = file("[invoke]\nupstream_timeout = \"7s\"").expect("valid").config;
    assert_eq!(total(&none, "figlet", "dev"), (7, "invoke.upstream_timeout"));
}

#[test]
fn without_a_default_namespace_a_table_is_about_every_name_that_may_be_its_function() {
    let table = |name: &str, seconds: u32, rest: &str| {
        format!("[functions.\"{name}\"]\ntimeouts.total = \"{seconds}s\"\n{rest}")
    };
    let internal = "visibility = \"internal\"\n";
    let tables = [
        table("*", 10, ""),
        table("a", 20, internal),
        table("a.dev", 21, ""),
        table("b.dev", 30, ""),
        table("c.dev", 40, ""),
        table("c.prod", 41, internal),
        table("d.e.dev", 50, internal),
    ];
    let read = |provider: &str| {
        let loaded = file(&format!(
            "provider.url = \"http://p/\"\n{provider}\nauth.basic = true\nserver.internal_listen = \"127.0.0.1:1\"\n{}",
            tables.concat()
        ));
        loaded.unwrap_or_else(|errors| panic!("{errors:?}"))
    };
    let (open, known) = (read(""), read("provider.default_namespace = \"main\""));
    for (name, namespace, by_guess, by_knowledge) in [
        ("a", "", (20, true, "a"), (20, true, "a")),
        ("a", "dev", (21, false, "a.dev"), (21, false, "a.dev")),
        ("a", "any", (20, true, "a"), (10, false, "a.any")),
        ("b", "", (30, false, "b.dev"), (10, false, "b")),
        ("b", "any", (10, false, "b"), (10, false, "b.any")),
        ("c", "", (40, true, "c.dev"), (10, false, "c")),
        ("c", "dev", (40, false, "c.dev"), (40, false, "c.dev")),
        ("d", "", (10, false, "d"), (10, false, "d")),
        ("d.e", "any", (10, false, "d.e"), (10, false, "d.e.any")),
    ] {
        let function = FunctionRef::new(name, namespace);
        for (loaded, expected) in [(&open, by_guess), (&known, by_knowledge)] {
            let settings = loaded.config.function(&function);
            let limits = loaded.config.limited_as(&function).to_string();
            let found = (settings.total.after.as_secs(), settings.internal, limits.as_str());
            assert_eq!(found, expected, "{function}");
        }
    }
    let warning = "functions.\"c.dev\" and functions.\"c.prod\": which of them a call of c without a namespace leads to \
                   is the provider's to know, and it gets the settings of the first; set provider.default_namespace, or \
                   add functions.\"c\"";
    assert_eq!(open.warnings, [warning]);
    assert_eq!(known.warnings, [""; 0]);
}

#[test]
fn mistakes_name_the_function() {
    for (content, place, expected) in [
        (
            "[functions.\"a/b\"]\n",
            "1:12",
            "functions.\"a/b\": 'a/b' is not a function name: use letters, digits, '-', '_' and '.'",
        ),
        (
            "[functions.\"a.dev\"]\ntimeouts.total = 0",
            "2:10",
            "functions.\"a.dev\".timeouts.total: must be longer than zero",
        ),
        (
            "[functions.a]\n[functions.\"a.openfaas-fn\"]\n",
            "2:12",
            "functions.\"a.openfaas-fn\": is the same function as functions.\"a\"; keep one of them",
        ),
        (
            "[functions.a]\ntimeouts.totl = 1",
            "2:10",
            "functions.a.timeouts.totl: unknown key; did you mean 'total'?",
        ),
    ] {
        assert_eq!(errors(file(content)), [format!("gateway.toml:{place}: {expected}")]);
    }
    let long = file("[functions.a]\ntimeouts.total = \"1h\"\n[server]\nwrite_timeout = \"2h\"").expect("valid");
    assert_eq!(
        long.config.function(&FunctionRef::new("a", "")).total.after,
        Duration::from_secs(3600)
    );
}

/// The retries of a function with this table and these annotations, without
/// `com.openfaas.retry.`, and what is wrong with those.
fn annotated(table: &str, annotations: &[(&str, &str)]) -> (Option<RetrySettings>, Vec<String>) {
    let config = file(&format!("[functions.a.retries]\n{table}")).expect("valid").config;
    let mut settings = config.function(&FunctionRef::new("a", ""));
    let given = annotations
        .iter()
        .map(|(name, value)| (format!("com.openfaas.retry.{name}"), (*value).to_owned()))
        .collect();
    let mistakes = settings.annotate(&CallAnnotations::of(Some(&given)));
    (settings.retries, mistakes)
}

#[test]
fn annotations_fill_what_the_file_leaves_out() {
    let (attempts, codes) = (("attempts", "4"), ("codes", "429, 503"));
    let own = || vec![502, 503, 504];
    for (table, annotations, expected, mistakes) in [
        (
            "annotations = true",
            &[attempts, codes][..],
            Some((4, vec![429, 503])),
            0,
        ),
        ("annotations = true", &[attempts], Some((4, own())), 0),
        ("annotations = true", &[codes], None, 0),
        ("annotations = true", &[], None, 0),
        (
            "annotations = true\nattempts = 1",
            &[attempts, codes],
            Some((1, vec![429, 503])),
            0,
        ),
        ("annotations = true\nattempts = 0", &[attempts], None, 0),
        (
            "annotations = true\nstatuses = [500]",
            &[attempts, codes],
            Some((4, vec![500])),
            0,
        ),
        ("annotations = false", &[attempts, codes], None, 0),
        ("attempts = 2", &[attempts, codes], Some((2, own())), 0),
        (
            "annotations = true\nattempts = 2",
            &[("codes", "500,x")],
            Some((2, own())),
            1,
        ),
        (
            "annotations = true\nattempts = 2",
            &[("codes", "500,200")],
            Some((2, own())),
            1,
        ),
        ("annotations = true", &[("attempts", "-1"), codes], None, 1),
        ("annotations = true", &[("attempts", "10")], Some((10, own())), 0),
        ("annotations = true", &[("attempts", "100")], Some((10, own())), 1),
        (
            "annotations = true",
            &[("attempts", "99999999999")],
            Some((10, own())),
            1,
        ),
    ] {
        let (found, told) = annotated(table, annotations);
        assert_eq!(told.len(), mistakes, "{table} {annotations:?}: {told:?}");
        let found = found.map(|retries| (retries.attempts, retries.statuses));
        assert_eq!(found, expected, "{table} {annotations:?}");
    }
}

#[test]
fn a_function_says_its_protocol_unless_the_file_does() {
    use UpstreamProtocol::{H2c, Http1};
    for (table, annotation, expected, mistakes) in [
        ("", None, (None, None), 0),
        ("", Some("h2c"), (None, Some(H2c)), 0),
        ("", Some(" http/1.1 "), (None, Some(Http1)), 0),
        ("", Some("h2"), (None, None), 1),
        ("upstream_protocol = \"http/1.1\"", Some("h2c"), (Some(Http1), None), 0),
        ("upstream_protocol = \"h2c\"", None, (Some(H2c), None), 0),
        ("upstream_protocol = \"h2c\"", Some("nonsense"), (Some(H2c), None), 0),
    ] {
        let config = file(&format!("[functions.a]\n{table}")).expect("valid").config;
        let mut settings = config.function(&FunctionRef::new("a", ""));
        let name = "com.openfaas.upstream.protocol".to_owned();
        let given = annotation.map(|value| [(name, value.to_owned())].into());
        let told = settings.annotate(&CallAnnotations::of(given.as_ref()));
        assert_eq!(told.len(), mistakes, "{table} {annotation:?}: {told:?}");
        let found = (settings.protocol, settings.own_protocol);
        assert_eq!(found, expected, "{table} {annotation:?}");
    }
}

#[test]
fn annotations_give_the_waits_that_the_file_leaves_out() {
    let (min, max) = (|text| ("min_wait", text), |text| ("max_wait", text));
    for (table, annotations, expected, mistakes) in [
        ("", [min("10s"), max("2m")], (10_000, 120_000), 0),
        ("", [min("1"), max("1500ms")], (1000, 1500), 0),
        ("", [min("10s"), max("")], (10_000, 10_000), 1),
        ("", [min("-1s"), max("10ms")], (10, 10), 1),
        ("", [min("2s"), max("1s")], (25, 250), 1),
        ("backoff = \"2s\"", [min("9s"), max("3s")], (2000, 3000), 0),
        ("backoff = \"2s\"", [min("9s"), max("1s")], (2000, 2000), 1),
        ("backoff_max = \"1s\"", [min("50ms"), max("9s")], (50, 1000), 0),
    ] {
        let (found, told) = annotated(&format!("annotations = true\nattempts = 1\n{table}"), &annotations);
        assert_eq!(told.len(), mistakes, "{table} {annotations:?}: {told:?}");
        let found = found.expect("attempts are set");
        let found = (found.backoff.as_millis(), found.backoff_max.as_millis());
        assert_eq!(found, expected, "{table} {annotations:?}");
    }
}

#[test]
fn what_does_not_go_together_is_told_once_where_it_is_strongest() {
    let star = "[functions.\"*\"]\n";
    for (content, expected) in [
        // Inherited: told at "*" only.
        (
            format!("{star}cors = {{ origins = [\"*\"], credentials = true }}\n[functions.a]\nmax_in_flight = 1"),
            vec!["functions.\"*\".cors.credentials"],
        ),
        // Half of it is each one's.
        (
            format!("{star}cors.origins = [\"*\"]\n[functions.a]\ncors.credentials = true"),
            vec!["functions.a.cors.credentials"],
        ),
        (
            format!("{star}cors.credentials = true\n[functions.a]\ncors.origins = [\"*\"]"),
            vec!["functions.\"*\".cors.credentials"],
        ),
        // Missing in both.
        (
            format!("{star}rate_limit.per = \"1s\"\n[functions.a]\nrate_limit.burst = 2"),
            vec!["functions.\"*\".rate_limit.requests"],
        ),
        // A function's own mistake beside the same one of all.
        (
            format!(
                "{star}breaker = {{ open = \"2s\", open_max = \"1s\" }}\n\
                 [functions.a]\nbreaker = {{ open = \"2s\", open_max = \"1s\" }}"
            ),
            vec!["functions.\"*\".breaker.open_max", "functions.a.breaker.open_max"],
        ),
        // A route's part.
        (
            "[functions.a]\nretries.backoff = \"1s\"\n[[routes]]\nfunction = \"a\"\nretries.backoff_max = \"1ms\""
                .to_owned(),
            vec!["routes.0.retries.backoff_max"],
        ),
    ] {
        let found = file(&content).expect_err("a mistake");
        let keys: Vec<_> = found.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, expected, "{content}");
        assert!(
            found.iter().all(|error| error.origin.starts_with("gateway.toml:")),
            "{found:?}"
        );
    }
}

#[test]
fn what_has_no_effect_is_warned_about() {
    for (content, expected) in [
        (
            "[functions.a]\nmax_queued = 5\nqueue_timeout = \"1s\"",
            &[
                "functions.a.max_queued is set but has no effect: max_in_flight is not set",
                "functions.a.queue_timeout is set but has no effect: max_in_flight is not set",
            ][..],
        ),
        (
            "[functions.\"*\"]\nmax_in_flight = 1\n[functions.a]\nmax_queued = 5",
            &[],
        ),
        ("[functions.a]\nmax_in_flight = 0\nmax_queued = 5", &[]),
        (
            "[functions.a]\ntimeouts = { first_byte = \"61s\", idle = \"2m\" }",
            &[
                "functions.a.timeouts.first_byte (1m1s) never fires: the whole answer has 1m",
                "functions.a.timeouts.idle (2m) never fires: the whole answer has 1m",
            ],
        ),
        ("[functions.a]\ntimeouts = { first_byte = \"60s\", idle = 0 }", &[]),
        (
            "[functions.a]\nbreaker.open = \"1s\"",
            &["functions.a.breaker.failures is not set: the other keys of breaker have no effect"],
        ),
        (
            "[functions.a]\nretries.budget = \"5%\"",
            &["functions.a.retries.attempts is not set: the other keys of retries have no effect"],
        ),
        ("[functions.a]\nretries = { budget = \"5%\", annotations = true }", &[]),
        (
            "[functions.a]\ncors.max_age = \"1s\"",
            &["functions.a.cors.origins is not set: the other keys of cors have no effect"],
        ),
        (
            "[functions.a]\nvisibility = \"internal\"",
            &[
                "functions.a.visibility is \"internal\" but server.internal_listen is not set: nothing leads to that function",
            ],
        ),
        (
            "[functions.a]\nvisibility = \"internal\"\n[server]\ninternal_listen = \"127.0.0.1:1\"",
            &[],
        ),
    ] {
        let loaded = file(content).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!(loaded.warnings, expected, "{content}");
    }
}

#[test]
fn the_internal_listener_has_its_own_address_and_is_as_careful_as_the_others() {
    for (content, expected) in [
        (
            "[server]\nlisten = \"127.0.0.1:1\"\ninternal_listen = \"127.0.0.1:1\"",
            "gateway.toml:3:1: server.internal_listen: 127.0.0.1:1 is already the address of server.listen",
        ),
        (
            "[server]\ninternal_listen = \"127.0.0.1:8082\"",
            "gateway.toml:2:1: server.internal_listen: 127.0.0.1:8082 is already the address of metrics.listen",
        ),
        (
            "[server]\ninternal_listen = \"0.0.0.0:1\"",
            "gateway.toml:2:1: server.internal_listen: 0.0.0.0:1 can be reached from other machines",
        ),
        (
            "[server]\nbase_path = \"/a b\"",
            "gateway.toml:2:1: server.base_path: has a character that no path can have, found '/a b'",
        ),
    ] {
        let found = errors(file(content));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }
    for (written, read) in [
        ("", ""),
        ("/", ""),
        ("/faas", "/faas"),
        ("/faas/", "/faas"),
        ("/a/b", "/a/b"),
    ] {
        let loaded = file(&format!("[server]\nbase_path = \"{written}\"")).expect("valid");
        assert_eq!(loaded.config.server.base_path, read);
    }
}

/// A value for each key in three tables. The strongest that says something counts.
const LEVELS: &str = r#"
[functions."*"]
timeouts = { first_byte = "1s", idle = "1s", total = "11s", activation = "1s" }
body = { max_request = 1, max_response = 1 }
max_in_flight = 1
max_queued = 1
queue_timeout = "1s"
rate_limit = { requests = 1, per = "1s", burst = 1, by = "header", header = "X-1" }
retries = { attempts = 1, statuses = [501], methods = ["A"], budget = 0.1, backoff = "1ms", backoff_max = "1s", max_body = 1 }
breaker = { failures = 1, statuses = [501], open = "1s", open_max = "1m", trials = 1 }
headers.request = { set = { X-A = "1", X-B = "1" }, remove = ["X-1"] }
headers.response = { set = { X-A = "1" }, remove = ["X-1"] }
cors = { origins = ["http://1"], methods = ["A"], headers = ["X-1"], expose = ["X-1"], credentials = true, max_age = 1 }
visibility = "internal"

[functions.own]
timeouts = { first_byte = "2s", idle = "2s", total = "12s", activation = "2s" }
body = { max_request = 2, max_response = 2 }
max_in_flight = 2
max_queued = 2
queue_timeout = "2s"
rate_limit = { requests = 2, per = "2s", burst = 2, by = "header", header = "X-2" }
retries = { attempts = 2, statuses = [502], methods = ["B"], budget = 0.2, backoff = "2ms", backoff_max = "2s", max_body = 2 }
breaker = { failures = 2, statuses = [502], open = "2s", open_max = "2m", trials = 2 }
headers.request = { set = { X-B = "2" }, remove = ["X-2"] }
headers.response = { set = { X-A = "2" }, remove = ["X-2"] }
cors = { origins = ["http://2"], methods = ["B"], headers = ["X-2"], expose = ["X-2"], credentials = false, max_age = 2 }
visibility = "public"

[functions.off]
timeouts = { first_byte = 0, idle = 0 }
body = { max_request = 0, max_response = 0 }
max_in_flight = 0
rate_limit.requests = 0
retries.attempts = 0
breaker.failures = 0
headers.request.remove = []
headers.response.remove = []
cors.origins = []
visibility = "public"

[server]
internal_listen = "127.0.0.1:1"

[[routes]]
function = "own"
timeouts = { first_byte = "3s", idle = "3s", total = "13s", activation = "3s" }
body = { max_request = 3, max_response = 3 }
retries = { attempts = 3, statuses = [503], methods = ["C"], budget = 0.3, backoff = "3ms", backoff_max = "3s", max_body = 3 }
headers.request = { set = { X-B = "3" }, remove = [] }
headers.response = { set = { X-A = "3" }, remove = ["X-3"] }
cors = { origins = ["http://3"], methods = ["C"], headers = ["X-3"], expose = [], credentials = true, max_age = 3 }
"#;

/// What a level above comes to where its values are all the same number.
fn expected(settings: &faas_gateway::config::FunctionSettings) -> [u64; 13] {
    let bound = |bound: Option<Bound>| bound.map_or(0, |bound| bound.after.as_secs());
    let retries = settings.retries.as_ref().expect("retries");
    let cors = settings.cors.as_ref().expect("cors");
    let number = |text: &str| u64::from(text.bytes().last().expect("text") - b'0');
    [
        settings.total.after.as_secs() - 10,
        bound(settings.first_byte),
        bound(settings.idle),
        settings.activation.after.as_secs(),
        settings.max_request.expect("set").bytes,
        settings.max_response.expect("set").bytes,
        retries.attempts.into(),
        u64::from(retries.statuses[0]) - 500,
        u64::from(retries.methods[0].as_str().as_bytes()[0] - b'A') + 1,
        u64::try_from(retries.backoff.as_millis()).expect("short"),
        retries.max_body,
        number(&cors.origins[0]),
        cors.max_age.expect("set").as_secs(),
    ]
}

#[test]
fn every_key_comes_from_the_strongest_table_that_sets_it() {
    let config = file(LEVELS).unwrap_or_else(|errors| panic!("{errors:?}")).config;
    let named = |name: &str| config.function(&FunctionRef::new(name, ""));
    let set = |settings: &faas_gateway::config::FunctionSettings| -> Vec<String> {
        let set = settings.request_headers.set.iter();
        set.map(|(name, value)| format!("{name}={}", value.to_str().expect("text")))
            .collect()
    };
    let removed = |settings: &faas_gateway::config::FunctionSettings| settings.request_headers.remove.len();

    let every = named("other");
    assert_eq!(expected(&every), [1; 13]);
    assert_eq!(set(&every), ["x-a=1", "x-b=1"]);
    assert!(every.internal);
    let limit = every.in_flight.expect("set");
    assert_eq!((limit.calls, limit.queued, limit.wait.as_secs()), (1, 1, 1));

    let own = named("own");
    assert_eq!(expected(&own), [2; 13]);
    assert_eq!(set(&own), ["x-a=1", "x-b=2"], "key by key");
    assert!(!own.internal);
    let limit = own.in_flight.expect("set");
    assert_eq!((limit.calls, limit.queued, limit.wait.as_secs()), (2, 2, 2));
    let rate = own.rate_limit.clone().expect("set");
    assert_eq!((rate.requests, rate.per.as_secs(), rate.burst), (2, 2, 2));
    let header = faas_gateway::config::RateBy::Header(http::HeaderName::from_static("x-2"));
    assert_eq!(rate.by, header);
    let breaker = own.breaker.clone().expect("set");
    assert_eq!((breaker.failures, breaker.open.as_secs(), breaker.trials), (2, 2, 2));

    let route = config.function_on_route(&FunctionRef::new("own", ""), config.routes.first());
    assert_eq!(expected(&route), [3; 13]);
    assert_eq!(set(&route), ["x-a=1", "x-b=3"]);
    assert_eq!((removed(&own), removed(&route)), (1, 0), "an empty list turns off");
    assert!(
        route
            .cors
            .as_ref()
            .is_some_and(|cors| cors.credentials && cors.expose.is_empty())
    );
    // What a route does not have stays the function's.
    assert_eq!(
        (&route.breaker, &route.rate_limit, route.in_flight),
        (&own.breaker, &own.rate_limit, own.in_flight)
    );

    let off = named("off");
    assert_eq!(
        (off.first_byte, off.idle, off.max_request, off.max_response),
        (None, None, None, None)
    );
    assert_eq!((off.in_flight, &off.rate_limit, &off.retries), (None, &None, &None));
    assert_eq!((&off.breaker, &off.cors, off.internal), (&None, &None, false));
    assert_eq!(removed(&off), 0);
}

#[test]
fn callers_are_told_the_key_that_sets_a_limit() {
    let content = "[functions.\"*\"]\nmax_in_flight = 1\nbreaker.failures = 1\nbody.max_request = 1\n\
                   rate_limit = { requests = 1, burst = 2 }\n\
                   [functions.own]\nmax_queued = 1\nbreaker.open = \"1s\"\nrate_limit = { requests = 2 }\nbody.max_response = 1\n\
                   [functions.other]\nqueue_timeout = \"1s\"\n\
                   [[routes]]\npath = \"/\"\nfunction = \"own\"\nbody.max_response = 2\n";
    let config = file(content).unwrap_or_else(|errors| panic!("{errors:?}")).config;
    let of = |name: &str, route: bool| {
        let route = config.routes.first().filter(|_| route);
        let settings = config.function_on_route(&FunctionRef::new(name, ""), route);
        let keys = settings.keys;
        let sizes = [settings.max_request, settings.max_response];
        let sizes = sizes.map(|bound| bound.map_or("", |bound| bound.setting));
        let queue = [keys.max_in_flight, keys.max_queued, keys.queue_timeout];
        [&queue[..], &[keys.rate_limit, keys.breaker], &sizes].concat()
    };
    let own = |key: &str| format!("functions.\"NAME\".{key}");
    let every = |key: &str| format!("functions.\"*\".{key}");
    for (name, route, queued, wait, rate, response) in [
        (
            "own",
            false,
            own("max_queued"),
            every("queue_timeout"),
            own("rate_limit"),
            own("body.max_response"),
        ),
        (
            "own",
            true,
            own("max_queued"),
            every("queue_timeout"),
            own("rate_limit"),
            "routes.body.max_response".to_owned(),
        ),
        (
            "other",
            false,
            every("max_queued"),
            own("queue_timeout"),
            every("rate_limit"),
            String::new(),
        ),
        (
            "none",
            false,
            every("max_queued"),
            every("queue_timeout"),
            every("rate_limit"),
            String::new(),
        ),
    ] {
        let (running, breaker, request) = (every("max_in_flight"), every("breaker"), every("body.max_request"));
        let expected = [running, queued, wait, rate, breaker, request, response];
        assert_eq!(of(name, route), expected, "{name}");
    }
}

#[test]
fn defaults_give_way_to_the_bound_beside_them() {
    let content = "[functions.a]\nretries = { attempts = 1, backoff_max = \"10ms\" }\n\
                   breaker = { failures = 1, open_max = \"2s\" }\n\
                   [functions.b]\nretries = { attempts = 1, backoff = \"1s\" }\n\
                   breaker = { failures = 1, open = \"2m\" }";
    let config = file(content).expect("valid").config;
    for (name, backoff, open) in [("a", (10, 10), (2, 2)), ("b", (1000, 1000), (120, 120))] {
        let settings = config.function(&FunctionRef::new(name, ""));
        let retries = settings.retries.expect("set");
        let breaker = settings.breaker.expect("set");
        assert_eq!(
            (retries.backoff.as_millis(), retries.backoff_max.as_millis()),
            backoff,
            "{name}"
        );
        assert_eq!((breaker.open.as_secs(), breaker.open_max.as_secs()), open, "{name}");
    }
}

#[test]
fn an_unset_key_is_explained_with_what_all_functions_have() {
    let loaded = file(
        "[functions.\"*\"]\nmax_in_flight = 7\nheaders.request.set.X-Key = \"hunter2\"\n[functions.x]\nmax_queued = 1",
    )
    .expect("valid");
    let explained =
        |key: &str| faas_gateway::config::explain(key, &loaded.config, &loaded.origins, &[]).expect("a key");
    for name in ["x", "unnamed"] {
        let unset = explained(&format!("functions.{name}.max_in_flight"));
        assert_eq!((unset.value, unset.source), (None, None));
        let base = unset.base.expect("a base");
        assert_eq!((base.value.as_str(), base.source.as_str()), ("7", "gateway.toml:2:1"));
    }
    assert_eq!(
        explained("functions.x.headers.request.set.X-Key")
            .base
            .expect("a base")
            .value,
        "\"***\""
    );
    assert_eq!(explained("functions.x.max_queued").base, None);
    assert_eq!(explained("functions.x.visibility").base, None);
    assert_eq!(explained("functions.\"*\".visibility").base, None);
}

/// The names are written in `proxy::headers`, which configuration cannot see.
#[test]
fn headers_about_the_call_are_the_gateways_and_the_others_are_not() {
    use faas_gateway::proxy::headers;
    let set = |direction: &str, name: &str| file(&format!("[functions.a]\nheaders.{direction}.set.{name} = \"x\""));
    for direction in ["request", "response"] {
        for name in [
            headers::CALL_ID,
            headers::START_TIME,
            headers::DURATION_SECONDS,
            headers::INTERNAL,
        ] {
            let found = errors(set(direction, name.as_str()));
            let end = format!("{name}: cannot be set: it is what the gateway says about the call");
            assert!(found.len() == 1 && found[0].ends_with(&end), "{found:?}");
        }
        for name in [headers::SERVED_BY, headers::FORWARDED_FOR] {
            assert!(set(direction, name.as_str()).is_ok(), "{name}");
        }
    }
}

#[test]
fn explain_says_that_a_key_is_not_set_and_what_its_base_is() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("gateway.toml");
    std::fs::write(&path, "[functions.\"*\"]\nmax_in_flight = 7\n").expect("write");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_faas-gateway"))
        .args(["config", "explain", "functions.x.max_in_flight", "--config"])
        .arg(&path)
        .env_clear()
        .env("HOME", "/h")
        .output()
        .expect("runs");
    let expected = format!(
        "functions.x.max_in_flight is not set\nbase: 7 of functions.\"*\" from {}:2:1\ndefault: none\n\
         live: a change takes effect at once\n",
        path.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
