//! Settings of single functions.

use std::time::Duration;

use faas_gateway::{
    config::{Bound, Config},
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
fn without_a_default_namespace_names_are_as_called() {
    let remote = "[provider]\nurl = \"http://p/\"\n[functions.figlet]\ntimeouts.total = \"20s\"";
    let config = file(remote).expect("valid").config;
    assert_eq!(total(&config, "figlet", "").0, 20);
    assert_eq!(total(&config, "figlet", "dev").0, 60);
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

#[test]
fn annotations_fill_what_the_file_leaves_out() {
    let attempts = ("com.openfaas.retry.attempts", "4");
    let codes = ("com.openfaas.retry.codes", "429, 503");
    for (table, annotations, expected, mistakes) in [
        (
            "annotations = true",
            &[attempts, codes][..],
            Some((4, vec![429, 503])),
            0,
        ),
        ("annotations = true", &[attempts], Some((4, vec![502, 503, 504])), 0),
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
        ("attempts = 2", &[attempts, codes], Some((2, vec![502, 503, 504])), 0),
        (
            "annotations = true\nattempts = 2",
            &[("com.openfaas.retry.codes", "500,x")],
            Some((2, vec![502, 503, 504])),
            1,
        ),
        (
            "annotations = true",
            &[("com.openfaas.retry.attempts", "-1"), codes],
            None,
            1,
        ),
    ] {
        let config = file(&format!("[functions.a.retries]\n{table}")).expect("valid").config;
        let mut settings = config.function(&FunctionRef::new("a", ""));
        let given = annotations
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(settings.annotate(&given).len(), mistakes, "{table} {annotations:?}");
        let found = settings.retries.map(|retries| (retries.attempts, retries.statuses));
        assert_eq!(found, expected, "{table} {annotations:?}");
    }
}
