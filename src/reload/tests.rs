//! Reloads of real files into something that only remembers what it was given.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::{transaction::SECOND_LOOK, *};
use crate::config::{self, FileChange};

const DEADLINE: Duration = Duration::from_secs(20);

/// Remembers the live configuration; can be made to fail or to wait.
struct Fake {
    live: Mutex<(Config, u64, Source)>,
    reports: Mutex<Vec<Outcome>>,
    fails: AtomicBool,
    begun: AtomicUsize,
    gate: Semaphore,
}

#[async_trait]
impl Live for Fake {
    fn config(&self) -> Config {
        self.live.lock().expect("lock").0.clone()
    }

    fn generation(&self) -> u64 {
        self.live.lock().expect("lock").1
    }

    fn source(&self) -> Source {
        self.live.lock().expect("lock").2.clone()
    }

    async fn apply(&self, loaded: Loaded) -> Result<(), Vec<ConfigError>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _passed = self.gate.acquire().await.expect("open");
        if self.fails.load(Ordering::SeqCst) {
            return Err(vec![
                Unusable::new(&["logging.level"], "cannot be built").at(&loaded.origins),
            ]);
        }
        let mut live = self.live.lock().expect("lock");
        let source = Source::new(&loaded);
        *live = (loaded.config, live.1 + 1, source);
        Ok(())
    }

    fn report(&self, outcome: &Outcome) {
        self.reports.lock().expect("lock").push(outcome.clone());
    }
}

/// A directory with a configuration file, and a reloader that has it live.
struct Gateway {
    directory: TempDir,
    live: Arc<Fake>,
    reloader: Reloader,
    tasks: Tasks,
}

const FIRST: &str = "[logging]\nlevel = \"info\"\n";
const SECOND: &str = "[logging]\nlevel = \"debug\"\n";

/// Notices changes soon, and only by events.
const QUICK: &str = "[reload]\ndebounce = \"20ms\"\ndebounce_max = \"200ms\"\npoll_interval = \"1m\"\n";

impl Gateway {
    /// Starts with `content`; `SECRETS` in it is a directory with credentials.
    fn start(content: &str) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        fs::create_dir(directory.path().join("secrets")).expect("create");
        fs::write(directory.path().join("secrets/basic-auth-user"), "admin").expect("write");
        fs::write(directory.path().join("secrets/basic-auth-password"), "one").expect("write");
        let sources = Sources {
            file: Some(directory.path().join("gateway.toml")),
            environment: [("HOME".to_owned(), "/home/user".to_owned())].into(),
            ..Sources::default()
        };
        write(directory.path(), content);
        let loaded = config::load(&sources).expect("valid");
        let live = Arc::new(Fake {
            live: Mutex::new((loaded.config.clone(), 1, Source::new(&loaded))),
            reports: Mutex::default(),
            fails: AtomicBool::new(false),
            begun: AtomicUsize::new(0),
            gate: Semaphore::new(1),
        });
        let tasks = Tasks::new();
        let reloader = Reloader::start(sources, live.clone(), &tasks);
        Self {
            directory,
            live,
            reloader,
            tasks,
        }
    }

    fn write(&self, content: &str) {
        write(self.directory.path(), content);
    }

    async fn reload(&self, ask: impl Into<Ask>) -> Outcome {
        tokio::time::timeout(DEADLINE, self.reloader.request(ask))
            .await
            .expect("an outcome")
    }

    fn level(&self) -> String {
        self.live.config().logging.level
    }

    fn reports(&self) -> usize {
        self.live.reports.lock().expect("lock").len()
    }
}

fn write(directory: &Path, content: &str) {
    let content = content.replace("SECRETS", &directory.join("secrets").display().to_string());
    fs::write(directory.join("gateway.toml"), content).expect("write");
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, reached).await.is_ok(), "{what}");
}

#[tokio::test]
async fn a_changed_file_goes_live() {
    let gateway = Gateway::start(FIRST);
    gateway.write(SECOND);
    let outcome = gateway.reload(Trigger::Watch).await;
    assert_eq!((outcome.verdict, outcome.generation), (Verdict::Applied, 2));
    assert_eq!(outcome.changed, ["logging.level"]);
    assert_eq!(gateway.level(), "debug");
    assert_eq!(gateway.reloader.journal().last, Some(outcome.clone()));
    assert_eq!(gateway.reports(), 1);
    gateway.reload(Trigger::Poll).await;
    assert_eq!(
        gateway.reloader.journal().last,
        Some(outcome),
        "a look that found nothing is no news"
    );
}

#[tokio::test]
async fn point_02_the_same_content_is_no_reload() {
    let gateway = Gateway::start(FIRST);
    gateway.write(FIRST);
    let outcome = gateway.reload(Trigger::Signal).await;
    assert_eq!((outcome.verdict, outcome.generation), (Verdict::Unchanged, 1));
    assert_eq!(gateway.live.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_invalid_file_keeps_the_old_and_says_everything() {
    let gateway = Gateway::start(FIRST);
    gateway.write("[logging]\nlevel = \"loud\"\nformat = \"xml\"\n");
    let outcome = gateway.reload(Trigger::Watch).await;
    assert_eq!((outcome.verdict, outcome.generation), (Verdict::Failed, 1));
    assert_eq!(outcome.errors.len(), 2, "{:?}", outcome.errors);
    assert!(
        outcome.errors[0].contains("gateway.toml:3:1: logging.format: "),
        "{:?}",
        outcome.errors
    );
    assert_eq!(gateway.level(), "info");

    // The next look finds the same: still failed, but told only once.
    let again = gateway.reload(Trigger::Poll).await;
    assert_eq!((again.verdict, again.trigger), (Verdict::Failed, Trigger::Poll));
    assert_eq!(gateway.reports(), 1);

    // The old content is back: no reload, and no failure any more.
    gateway.write(FIRST);
    let back = gateway.reload(Trigger::Watch).await;
    assert_eq!((back.verdict, back.generation), (Verdict::Unchanged, 1));
    assert_eq!(gateway.reports(), 2);
}

#[tokio::test]
async fn a_missing_or_empty_file_keeps_the_old() {
    let gateway = Gateway::start(FIRST);
    for remove in [false, true] {
        gateway.write("");
        if remove {
            fs::remove_file(gateway.directory.path().join("gateway.toml")).expect("remove");
        }
        let outcome = gateway.reload(Trigger::Watch).await;
        assert_eq!(
            (outcome.verdict, outcome.errors.len()),
            (Verdict::Failed, 1),
            "{remove}"
        );
        assert_eq!(gateway.level(), "info");
    }
}

#[tokio::test]
async fn point_04_a_half_written_file_gets_a_second_look() {
    let gateway = Gateway::start(FIRST);
    gateway.write("[logging]\nlevel = \"deb");
    let finish_writing = async {
        tokio::time::sleep(SECOND_LOOK / 5).await;
        gateway.write(SECOND);
    };
    let (outcome, ()) = tokio::join!(gateway.reload(Trigger::Watch), finish_writing);
    assert_eq!(outcome.verdict, Verdict::Applied, "{:?}", outcome.errors);
    assert_eq!(gateway.reports(), 1, "the half was not told about");
}

#[tokio::test]
async fn point_12_what_cannot_be_built_keeps_the_old_and_is_tried_again_at_each_look() {
    let gateway = Gateway::start(FIRST);
    gateway.live.fails.store(true, Ordering::SeqCst);
    gateway.write(SECOND);
    let outcome = gateway.reload(Trigger::Watch).await;
    let file = gateway.directory.path().join("gateway.toml");
    let error = format!("{}:2:1: logging.level: cannot be built", file.display());
    assert_eq!(outcome.errors, [error], "with its place");

    // Tried again at each look, and told about once.
    for trigger in [Trigger::Poll, Trigger::Watch] {
        let again = gateway.reload(trigger).await;
        assert_eq!((again.verdict, again.at), (Verdict::Failed, outcome.at), "{trigger:?}");
    }
    assert_eq!(gateway.live.begun.load(Ordering::SeqCst), 3);
    assert_eq!((gateway.reports(), gateway.reloader.journal().history.len()), (1, 1));
    assert_eq!(gateway.level(), "info");

    gateway.live.fails.store(false, Ordering::SeqCst);
    assert_eq!(gateway.reload(Trigger::Poll).await.verdict, Verdict::Applied);
    assert_eq!(gateway.level(), "debug");
}

#[tokio::test]
async fn credentials_that_come_after_the_file_are_noticed() {
    let gateway = Gateway::start(FIRST);
    let password = gateway.directory.path().join("secrets/basic-auth-password");
    fs::remove_file(&password).expect("remove");
    gateway.live.fails.store(true, Ordering::SeqCst);
    gateway.write("[auth]\nbasic = true\nsecret_path = \"SECRETS\"\n");
    assert_eq!(gateway.reload(Trigger::Watch).await.verdict, Verdict::Failed);
    assert_eq!(gateway.reload(Trigger::Poll).await.verdict, Verdict::Failed);
    assert_eq!(gateway.reports(), 1, "told once");

    gateway.live.fails.store(false, Ordering::SeqCst);
    fs::write(&password, "one").expect("write");
    assert_eq!(gateway.reload(Trigger::Poll).await.verdict, Verdict::Applied);
    assert!(gateway.live.config().auth.basic);
}

#[tokio::test]
async fn changed_credentials_are_a_reload() {
    let gateway = Gateway::start("[auth]\nbasic = true\nsecret_path = \"SECRETS\"\n");
    assert_eq!(gateway.reload(Trigger::Poll).await.verdict, Verdict::Unchanged);
    fs::write(gateway.directory.path().join("secrets/basic-auth-password"), "two").expect("write");
    let outcome = gateway.reload(Trigger::Poll).await;
    assert_eq!((outcome.verdict, outcome.changed.len()), (Verdict::Applied, 0));
    assert_eq!(gateway.reload(Trigger::Poll).await.verdict, Verdict::Unchanged);
}

#[tokio::test]
async fn the_state_directory_keeps_its_running_value() {
    let gateway = Gateway::start(FIRST);
    let running = gateway.live.config().provider.process.state_dir;
    gateway.write(&format!("[provider.process]\nstate_dir = \"/elsewhere\"\n{SECOND}"));
    let outcome = gateway.reload(Trigger::Watch).await;
    assert_eq!(outcome.pending_restart, ["provider.process.state_dir"]);
    assert_eq!(outcome.changed, ["logging.level"]);
    assert_eq!(gateway.live.config().provider.process.state_dir, running);
    let again = gateway.reload(Trigger::Api).await;
    assert_eq!(
        (again.verdict, again.pending_restart),
        (Verdict::Unchanged, vec!["provider.process.state_dir"])
    );
}

#[tokio::test]
async fn point_21_requests_that_wait_share_the_next_reload() {
    let gateway = Gateway::start(FIRST);
    let closed = gateway.live.gate.acquire().await.expect("open");
    gateway.write(SECOND);
    let first = gateway.reloader.request(Trigger::Watch);
    let others = async {
        until("the first reload builds", || {
            gateway.live.begun.load(Ordering::SeqCst) == 1
        })
        .await;
        gateway.write("[logging]\nlevel = \"warn\"\n");
        let waiting = futures_util::future::join_all((0..5).map(|_| gateway.reloader.request(Trigger::Poll)));
        let open = async { drop(closed) };
        tokio::join!(waiting, open).0
    };
    let (first, others) = tokio::time::timeout(DEADLINE, async { tokio::join!(first, others) })
        .await
        .expect("outcomes");
    assert_eq!(first.generation, 2);
    for outcome in others {
        assert_eq!((outcome.verdict, outcome.generation), (Verdict::Applied, 3));
    }
    assert_eq!(gateway.live.begun.load(Ordering::SeqCst), 2);
    assert_eq!(gateway.level(), "warn");
}

#[tokio::test]
async fn point_27_of_those_that_expect_the_same_configuration_one_is_served() {
    let gateway = Gateway::start(FIRST);
    let expecting_the_first = {
        let live = gateway.live.source().fingerprint.to_string();
        move || Ask {
            expected: Some(vec![live.clone()]),
            ..Trigger::Api.into()
        }
    };
    let both = || async {
        let [one, other] = [expecting_the_first(), expecting_the_first()];
        let (one, other, any) = tokio::join!(
            gateway.reload(one),
            gateway.reload(other),
            gateway.reload(Trigger::Poll)
        );
        [one.verdict, other.verdict, any.verdict]
    };
    assert_eq!(both().await, [Verdict::Unchanged; 3]);
    gateway.write(SECOND);
    assert_eq!(both().await, [Verdict::Applied, Verdict::Superseded, Verdict::Applied]);
    assert_eq!(gateway.live.begun.load(Ordering::SeqCst), 1);

    gateway.write("wrong = true\n");
    let late = gateway.reload(expecting_the_first()).await;
    assert_eq!(
        (late.verdict, late.errors.len()),
        (Verdict::Superseded, 0),
        "nothing is read"
    );
    assert_eq!((late.generation, late.hash), (2, gateway.live.source().fingerprint));
    assert_eq!(gateway.reloader.journal().history.len(), 1);
}

#[tokio::test]
async fn point_29_the_newest_changes_and_failures_are_remembered() {
    let gateway = Gateway::start(FIRST);
    let caller = Caller {
        user: Some("admin".to_owned()),
        address: None,
    };
    gateway.write(SECOND);
    let ask = Ask {
        caller: Some(caller.clone()),
        ..Trigger::Api.into()
    };
    let hash = gateway.live.source().fingerprint;
    let applied = gateway.reload(ask).await;
    assert_eq!((applied.from, applied.generation, applied.old_hash), (1, 2, hash));
    assert_eq!(
        (applied.hash, &applied.callers),
        (gateway.live.source().fingerprint, &vec![caller])
    );
    let file = gateway.directory.path().join("gateway.toml");
    let changed = vec![FileChange {
        path: file.clone(),
        change: "changed",
    }];
    assert_eq!(applied.files, changed);

    gateway.write("wrong = true\nagain = true\n");
    let failed = gateway.reload(Trigger::Watch).await;
    assert_eq!((failed.from, failed.generation, failed.hash), (2, 2, applied.hash));
    assert_eq!((failed.files.clone(), failed.errors.len()), (changed, 2));
    gateway.reload(Trigger::Poll).await;
    gateway.write(SECOND);
    assert_eq!(gateway.reload(Trigger::Signal).await.verdict, Verdict::Unchanged);
    let journal = gateway.reloader.journal();
    assert_eq!(journal.history, [failed, applied], "newest first, each once");
    assert_eq!(journal.last.map(|last| last.verdict), Some(Verdict::Unchanged));

    for number in 0..25 {
        gateway.write(&format!("# {number}\n{FIRST}"));
        gateway.reload(Trigger::Watch).await;
    }
    let history = gateway.reloader.journal().history;
    let generations: Vec<_> = history.iter().map(|outcome| outcome.generation).collect();
    assert_eq!(generations, (8..=27).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn point_15_strict_refuses_a_change_that_needs_a_restart_as_a_whole() {
    let gateway = Gateway::start(FIRST);
    let needs_restart = format!("[provider.process]\nstate_dir = \"/elsewhere\"\n{SECOND}");
    gateway.write(&format!("reload.strict = true\n{needs_restart}"));
    let outcome = gateway.reload(Trigger::Watch).await;
    assert_eq!(
        (outcome.verdict, outcome.errors.len()),
        (Verdict::Failed, 1),
        "{outcome:?}"
    );
    assert!(
        outcome.errors[0].contains("gateway.toml:3:1: provider.process.state_dir: ")
            && outcome.errors[0].contains("(reload.strict, --strict)"),
        "{:?}",
        outcome.errors
    );
    assert_eq!((gateway.level().as_str(), outcome.pending_restart.len()), ("info", 0));
    gateway.write(&needs_restart);
    let outcome = gateway.reload(Trigger::Watch).await;
    assert_eq!((outcome.verdict, outcome.pending_restart.len()), (Verdict::Applied, 1));
    assert_eq!(gateway.level(), "debug");
}

#[tokio::test]
async fn edits_are_noticed() {
    let gateway = Gateway::start(&format!("{FIRST}{QUICK}"));
    gateway.reloader.on_file_change(&gateway.tasks);
    // Renamed into place, as editors and configuration tools do.
    let next = gateway.directory.path().join("next");
    fs::write(&next, format!("{SECOND}{QUICK}")).expect("write");
    fs::rename(&next, gateway.directory.path().join("gateway.toml")).expect("rename");
    until("the file is live", || gateway.level() == "debug").await;
    // Links changed as the kubelet does it.
    for (version, level) in [("1", "warn"), ("2", "error")] {
        let mount = gateway.directory.path();
        fs::create_dir(mount.join(version)).expect("create");
        fs::write(
            mount.join(version).join("gateway.toml"),
            format!("[logging]\nlevel = \"{level}\"\n{QUICK}"),
        )
        .expect("write");
        std::os::unix::fs::symlink(version, mount.join("..data_tmp")).expect("link");
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("rename");
        if version == "1" {
            fs::remove_file(mount.join("gateway.toml")).expect("remove");
            std::os::unix::fs::symlink("..data/gateway.toml", mount.join("gateway.toml")).expect("link");
        }
        until("the link's target is live", || gateway.level() == level).await;
    }
    gateway.tasks.drain();
    tokio::time::timeout(DEADLINE, gateway.tasks.ended())
        .await
        .expect("tasks end");
}

#[tokio::test]
async fn hangup_reloads() {
    let gateway = Gateway::start(FIRST);
    gateway.reloader.on_hangup(&gateway.tasks).expect("listens");
    gateway.write(SECOND);
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).expect("raised");
    until("the file is live", || gateway.level() == "debug").await;
}

#[tokio::test]
async fn after_the_end_requests_are_answered() {
    let gateway = Gateway::start(FIRST);
    gateway.tasks.drain();
    gateway.tasks.ended().await;
    let outcome = gateway.reload(Trigger::Signal).await;
    assert_eq!(outcome.errors, ["the gateway is stopping"]);
}

/// One random edit of the file or the credentials, and whether it can go live.
fn edit(gateway: &Gateway, random: &mut StdRng, step: u32) -> bool {
    let file = gateway.directory.path().join("gateway.toml");
    let level = ["error", "warn", "info", "debug"][random.random_range(0..4)];
    let valid = format!(
        "[logging]\nlevel = \"{level}\"\n[invoke]\nupstream_timeout = {}\n",
        random.random_range(1..1000)
    );
    gateway.live.fails.store(false, Ordering::SeqCst);
    match random.random_range(0..12) {
        0..5 => gateway.write(&valid),
        5 => {
            // The same content in other words counts too.
            gateway.write(&format!("# {step}\n{valid}"));
        }
        6 => {
            // In the middle of the level.
            gateway.write(&valid[..20]);
            return false;
        }
        7 => {
            gateway.write(&format!("{valid}upstream_timout = 1\n"));
            return false;
        }
        8 => {
            gateway.write(&format!(
                "{valid}[reload]\ndebounce = \"{step}m\"\ndebounce_max = \"1ms\"\n"
            ));
            return step == 0;
        }
        9 => {
            gateway.write("");
            return false;
        }
        10 => {
            // Removed already by an earlier edit: as good as another time.
            let _gone = fs::remove_file(file);
            return false;
        }
        _ => {
            gateway.write(&valid.replace("level", "# not built\nlevel"));
            gateway.live.fails.store(true, Ordering::SeqCst);
            return false;
        }
    }
    true
}

async fn random_edits(seed: u64) {
    let gateway = Gateway::start(FIRST);
    let mut random = StdRng::seed_from_u64(seed);
    let mut expected = gateway.live.config();
    let mut applied = 0;
    for step in 0..40 {
        let valid = edit(&gateway, &mut random, step);
        let trigger = [Trigger::Watch, Trigger::Poll, Trigger::Signal][random.random_range(0..3)];
        let before = gateway.live.generation();
        let outcome = gateway.reload(trigger).await;
        let context = format!("seed {seed}, step {step}: {outcome:?}");
        if valid {
            let sources = (*gateway.reloader.sources).clone();
            expected = config::load(&sources).expect("valid").config;
            assert_ne!(outcome.verdict, Verdict::Failed, "{context}");
            applied += 1;
        } else {
            assert_eq!(outcome.verdict, Verdict::Failed, "{context}");
            assert_eq!(gateway.live.generation(), before, "{context}");
        }
        assert!(gateway.live.config() == expected, "{context}");
        assert_eq!(outcome.generation, gateway.live.generation(), "{context}");
    }
    assert!(applied > 5, "only {applied} of 40 edits were valid");
}

#[tokio::test]
async fn point_34_after_any_edits_the_last_valid_file_is_live() {
    futures_util::future::join_all((0..8).map(random_edits)).await;
}
