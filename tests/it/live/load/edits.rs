//! What the load test writes into the file: two hundred turns of all kinds.
//!
//! Each valid turn has its number in three places that a call sees: a header
//! that the function gets, a header that the caller gets, and the path that a
//! route rewrites to.

/// How many turns there are.
pub(super) const TURNS: u64 = 200;

/// Turns before those, to warm up.
pub(super) const WARM_UP: u64 = 30;

/// What a turn asks for.
pub(super) struct Edit {
    pub(super) content: String,
    /// The answer to the reload: its status and the result in it.
    pub(super) status: u16,
    pub(super) result: &'static str,
    /// The number that calls see afterwards, and the port they are taken on.
    pub(super) live: u64,
    pub(super) port: u16,
}

/// The ports between which the listener moves.
pub(super) struct Ports(pub(super) u16, pub(super) u16);

impl Ports {
    /// It moves twice, and back.
    fn of(&self, turn: u64) -> u16 {
        let elsewhere = [40..70, 110..150].iter().any(|turns| turns.contains(&turn));
        if elsewhere { self.1 } else { self.0 }
    }
}

/// The newest turn that was valid.
fn last_valid(turn: u64) -> u64 {
    (0..=turn).rev().find(|turn| !matches!(turn % 10, 8 | 9)).unwrap_or(0)
}

/// One turn.
pub(super) fn edit(turn: u64, ports: &Ports) -> Edit {
    let live = last_valid(turn);
    let edit = |content, status, result| Edit {
        content,
        status,
        result,
        live,
        port: ports.of(live),
    };
    match turn % 10 {
        8 => edit(wrong(turn, ports), 422, ""),
        9 => edit(valid(live, ports), 200, "unchanged"),
        _ => edit(valid(turn, ports), 200, "applied"),
    }
}

/// A file that cannot go live: not TOML, an unknown key, what contradicts
/// itself, what cannot be built.
fn wrong(turn: u64, ports: &Ports) -> String {
    let valid = valid(turn, ports);
    match turn / 10 % 4 {
        0 => valid + "not = [toml",
        1 => valid + "[invoke]\nupstream_timout = 1\n",
        2 => valid + "[[routes]]\npath = \"/app\"\nfunction = \"other\"\n",
        _ => valid + "[auth]\nbasic = true\nsecret_path = \"/no/such\"\n",
    }
}

fn valid(turn: u64, ports: &Ports) -> String {
    let port = ports.of(turn);
    let Kind { server, function, rest } = Kind::of(turn);
    format!(
        "[reload]\nwatch = \"off\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
         [server]\nlisten = \"127.0.0.1:{port}\"\ndrain_delay = \"2s\"\n{server}\n\
         [functions.echo]\nheaders.request.set.X-Turn = \"{turn}\"\nheaders.response.set.X-Turn = \"{turn}\"\n{function}\n\
         {rest}\n[[routes]]\npath = \"/app\"\nfunction = \"echo\"\nrewrite = \"/turn/{turn}\"\n"
    )
}

/// What a turn changes besides its number.
#[derive(Default)]
struct Kind {
    server: String,
    function: String,
    rest: String,
}

impl Kind {
    fn of(turn: u64) -> Self {
        let function = |function: String| Self {
            function,
            ..Self::default()
        };
        let rest = |rest: String| Self {
            rest,
            ..Self::default()
        };
        match turn % 8 {
            0 => rest(
                (0..turn % 13)
                    .flat_map(|number| {
                        let host = format!("hosts = [\"h{number}.example\"]\n");
                        ["[[routes]]\n".to_owned(), host, "function = \"mirror\"\n".to_owned()]
                    })
                    .collect(),
            ),
            1 => function(format!(
                "max_in_flight = {}\nmax_queued = {turn}\nrate_limit = {{ requests = 1000000, burst = {} }}",
                100 + turn,
                1_000_000 - turn
            )),
            2 => function(format!(
                "breaker = {{ failures = {}, open = \"{turn}ms\" }}",
                100 + turn
            )),
            3 => function(format!(
                "retries = {{ attempts = {}, backoff = \"{}ms\" }}",
                1 + turn % 3,
                1 + turn
            )),
            4 => function(format!(
                "headers.request.set.X-More = \"{turn}\"\nheaders.request.remove = [\"X-Gone\"]\nheaders.response.remove = [\"X-Gone-{turn}\"]"
            )),
            5 => Self {
                server: format!("read_timeout = \"{0}s\"\nwrite_timeout = \"{0}s\"", 90 + turn),
                function: format!(
                    "timeouts = {{ first_byte = \"{0}s\", idle = \"{0}s\", total = \"80s\" }}",
                    30 + turn % 40
                ),
                ..Self::default()
            },
            6 => rest(format!(
                "[logging]\naccess = false\nlevel = \"info,hyper={}\"\n",
                ["warn", "error"][usize::from(turn % 16 < 8)]
            )),
            _ => rest(format!(
                "[invoke]\nmax_idle_conns_per_host = {}\nidle_conn_timeout = \"{}s\"\nupstream_timeout = \"{}s\"\n",
                10 + turn,
                10 + turn,
                40 + turn % 20
            )),
        }
    }
}
