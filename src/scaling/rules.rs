//! What holds for the replicas of one function: its labels, what the file says
//! above them, and the defaults of `[scaling]` (compatibility.md section 3.3). Pure.
//!
//! Labels that cannot be read are as if they were not there, as with OpenFaaS.

use std::collections::BTreeMap;

use super::decide::{Rules, Signal};
use crate::{
    config::{self, FunctionScaling, Ratio},
    model::label::{
        SCALE_DOWN_WINDOW, SCALE_MAX, SCALE_MIN, SCALE_PROPORTION, SCALE_TARGET, SCALE_TYPE, SCALE_ZERO,
        SCALE_ZERO_DURATION,
    },
};

/// Share of the target that is aimed at, where nothing says otherwise.
const PROPORTION: f64 = 0.9;

/// How many times the replicas that are ready a rise needs to be a sudden one.
const PANIC_THRESHOLD: f64 = 2.0;

/// Labels that ask for a decision; the others of `scale` are for alerts, too.
const ASKING: &[&str] = &[
    SCALE_TYPE,
    SCALE_TARGET,
    SCALE_PROPORTION,
    SCALE_ZERO_DURATION,
    SCALE_DOWN_WINDOW,
];

/// The rules of one function and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionRules {
    /// What holds.
    pub rules: Rules,
    /// Load of one replica.
    pub target: f64,
    /// Share of it that is aimed at.
    pub proportion: f64,
    /// Whether the function asks to be scaled.
    pub asked: bool,
}

/// What the file says of a function's replicas.
#[derive(Debug, Clone, Default)]
pub struct Above {
    /// Its table.
    pub table: Option<FunctionScaling>,
    /// Whether it has a schedule.
    pub has_schedule: bool,
    /// What that wants now.
    pub scheduled: Option<u32>,
}

/// The rules of a function with these labels.
pub fn of(labels: Option<&BTreeMap<String, String>>, above: &Above, defaults: &config::Scaling) -> FunctionRules {
    let label = |name: &str| labels?.get(name).map(|text| text.trim());
    let whole = |name| label(name)?.parse::<u64>().ok();
    let number = |name| {
        label(name)?
            .parse::<f64>()
            .ok()
            .filter(|number| *number > 0.0 && number.is_finite())
    };
    let time = |name| config::parse_duration(label(name)?);
    let table = above.table.as_ref();
    let from_table = |get: fn(&FunctionScaling) -> Option<u32>| table.and_then(get).map(u64::from);

    let own_min = from_table(|table| table.min).or_else(|| whole(SCALE_MIN));
    let zero = table
        .and_then(|table| table.zero)
        .or_else(|| label(SCALE_ZERO).map(|text| matches!(text, "true" | "1")))
        .unwrap_or(false)
        || own_min == Some(0);
    let asked = table.is_some() || above.has_schedule || zero || ASKING.iter().any(|name| label(name).is_some());
    let max = from_table(|table| table.max)
        .or_else(|| whole(SCALE_MAX))
        .unwrap_or_else(|| defaults.max.into())
        .max(1);
    let scheduled = above.scheduled.map(u64::from);
    let min = own_min.unwrap_or(1).max(scheduled.unwrap_or(0));
    let target = from_table(|table| table.target)
        .map(|target| target as f64)
        .or_else(|| number(SCALE_TARGET))
        .unwrap_or_else(|| defaults.target.into());
    let proportion = table
        .and_then(|table| table.target_proportion)
        .map(Ratio::as_f64)
        .or_else(|| number(SCALE_PROPORTION))
        .unwrap_or(PROPORTION);
    let signal = table
        .and_then(|table| table.signal.as_deref())
        .or_else(|| label(SCALE_TYPE).filter(|name| !name.is_empty()))
        .map_or(Signal::Rps, Signal::of);
    let idle_after = table
        .and_then(|table| table.zero_duration)
        .or_else(|| time(SCALE_ZERO_DURATION))
        .unwrap_or(defaults.zero_duration);
    let down_window = table
        .and_then(|table| table.down_window)
        .or_else(|| time(SCALE_DOWN_WINDOW))
        .unwrap_or(defaults.down_window);
    FunctionRules {
        rules: Rules {
            signal,
            per_replica: target * proportion,
            min: min.min(max),
            max,
            idle_after: (zero && scheduled.is_none()).then_some(idle_after),
            scheduled: scheduled.is_some(),
            down_window,
            stable_window: defaults.stable_window,
            panic_window: defaults.panic_window,
            panic_threshold: PANIC_THRESHOLD,
        },
        target,
        proportion,
        asked,
    }
}

impl FunctionRules {
    /// Whether replicas follow the load, and not only bounds.
    pub fn follows_load(&self) -> bool {
        self.asked && self.rules.signal != Signal::Static && self.rules.min < self.rules.max
    }
}

impl Above {
    /// What the file says of a function at a time.
    pub fn new(
        config: &config::Config,
        function: &crate::model::FunctionRef,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Self {
        let (table, schedule) = config.scaling_of(function);
        Self {
            table,
            has_schedule: !schedule.is_empty(),
            scheduled: config::scheduled_min(&schedule, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, Sources, parse};

    fn config(text: &str) -> Config {
        let text = format!("provider.kind = \"memory\"\n{text}");
        parse(Some(&text), &Sources::default()).expect("valid").config
    }

    fn rules(labels: &[(&str, &str)], text: &str) -> FunctionRules {
        let labels = labels
            .iter()
            .map(|(name, value)| (format!("com.openfaas.scale.{name}"), (*value).to_owned()))
            .collect();
        let config = config(text);
        let function = crate::model::FunctionRef::new("f", "openfaas-fn");
        let now = "2026-11-26T12:00:00Z".parse().expect("a time");
        of(Some(&labels), &Above::new(&config, &function, now), &config.scaling)
    }

    #[test]
    fn what_is_not_asked_for_is_not_scaled() {
        for (labels, file, asked) in [
            (&[][..], "", false),
            (&[("min", "2"), ("max", "8"), ("factor", "20")], "", false),
            (&[("type", "rps")], "", true),
            (&[("target", "10")], "", true),
            (&[("zero", "false")], "", false),
            (&[("zero", "true")], "", true),
            (&[("min", "0")], "", true),
            (&[], "[functions.f.scaling]\nmax = 3", true),
            (&[], "[functions.\"*\".scaling]\nmax = 3", true),
            (&[], "[functions.g.scaling]\nmax = 3", false),
            (
                &[],
                "[functions.f]\nschedule = [{ cron = \"0 8 * * *\", min = 3 }]",
                true,
            ),
        ] {
            assert_eq!(rules(labels, file).asked, asked, "{labels:?} {file}");
        }
    }

    #[test]
    fn labels_have_the_meaning_of_openfaas_pro() {
        let FunctionRules {
            rules,
            target,
            proportion,
            ..
        } = rules(
            &[
                ("type", "capacity"),
                ("target", "15"),
                ("target-proportion", "0.7"),
                ("min", "2"),
                ("max", "9"),
                ("zero", "true"),
                ("zero-duration", "10m"),
                ("down.window", "3m"),
            ],
            "",
        );
        assert_eq!((rules.signal, rules.min, rules.max), (Signal::Capacity, 2, 9));
        assert!((rules.per_replica - 10.5).abs() < 1e-9 && (target, proportion) == (15.0, 0.7));
        assert_eq!(rules.idle_after, Some(Duration::from_secs(600)));
        assert_eq!(rules.down_window, Duration::from_secs(180));
    }

    #[test]
    fn labels_that_cannot_be_read_are_not_there_and_the_file_is_above_them() {
        let odd = [
            ("type", ""),
            ("target", "-3"),
            ("max", "many"),
            ("target-proportion", "0"),
            ("zero", "perhaps"),
        ];
        let found = rules(&odd, "[scaling]\ntarget = 7\nmax = 4");
        assert_eq!(
            (
                found.rules.signal,
                found.rules.max,
                found.target,
                found.rules.idle_after
            ),
            (Signal::Rps, 4, 7.0, None)
        );
        let file = "prometheus.host = \"p\"\n[functions.f.scaling]\nsignal = \"backlog\"\ntarget = 5\ntarget_proportion = \"100%\"\nmin = 1\nmax = 2";
        let found = rules(&[("type", "rps"), ("min", "4"), ("max", "9")], file);
        assert_eq!(found.rules.signal, Signal::Custom("backlog".to_owned()));
        assert_eq!((found.rules.min, found.rules.max, found.rules.per_replica), (1, 2, 5.0));
    }

    #[test]
    fn a_schedule_keeps_replicas_warm() {
        let file = "[functions.f]\nschedule = [{ cron = \"0 8 * * *\", min = 3 }, { cron = \"0 18 * * *\", min = 0 }]";
        let found = rules(&[("zero", "true")], file).rules;
        assert_eq!((found.min, found.idle_after, found.scheduled), (3, None, true));
        let evening = file.replace("0 18", "0 10");
        let found = rules(&[("zero", "true")], &evening).rules;
        assert_eq!((found.min, found.scheduled), (1, false));
        assert!(found.idle_after.is_some());
    }
}
