//! `bench`, `diff`, `check`, `trend` and `show --pareto` as a person uses them. What runs commands needs root, and says so
//! when it is skipped.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use run::{Folder, PHASEGRAPH, needs_root, stderr, stdout, until};
use serde_json::Value;

fn phasegraph(words: &[&str]) -> Output {
    Command::new(PHASEGRAPH).args(words).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn golden() -> String {
    format!("{}/../tests/golden/format-1.phg", env!("CARGO_MANIFEST_DIR"))
}

/// Runs `bench` into a new folder of `folder`; its results.
fn bench(folder: &Folder, name: &str, words: &[&str]) -> (PathBuf, Value, Output) {
    let path = folder.path(name);
    let output = Command::new(PHASEGRAPH)
        .args(["bench", "-o"])
        .arg(&path)
        .args(words)
        .output()
        .unwrap();
    let results =
        std::fs::read(path.join("results.json")).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    (path, serde_json::from_slice(&results).unwrap(), output)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn valid(results: &Value) {
    let schema = format!("{}/../docs/series.schema.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let validator = jsonschema::draft202012::options().build(&schema).unwrap();
    let problems: Vec<String> = validator.iter_errors(results).map(|error| error.to_string()).collect();
    assert_eq!(problems, [""; 0]);
}

/// Make sure that cold and warm series of each combination are run as asked, beside their unprofiled partners, that lengths
/// are those of the command, and that results, tables and recordings are there, private and valid.
#[test]
fn series_are_run() {
    needs_root!();
    let folder = Folder::new();
    let witness = folder.path("cooled");
    let cold = format!("sh -c 'echo {{s}} >> \"{}\"'", witness.display());
    let words = [
        "--runs",
        "2",
        "--cold",
        &cold,
        "--param",
        "s=0.05,0.15",
        "--unprofiled",
        "--name",
        "nap",
        "--note",
        "toolchain=coreutils 9.1",
        "--",
        "sleep",
        "{s}",
    ];
    let (path, results, output) = bench(&folder, "nap", &words);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    valid(&results);
    assert_eq!(results["notes"], serde_json::json!({"toolchain": "coreutils 9.1"}));
    let series = results["series"].as_array().unwrap();
    let called: Vec<&str> = series.iter().map(|series| series["name"].as_str().unwrap()).collect();
    assert_eq!(called, ["cold s=0.05", "cold s=0.15", "warm s=0.05", "warm s=0.15"]);
    // Each cold run was cooled, its partner too, by turns of the parameter: an independent witness wrote it down.
    let cooled = std::fs::read_to_string(&witness).unwrap();
    assert_eq!(
        cooled.lines().collect::<Vec<_>>(),
        ["0.05", "0.05", "0.15", "0.15", "0.05", "0.05", "0.15", "0.15"]
    );
    for series in series {
        let least: u64 = if series["params"]["s"] == "0.05" {
            50_000_000
        } else {
            150_000_000
        };
        let runs = series["runs"].as_array().unwrap();
        let partners = series["unprofiled"].as_array().unwrap();
        assert_eq!((runs.len(), partners.len()), (2, 2));
        for run in runs.iter().chain(partners) {
            let wall = run["wall_ns"].as_u64().unwrap();
            assert!((least..least + 100_000_000).contains(&wall), "{wall} of {least}");
        }
        assert_eq!(series["success_ppm"], 1_000_000);
        let total = &series["measures"][0];
        assert_eq!(
            (&total["key"], &total["measure"], &total["n"]),
            (&"total".into(), &"wall".into(), &2.into())
        );
        for run in runs {
            assert!(path.join(run["recording"].as_str().unwrap()).is_file());
        }
    }
    let left = names(&path);
    assert_eq!(left.iter().filter(|name| name.ends_with(".phg")).count(), 8, "{left:?}");
    assert_eq!(left[8..], ["results.json", "runs.tsv", "summary.tsv"], "{left:?}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
    for name in &left {
        assert_eq!(path.join(name).metadata().unwrap().mode() & 0o777, 0o600, "{name}");
    }
    let shown = stdout(&output);
    assert!(
        shown.contains("effect on the command") && shown.contains("2 runs, 100 % succeeded"),
        "{shown}"
    );
    // Nothing is overwritten.
    let again = Command::new(PHASEGRAPH)
        .args(["bench", "-o"])
        .arg(&path)
        .args(["--", "true"])
        .output()
        .unwrap();
    assert_eq!(status(&again), 1);
    assert!(stderr(&again).contains("not empty"), "{}", stderr(&again));
}

/// Make sure that a run that fails is counted with its status and its output kept, that one that hangs is ended with all it
/// started, and that neither is in the figures.
#[test]
fn failed_and_hung_runs() {
    needs_root!();
    let folder = Folder::new();
    let words = [
        "--runs",
        "2",
        "--warmup",
        "0",
        "--",
        "sh",
        "-c",
        "echo so it goes; exit 3",
    ];
    let (path, results, output) = bench(&folder, "failed", &words);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    valid(&results);
    let run = &results["series"][0]["runs"][0];
    assert_eq!((&run["outcome"], &run["exit_status"]), (&"failed".into(), &3.into()));
    assert_eq!(results["series"][0]["measures"].as_array().unwrap().len(), 0);
    assert_eq!(
        std::fs::read_to_string(path.join("01-warm-0001.log")).unwrap(),
        "so it goes\n"
    );
    let start = Instant::now();
    // It does not listen to SIGTERM, and its child would go on for an hour.
    let script = "trap '' TERM; sleep 3611 & echo $! > \"$0\"; wait; wait";
    let pid = folder.path("pid");
    let words = [
        "--runs",
        "1",
        "--warmup",
        "0",
        "--timeout",
        "1s",
        "--",
        "sh",
        "-c",
        script,
        pid.to_str().unwrap(),
    ];
    let (_, results, output) = bench(&folder, "hung", &words);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    assert!(start.elapsed() < Duration::from_secs(60));
    valid(&results);
    assert_eq!(results["series"][0]["runs"][0]["outcome"], "timeout");
    let pid = std::fs::read_to_string(pid).unwrap();
    until("the child is gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !stat.contains("(sleep)") || stat.contains(") Z ")
    });
    // One that ends in order when it is told to did not end by itself, with the profiler or without it.
    let words = [
        "--runs",
        "1",
        "--warmup",
        "0",
        "--timeout",
        "1s",
        "--unprofiled",
        "--",
        "sh",
        "-c",
        "trap 'exit 0' TERM; sleep 3612 & wait",
    ];
    let (_, results, output) = bench(&folder, "in-order", &words);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    valid(&results);
    let series = &results["series"][0];
    // Without the profiler the time counts from the start of what takes it, which lets the command go a little later.
    for (of, least) in [("runs", 1_000_000_000), ("unprofiled", 500_000_000)] {
        assert_eq!(series[of][0]["outcome"], "timeout", "{of}: {series}");
        let wall = series[of][0]["wall_ns"].as_u64().unwrap();
        assert!(wall >= least, "{of}: {wall}");
    }
    assert_eq!(series["runs"][0]["exit_status"], 0);
    assert_eq!(series["measures"].as_array().unwrap().len(), 0);
}

/// Make sure that a command that is not there, a cold command that fails and a Ctrl-C in the middle are told, with the shell's
/// statuses, and that what was measured before is kept.
#[test]
fn ended_early() {
    needs_root!();
    let folder = Folder::new();
    let path = folder.path("none");
    let missing = Command::new(PHASEGRAPH)
        .args(["bench", "-o"])
        .arg(&path)
        .args(["--", "/no/such/program"])
        .output();
    let missing = missing.unwrap();
    assert_eq!((status(&missing), path.exists()), (127, false), "{}", stderr(&missing));
    // A history that is none is told before the first run.
    let history = folder.path("no-history");
    std::fs::write(&history, "hello").unwrap();
    let words = [
        "bench",
        "--history",
        history.to_str().unwrap(),
        "-o",
        path.to_str().unwrap(),
        "--",
        "true",
    ];
    let refused = phasegraph(&words);
    assert_eq!((status(&refused), path.exists()), (1, false), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("can't add to the history"),
        "{}",
        stderr(&refused)
    );
    let words = [
        "bench",
        "--cold",
        "sh -c 'echo no such image; exit 4'",
        "-o",
        path.to_str().unwrap(),
        "--",
        "true",
    ];
    let cold = phasegraph(&words);
    assert_eq!(status(&cold), 1);
    assert!(
        stderr(&cold).contains("no such image") && !path.exists(),
        "{}",
        stderr(&cold)
    );
    // The second run can't be made a cold one: the status is that of the failure, not of an interruption.
    let once = folder.path("once");
    let cold = format!("sh -c 'test ! -e {0} && touch {0}'", once.display());
    let half = folder.path("half");
    let words = [
        "bench",
        "--series",
        "cold",
        "--cold",
        &cold,
        "-o",
        half.to_str().unwrap(),
        "--",
        "true",
    ];
    let failed = phasegraph(&words);
    assert_eq!(status(&failed), 1, "{}", stderr(&failed));
    assert!(stderr(&failed).contains("would not be cold"), "{}", stderr(&failed));
    let results: Value = serde_json::from_slice(&std::fs::read(half.join("results.json")).unwrap()).unwrap();
    assert_eq!(
        (
            &results["interrupted"],
            results["series"][0]["runs"].as_array().unwrap().len()
        ),
        (&true.into(), 1)
    );
    let mut long = Command::new(PHASEGRAPH)
        .args(["bench", "--quiet", "--runs", "100", "--warmup", "0", "-o"])
        .arg(&path)
        .args(["--", "sleep", "0.2"])
        .spawn()
        .unwrap();
    until("two runs are done", || {
        path.join("01-warm-0002.phg").exists() && path.join("01-warm-0003.phg").exists()
    });
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(long.id().cast_signed(), libc::SIGINT) };
    assert_eq!(long.wait().unwrap().code(), Some(130));
    let results: Value = serde_json::from_slice(&std::fs::read(path.join("results.json")).unwrap()).unwrap();
    valid(&results);
    assert_eq!(results["interrupted"], true);
    assert!(results["series"][0]["runs"].as_array().unwrap().len() >= 2);
}

/// Make sure that copies run at once, in one recording whose phases have the same key.
#[test]
fn copies_at_once() {
    needs_root!();
    let folder = Folder::new();
    let words = [
        "--runs",
        "1",
        "--warmup",
        "0",
        "--concurrency",
        "4",
        "--",
        PHASEGRAPH,
        "mark",
        "nap",
        "--",
        "sleep",
        "0.5",
    ];
    let (_, results, output) = bench(&folder, "copies", &words);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let run = &results["series"][0]["runs"][0];
    let wall = run["wall_ns"].as_u64().unwrap();
    assert!(
        (500_000_000..1_500_000_000).contains(&wall),
        "one after the other they take 2 s: {wall}"
    );
    let naps = run["phases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|phase| phase["kind"] == "user");
    let keys: Vec<&str> = naps.map(|phase| phase["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert!(
        keys.iter().all(|key| *key == keys[0] && key.ends_with("nap")),
        "{keys:?}"
    );
}

/// Make sure that a phase that got slower is found, dated and fails its budget, that a series is the same as itself, and
/// that results edited by hand are no measurement.
#[test]
fn slower_phase_is_found() {
    needs_root!();
    let folder = Folder::new();
    let script = |nap: &str| format!("\"$0\" mark nap -- sleep {nap}; \"$0\" mark rest -- sleep 0.1");
    let history = folder.path("history.sqlite");
    let bench = |name: &str, nap: &str| {
        let script = script(nap);
        let history = history.to_str().unwrap();
        let words = [
            "--runs",
            "6",
            "--warmup",
            "0",
            "--name",
            "nap",
            "--history",
            history,
            "--",
            "sh",
            "-c",
            &script,
            PHASEGRAPH,
        ];
        bench(&folder, name, &words).0.to_str().unwrap().to_owned()
    };
    let (base, slower) = (bench("base", "0.2"), bench("slower", "0.3"));
    let drawn = folder.path("difference");
    let differ = phasegraph(&["diff", &base, &slower, "-o", drawn.to_str().unwrap(), "--width", "120"]);
    assert_eq!(status(&differ), 1, "{}{}", stdout(&differ), stderr(&differ));
    let shown = stdout(&differ);
    assert!(
        shown.contains("verdict: changed: ") && shown.contains("nap is 4"),
        "{shown}"
    );
    let rest = shown
        .lines()
        .find(|line| line.trim_start().starts_with("rest") || line.contains("> rest"))
        .unwrap();
    assert!(
        !rest.contains("+1") || rest.contains("1.0"),
        "the other phase did not change: {rest}"
    );
    let table = std::fs::read_to_string(drawn.join("changes.tsv")).unwrap();
    let judged = |key: &str| {
        let line = table
            .lines()
            .find(|line| line.split('\t').nth(1).is_some_and(|name| name.ends_with(key)));
        line.unwrap().split('\t').next_back().unwrap().to_owned()
    };
    assert_eq!(
        (judged("> nap"), judged("> rest")),
        ("more".to_owned(), "same".to_owned()),
        "{table}"
    );

    let same = phasegraph(&["diff", &base, &base]);
    assert_eq!(status(&same), 0, "{}", stdout(&same));
    assert!(stdout(&same).contains("four times of five"), "{}", stdout(&same));

    let budget = folder.path("budget.toml");
    std::fs::write(
        &budget,
        "budget = ['phase.nap.max < \"280ms\"', 'success_rate == 1']\n[regression]\nfail = 0.2\n",
    )
    .unwrap();
    let budget = budget.to_str().unwrap();
    let junit = folder.path("verdicts.xml");
    let receipt = folder.path("receipt.json");
    let over = phasegraph(&[
        "check",
        "--budget",
        budget,
        "--baseline",
        &base,
        &slower,
        "--github",
        "--junit",
        junit.to_str().unwrap(),
        "--receipt",
        receipt.to_str().unwrap(),
    ]);
    assert_eq!(status(&over), 1, "{}", stdout(&over));
    assert!(
        stdout(&over).contains("::error title=phasegraph budget::OVER: phase.nap.max"),
        "{}",
        stdout(&over)
    );
    assert!(std::fs::read_to_string(&junit).unwrap().contains("failures=\"3\""));
    let receipt: Value = serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
    assert_eq!(receipt["verdict"], "over");
    assert_eq!(receipt["host"], receipt["baseline"]["host"]);
    let first = &receipt["budgets"][0];
    assert!(
        first["verdict"] == "over" && first["value"].as_f64().unwrap() >= 280e6,
        "{receipt}"
    );
    assert_eq!(
        status(&phasegraph(&["check", "--budget", budget, "--baseline", &base, &base])),
        0
    );

    let trend = phasegraph(&[
        "trend",
        "nap",
        "--history",
        history.to_str().unwrap(),
        "--svg",
        folder.path("x.svg").to_str().unwrap(),
    ]);
    // Results of one name are one course, whatever the command has become.
    assert_eq!(status(&trend), 0, "{}", stderr(&trend));
    assert!(
        std::fs::read_to_string(folder.path("x.svg"))
            .unwrap()
            .contains("<circle")
    );
    assert!(stdout(&trend).contains("fewer than 8 results"), "{}", stdout(&trend));
    let one = Path::new(&base).join("01-warm-0001.phg");
    let single = phasegraph(&["diff", one.to_str().unwrap(), &base]);
    assert_eq!(status(&single), 2, "{}", stdout(&single));
    let words = stdout(&single).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("can't tell: of a single run nobody knows"), "{words}");
    for (text, says) in [
        ("budget = ['phase.teleport.p95 < \"1s\"']", "never occurred"),
        ("budget = ['overhead_vs(baseline) < 1']", "no baseline"),
    ] {
        std::fs::write(budget, text).unwrap();
        let output = phasegraph(&["check", "--budget", budget, &base]);
        assert_eq!(status(&output), 2, "{text}");
        let words = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(says), "{text}: {words}");
    }
    // Of the same nothing changed, but a graph that can't be written is no verdict.
    let graph = folder.path("wall.svg");
    let words = [
        "diff",
        &base,
        &base,
        "--kind",
        "wall",
        "--flame",
        graph.to_str().unwrap(),
    ];
    for expected in [0, 2] {
        let output = phasegraph(&words);
        assert_eq!(status(&output), expected, "{}", stderr(&output));
    }
    let drawn = std::fs::read_to_string(&graph).unwrap();
    assert!(drawn.contains("mean of 6 new and 6 base recordings"));
    // A recording that can't be read leaves no graph and no verdict.
    let whole = std::fs::read(&one).unwrap();
    std::fs::write(&one, "gone").unwrap();
    let output = phasegraph(&["diff", &base, &slower, "-o", folder.path("unread").to_str().unwrap()]);
    assert_eq!(status(&output), 2, "{}", stderr(&output));
    std::fs::write(&one, whole).unwrap();
    let pareto = phasegraph(&["show", "--pareto", &base]);
    assert!(
        stdout(&pareto).contains("bottleneck"),
        "{}{}",
        stdout(&pareto),
        stderr(&pareto)
    );

    let file = Path::new(&slower).join("results.json");
    let edited = std::fs::read_to_string(&file)
        .unwrap()
        .replacen("\"wall_ns\":3", "\"wall_ns\":2", 1);
    std::fs::write(&file, edited).unwrap();
    let edited = phasegraph(&["diff", &base, &slower]);
    assert_eq!(status(&edited), 2);
    assert!(
        stderr(&edited).contains("changed after it was written"),
        "{}",
        stderr(&edited)
    );
}

/// Make sure that what takes the time of a command hands SIGTERM on to each copy, and still tells what it took.
#[test]
fn timed_hands_signals_on() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let script = "trap 'kill $!; exit 7' TERM; sleep 100 & touch \"$0/$$\"; wait";
    let mut timed = Command::new(PHASEGRAPH)
        .args(["timed", "--copies", "2", "--report"])
        .arg(&report)
        .args(["--", "sh", "-c", script])
        .arg(folder.path())
        .spawn()
        .unwrap();
    until("both copies listen", || names(folder.path()).len() == 2);
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(timed.id().cast_signed(), libc::SIGTERM) };
    assert_eq!(timed.wait().unwrap().code(), Some(7));
    let told: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(told["exit_status"], 7);
    assert!(told["wall_ns"].as_u64().unwrap() < 50_000_000_000, "{told}");
}

/// Make sure that of single recordings nothing is claimed, and that what is no series is refused with 2, without root.
#[test]
fn single_recordings_and_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let golden = golden();
    let single = phasegraph(&["diff", &golden, &golden]);
    assert_eq!(status(&single), 2, "{}", stderr(&single));
    let words = stdout(&single).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("can't tell: one side has no successful run"), "{words}");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for (path, says) in [
        (file("text", "hello"), "is not a recording"),
        (file("json", "{\"kind\": \"other\"}"), "no series of runs"),
        (
            file("cut", "{\"kind\": \"phasegraph series\", \"schema\": 1"),
            "no JSON object",
        ),
        (
            file("newer", "{\"kind\": \"phasegraph series\", \"schema\": 99}"),
            "version 99",
        ),
        (
            file("changed", "{\"kind\": \"phasegraph series\", \"schema\": 1}"),
            "changed after it was written",
        ),
        (
            empty.to_str().unwrap().to_owned(),
            "neither results.json nor a recording",
        ),
        ("/no/such/folder".to_owned(), "No such file"),
    ] {
        let output = phasegraph(&["diff", &golden, &path]);
        assert_eq!(status(&output), 2, "{path}");
        assert!(stderr(&output).contains(says), "{path}: {}", stderr(&output));
    }
    for (text, says) in [
        ("budget = ['phase.teleport.p95 < \"1s\"']", "no run succeeded"),
        ("[regression]\nfail = 0.2", "no baseline"),
    ] {
        let output = phasegraph(&["check", "--budget", &file("budget.toml", text), &golden]);
        assert_eq!(status(&output), 2, "{text}");
        let words = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(says), "{text}: {words}");
    }
    // What can't be written is no verdict either.
    let there = file("there", "x");
    let below = format!("{there}/below");
    for words in [["--flame", &there], ["-o", &below]] {
        let output = phasegraph(&[&["diff", &golden, &golden][..], &words].concat());
        assert_eq!(status(&output), 2, "{words:?}: {}", stderr(&output));
    }
    let lost = file("budget.toml", "budget = ['lost >= 0']");
    let output = phasegraph(&["check", "--budget", &lost, &golden, "--junit", &there]);
    assert_eq!(status(&output), 2, "{}", stderr(&output));
    // A reader that has gone changes no verdict.
    let never = file("budget.toml", "budget = ['success_rate > 1']");
    for (words, expected) in [
        (&["diff", &golden, &golden][..], 2),
        (&["check", "--budget", &never, &golden], 1),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(PHASEGRAPH);
        let code = command.args(words).stdout(writer).status().unwrap().code();
        assert_eq!(code, Some(expected), "{words:?}");
    }
    let wrong = phasegraph(&["check", "--budget", &file("budget.toml", "budget = ['x']"), &golden]);
    assert_eq!(status(&wrong), 2);
    assert!(stderr(&wrong).contains("comparison"), "{}", stderr(&wrong));
    let history = phasegraph(&["trend", "run", "--history", &file("history", "hello")]);
    assert_eq!(status(&history), 1, "{}", stderr(&history));
    for words in [
        &["bench"][..],
        &["bench", "--param", "x", "--", "true"],
        &["bench", "--series", "cold", "--", "true"],
        &["show", "--series", "recordings", &golden],
        &["show", "--pareto", "--series", "cold", &golden],
    ] {
        assert_eq!(status(&phasegraph(words)), 2, "{words:?}");
    }
}
