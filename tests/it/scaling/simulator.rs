//! The autoscaler's decisions under loads of every shape, without a clock: the
//! load, the start-up time of replicas and the decisions are simulated.
//!
//! `make plots` draws them into `docs/scaling`.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use faas_gateway::{
    config::{self, Sources},
    scaling::{
        decide::{History, Reason, Rules, Seen},
        rules::{self, Above},
    },
};
use plotters::prelude::*;

/// Seconds between two decisions.
const TICK: u32 = 2;

/// Seconds until a new replica can take calls.
const START_UP: u32 = 4;

/// What the defaults come to.
fn rules() -> Rules {
    let defaults = config::parse(Some("provider.kind = \"memory\""), &Sources::default()).expect("valid");
    rules::of(None, &Above::default(), &defaults.config.scaling).rules
}

/// What was at one time.
#[derive(Debug, Clone, Copy)]
struct Point {
    second: u32,
    load: f64,
    needed: u64,
    desired: u64,
    ready: u64,
    reason: Reason,
}

/// Runs a load through the decisions.
fn simulate(rules: &Rules, seconds: u32, load: impl Fn(u32) -> f64) -> Vec<Point> {
    let mut history = History::default();
    let mut desired = rules.min;
    let mut ready = rules.min;
    // Replicas on their way, by when they are ready.
    let mut starting: VecDeque<(u32, u64)> = VecDeque::new();
    let mut points = Vec::new();
    for second in (0..seconds).step_by(TICK as usize) {
        while starting.front().is_some_and(|(at, _)| *at <= second) {
            let (_, count) = starting.pop_front().expect("one");
            ready = (ready + count).min(desired);
        }
        let load = load(second);
        let seen = Seen {
            at: Duration::from_secs(second.into()),
            desired,
            ready,
            load: Some(load),
            busy: load > 0.0,
        };
        let decision = history.decide(seen, rules);
        if decision.replicas > desired {
            starting.push_back((second + START_UP, decision.replicas - desired));
        } else if decision.replicas < desired {
            ready = ready.min(decision.replicas);
            starting.clear();
        }
        desired = decision.replicas;
        points.push(Point {
            second,
            load,
            needed: formula(rules, load),
            desired,
            ready,
            reason: decision.reason,
        });
    }
    points
}

/// Replicas that a steady load needs.
fn formula(rules: &Rules, load: f64) -> u64 {
    let mut needed = rules.min.max(1);
    while needed < rules.max && (needed as f64) * rules.per_replica < load {
        needed += 1;
    }
    needed
}

fn step(second: u32) -> f64 {
    match second {
        0..60 => 20.0,
        60..300 => 400.0,
        _ => 100.0,
    }
}

fn ramp(second: u32) -> f64 {
    let up = f64::from(second.min(300)) / 300.0;
    let down = f64::from(second.saturating_sub(300).min(300)) / 300.0;
    700.0 * (up - down).max(0.0)
}

fn oscillation(second: u32) -> f64 {
    if second % 30 < 15 { 100.0 } else { 500.0 }
}

fn spike(second: u32) -> f64 {
    if (120..130).contains(&second) { 800.0 } else { 30.0 }
}

fn flood(second: u32) -> f64 {
    if second < 60 { 0.0 } else { 1e6 }
}

/// Calls a second of a gateway under real callers, every other second; see
/// the beginning of the file.
fn recorded() -> Vec<f64> {
    include_str!("../../fixtures/load/recorded.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.trim().parse().expect("a number"))
        .collect()
}

/// How often replicas went the other way than before.
fn turns(points: &[Point]) -> usize {
    let moves: Vec<i64> = points
        .windows(2)
        .map(|pair| pair[1].desired.cast_signed() - pair[0].desired.cast_signed())
        .filter(|change| *change != 0)
        .collect();
    moves
        .windows(2)
        .filter(|pair| pair[0].signum() != pair[1].signum())
        .count()
}

/// The longest time in seconds in which replicas could not take the load.
fn starved(points: &[Point], rules: &Rules) -> u32 {
    let (mut longest, mut since) = (0, None);
    for point in points {
        let possible = rules.max as f64 * rules.per_replica;
        if point.ready as f64 * rules.per_replica < point.load.min(possible) * 0.9 {
            let since = *since.get_or_insert(point.second);
            longest = longest.max(point.second + TICK - since);
        } else {
            since = None;
        }
    }
    longest
}

#[test]
fn a_steady_load_has_the_replicas_of_the_formula() {
    for load in [0.0, 10.0, 44.0, 46.0, 200.0, 449.0, 899.0, 2000.0] {
        let points = simulate(&rules(), 300, |_| load);
        for point in points.iter().skip(60) {
            assert!(point.desired.abs_diff(point.needed) <= 1, "{load}: {point:?}");
        }
    }
    let points = simulate(&rules(), 500, step);
    for point in points
        .iter()
        .filter(|point| (150..300).contains(&point.second) || point.second > 400)
    {
        assert!(point.desired.abs_diff(point.needed) <= 1, "{point:?}");
    }
}

#[test]
fn a_load_that_goes_up_and_down_moves_replicas_up_once() {
    let points = simulate(&rules(), 600, oscillation);
    assert!(turns(&points) <= 1, "{} turns: {points:?}", turns(&points));
    let settled = points.iter().skip(30);
    assert!(settled.clone().all(|point| point.desired >= 6), "{points:?}");
}

#[test]
fn a_sudden_load_is_met_soon_and_a_slow_one_is_followed() {
    for (name, points, longest) in [
        ("step", simulate(&rules(), 500, step), 16),
        ("ramp", simulate(&rules(), 800, ramp), 24),
        ("spike", simulate(&rules(), 400, spike), 16),
    ] {
        let starved = starved(&points, &rules());
        assert!(starved <= longest, "{name}: {starved} s");
    }
    let spike = simulate(&rules(), 400, spike);
    assert!(spike.iter().any(|point| point.reason == Reason::Panic));
    assert_eq!(spike.last().expect("points").desired, 1);
}

#[test]
fn bounds_hold_whatever_comes() {
    let rules = Rules {
        min: 2,
        max: 7,
        ..rules()
    };
    let loads: [fn(u32) -> f64; 5] = [step, ramp, oscillation, spike, flood];
    for load in loads {
        for point in simulate(&rules, 700, load) {
            assert!((2..=7).contains(&point.desired), "{point:?}");
        }
    }
}

#[test]
fn a_recorded_load_is_followed() {
    let load = recorded();
    let seconds = u32::try_from(load.len()).expect("few") * TICK;
    let points = simulate(&rules(), seconds, |second| load[(second / TICK) as usize]);
    assert!(starved(&points, &rules()) <= 20, "{points:?}");
    assert!(turns(&points) <= 4, "{points:?}");
}

/// Draws a run: the load over its own scale, replicas over theirs.
fn draw(name: &str, points: &[Point]) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (900, 320)).into_drawing_area();
        area.fill(&WHITE).expect("drawn");
        let last = points.last().expect("points").second;
        let most = points.iter().map(|point| point.load).fold(1.0, f64::max) * 1.1;
        let replicas = points
            .iter()
            .map(|point| point.desired.max(point.needed))
            .max()
            .expect("points") as f64
            + 1.0;
        let mut chart = ChartBuilder::on(&area)
            .caption(name, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .right_y_label_area_size(52)
            .build_cartesian_2d(0..last, 0.0..replicas)
            .expect("a chart")
            .set_secondary_coord(0..last, 0.0..most);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("seconds")
            .y_desc("replicas: wanted (blue), ready (green), formula (dotted grey)")
            .draw()
            .expect("drawn");
        chart
            .configure_secondary_axes()
            .y_desc("calls a second (orange)")
            .draw()
            .expect("drawn");
        let line = |value: fn(&Point) -> f64| points.iter().map(move |point| (point.second, value(point)));
        let orange = RGBColor(230, 140, 40);
        chart
            .draw_secondary_series(LineSeries::new(line(|point| point.load), &orange))
            .expect("drawn");
        chart
            .draw_series(DashedLineSeries::new(
                line(|point| point.needed as f64),
                2,
                3,
                RGBColor(140, 140, 140).stroke_width(1),
            ))
            .expect("drawn");
        chart
            .draw_series(LineSeries::new(
                line(|point| point.ready as f64),
                RGBColor(60, 160, 80).stroke_width(2),
            ))
            .expect("drawn");
        chart
            .draw_series(LineSeries::new(
                line(|point| point.desired as f64),
                RGBColor(40, 90, 200).stroke_width(2),
            ))
            .expect("drawn");
        area.present().expect("drawn");
    }
    text
}

#[test]
fn the_plots_are_current() {
    let load = recorded();
    let seconds = u32::try_from(load.len()).expect("few") * TICK;
    let runs = [
        ("step", simulate(&rules(), 500, step)),
        ("ramp", simulate(&rules(), 800, ramp)),
        ("oscillation", simulate(&rules(), 400, oscillation)),
        ("spike", simulate(&rules(), 400, spike)),
        (
            "recorded",
            simulate(&rules(), seconds, |second| load[(second / TICK) as usize]),
        ),
    ];
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/scaling");
    for (name, points) in runs {
        let file = directory.join(format!("{name}.svg"));
        let drawn = draw(name, &points);
        if std::env::var_os("WRITE_PLOTS").is_some() {
            std::fs::write(&file, &drawn).expect("written");
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == drawn,
            "docs/scaling/{name}.svg is out of date; run `make plots`"
        );
    }
}
