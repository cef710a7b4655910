//! The report page in headless Chromium: opened as a file, looked at, clicked, typed into, printed.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/busy_host.rs"]
mod busy_host;
#[path = "support/chromium.rs"]
mod chromium;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use busy_host::Size;
use chromium::{Page, Skip};

/// A browser, or why this test is skipped.
macro_rules! browser {
    ($width:expr, $height:expr) => {
        match Page::new($width, $height) {
            Ok(page) => page,
            Err(Skip(why)) => {
                eprintln!("skipped: {why}");
                return;
            }
        }
    };
}

fn phasegraph(words: &[&str], folder: &Path) -> std::process::Output {
    let program = env!("CARGO_BIN_EXE_phasegraph");
    Command::new(program).args(words).current_dir(folder).output().unwrap()
}

/// The page of a recording, made by the program.
fn page_of(recording: &Path, folder: &Path) -> PathBuf {
    let page = folder.join("page.html");
    let words = [
        "report",
        recording.to_str().unwrap(),
        "--force",
        "-o",
        page.to_str().unwrap(),
    ];
    let output = phasegraph(&words, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    page
}

/// A recording of a few containers.
fn small(folder: &Path) -> PathBuf {
    let recording = folder.join("small.phg");
    busy_host::write(
        &recording,
        Size {
            containers: 8,
            samples: 240,
        },
    );
    recording
}

const STATUS: &str = "document.getElementById('flame-status').textContent";
const RANGE: &str = "document.getElementById('range').textContent";
const TITLE: &str = "document.getElementById('detail-title').textContent";
const BACK: &str = "getComputedStyle(document.documentElement).backgroundColor";

/// A canvas's place in the window, after scrolling to it: left, top, width, height.
fn place(page: &mut Page, id: &str) -> [f64; 4] {
    let script = format!(
        "(() => {{ const e = document.getElementById('{id}'); e.scrollIntoView({{block: 'start'}}); \
         const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; }})()"
    );
    let value = page.value(&script);
    let numbers: Vec<f64> = value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect();
    page.drawn();
    numbers.try_into().unwrap()
}

/// How many colours a canvas shows.
fn colors(page: &mut Page, id: &str) -> f64 {
    page.number(&format!(
        "(() => {{ const c = document.getElementById('{id}'); \
         const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer); \
         return new Set(d).size; }})()"
    ))
}

/// Make sure that a page is one private file, is not overwritten unasked, and goes to standard output when asked.
#[test]
fn file_is_private_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let recording = small(folder.path());
    let recording = recording.to_str().unwrap();
    let output = phasegraph(&["report", recording], folder.path());
    assert!(output.status.success() && output.stdout.is_empty());
    let page = folder.path().join("small.html");
    assert_eq!(fs::metadata(&page).unwrap().mode() & 0o777, 0o600);
    let output = phasegraph(&["report", recording], folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--force"));
    let output = phasegraph(&["report", recording, "-o", "-"], folder.path());
    assert_eq!(output.stdout, fs::read(&page).unwrap());
    let output = phasegraph(&["report", "none.phg"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// Make sure that the page shows timeline, selection and flamegraph, zooms and searches, with mouse and keys alone, in
/// light and dark and on paper, and that no name of a traced process does anything but stand there.
#[test]
fn page_works() {
    let mut page = browser!(1400, 900);
    let folder = tempfile::tempdir().unwrap();
    let file = page_of(&small(folder.path()), folder.path());
    page.open(&file);

    // Drawn, and about the slowest phase.
    assert!(colors(&mut page, "over") > 3.0 && colors(&mut page, "bars") > 5.0);
    assert!(colors(&mut page, "flame-canvas") > 5.0);
    assert_eq!(page.text(TITLE), "run");
    assert!(
        page.text("document.getElementById('verdict').textContent")
            .contains("run of container job-")
    );
    assert_eq!(page.number("document.querySelectorAll('.finding').length"), 10.0);

    // Hostile names: text, in all of its places.
    let all = page.text("document.body.textContent");
    assert!(all.contains("<img src=x onerror=alert(1)>") && all.contains("\\x1b[31m"));
    assert!(!all.contains('\u{1b}') && !all.contains('\u{202e}'));
    assert_eq!(
        page.number("document.querySelectorAll('img, iframe, script[src], link, object').length"),
        0.0
    );
    assert_eq!(page.number("document.scripts.length"), 2.0);

    // The timeline by keys: another row, zoom, whole again, close and open.
    page.value("document.getElementById('rows').focus()");
    let rows = "document.getElementById('rows').getAttribute('aria-activedescendant')";
    let before = page.text(rows);
    page.key("ArrowDown");
    assert_ne!(page.text(rows), before);
    page.key("ArrowUp");
    assert_eq!(page.text(rows), before);
    let whole = page.text(RANGE);
    page.key("+");
    assert_ne!(page.text(RANGE), whole);
    page.key("0");
    assert_eq!(page.text(RANGE), whole);
    page.key("Home");
    page.value("document.getElementById('rows').focus()");
    page.key("ArrowLeft");
    let open = "document.querySelector('.row').getAttribute('aria-expanded')";
    assert_eq!(page.text(open), "false");
    page.key("ArrowRight");
    assert_eq!(page.text(open), "true");
    page.key("Enter");
    assert_eq!(page.text(TITLE), "podman run");

    // And by mouse: drag to zoom, click to choose.
    let axis = place(&mut page, "axis")[0];
    let [left, top, width, _] = place(&mut page, "bars");
    assert_eq!(left, axis, "bars stand below their times");
    page.drag((left + width * 0.25, top + 11.0), (left + width * 0.5, top + 11.0));
    assert_ne!(page.text(RANGE), whole);
    let [left, top, ..] = place(&mut page, "labels");
    page.click((left + 80.0, top + 55.0));
    assert_ne!(page.text(TITLE), "podman run");

    // The phase table chooses too, and sorts.
    let wall =
        "[...document.querySelectorAll('#phases-table th button')].find((b) => b.textContent.startsWith('wall'))";
    page.value(&format!("{wall}.click()"));
    let first = "document.querySelector('#phases-table tbody tr td:nth-child(2)').textContent";
    assert_eq!(page.text(first), "run");
    page.value(&format!("{wall}.click()"));
    assert_ne!(page.text(first), "run");
    page.value(&format!(
        "{wall}.click(); document.querySelector('#phases-table tbody button').click()"
    ));
    assert_eq!(page.text(TITLE), "run");

    // The flamegraph: the whole, a frame by click, back by Escape, search.
    page.drawn();
    let whole = page.text(STATUS);
    assert!(
        whole.starts_with("run: ") && whole.contains("100 % of on-CPU time"),
        "{whole}"
    );
    let [left, top, ..] = place(&mut page, "flame-canvas");
    page.click((left + 30.0, top + 27.0));
    let zoomed = page.text(STATUS);
    assert_ne!(zoomed, whole);
    page.value("document.getElementById('flame-canvas').focus()");
    page.key("Escape");
    assert_eq!(page.text(STATUS), whole);
    page.key("ArrowDown");
    page.key("Enter");
    assert_eq!(page.text(STATUS), zoomed);
    page.key("Escape");
    page.key("/");
    page.write("function_2");
    let found = page.text(STATUS);
    assert!(found.contains("found ") && !found.contains("found 0 %"), "{found}");
    page.key("Escape");
    for (kind, word) in [
        ("Off-CPU", "of off-CPU time"),
        ("All time", "of all time"),
        ("Critical path", "of the critical path"),
        ("On-CPU", "of on-CPU time"),
    ] {
        let tab = format!("[...document.querySelectorAll('#kinds button')].find((b) => b.textContent === '{kind}')");
        page.value(&format!("{tab}.click()"));
        page.drawn();
        assert!(page.text(STATUS).contains(word), "{kind}");
    }

    // What was waited for may be a path of any length: it stays in its column.
    let columns = "document.getElementById('states')";
    page.value(&format!(
        "{columns}.querySelector('table[aria-label=\"All threads waited for\"] td').append('(/' + 'long-name.scope/'.repeat(12) + ')')"
    ));
    page.drawn();
    let wider = page.number(&format!("{columns}.scrollWidth - {columns}.clientWidth"));
    assert!(wider <= 0.0, "{wider}");

    // Dark, and on paper.
    let light = page.text(BACK);
    page.dark(true);
    page.wait(&format!("{BACK} !== '{light}'"));
    let pdf = page.pdf();
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 20_000, "{}", pdf.len());
    page.drawn();
    assert_ne!(page.text(BACK), light, "dark again after printing");
    page.dark(false);
    page.wait(&format!("{BACK} === '{light}'"));

    // Nothing is wider than a small window.
    page.size(420, 800);
    page.drawn();
    let wide = page.number("document.documentElement.scrollWidth");
    assert!(wide <= 420.0, "{wide}");
    assert_eq!(page.problems, [""; 0]);
}

/// Make sure that figures on the page are the ones that the JSON tells.
#[test]
fn figures_are_those_of_the_json() {
    let mut page = browser!(1400, 900);
    let folder = tempfile::tempdir().unwrap();
    let recording = small(folder.path());
    page.open(&page_of(&recording, folder.path()));
    let output = phasegraph(&["show", recording.to_str().unwrap(), "--json"], folder.path());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut seen = 0;
    for container in json["containers"].as_array().unwrap() {
        for phase in container["phases"].as_array().unwrap() {
            let row = format!(
                "[...[...document.querySelectorAll('#phases-table tbody tr')].find((r) => r.cells[0].textContent === '{}').cells]",
                phase["index"]
            );
            let title = |column: usize| format!("({row}[{column}].title || '0 ns').replace(/[^0-9]/g, '')");
            let figures = [(4, &phase["wall_ns"]), (6, &phase["all"]["cpu_ns"])];
            for (column, figure) in figures {
                assert_eq!(
                    page.text(&title(column)),
                    figure.to_string(),
                    "{column} of {}",
                    phase["index"]
                );
            }
            seen += 1;
        }
    }
    assert!(seen >= 8 * 4, "{seen}");
    assert_eq!(page.problems, [""; 0]);
}

/// Make sure that a recording of an hour of a busy host makes a page below 20 MB that opens in less than 3 s and redraws
/// in less than 100 ms. With `PHASEGRAPH_FULL` with a million samples.
#[test]
fn busy_host_opens() {
    let mut page = browser!(1600, 1000);
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("busy.phg");
    let samples = if std::env::var_os("PHASEGRAPH_FULL").is_some() {
        500
    } else {
        100
    };
    busy_host::write(
        &recording,
        Size {
            containers: 2_000,
            samples,
        },
    );
    let start = Instant::now();
    let file = page_of(&recording, folder.path());
    let made = start.elapsed();
    let size = fs::metadata(&file).unwrap().len();
    let opened = page.open(&file);
    let draw = "(() => { const rows = document.getElementById('rows'); rows.focus(); const t = performance.now(); \
                rows.dispatchEvent(new KeyboardEvent('keydown', {key: '+'})); \
                return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - t)))); })()";
    let drawn: Vec<f64> = (0..9).map(|_| page.number(draw)).collect();
    eprintln!("{samples} samples each: made in {made:?}, {size} bytes, opened in {opened:?}, drawn in {drawn:.1?} ms");
    assert!(size < 20_000_000, "{size}");
    assert!(opened < Duration::from_secs(3), "{opened:?}");
    let mut sorted = drawn;
    sorted.sort_by(f64::total_cmp);
    assert!(sorted[4] < 100.0, "{sorted:?}");
    assert_eq!(
        page.number("document.querySelectorAll('.row').length > 20 ? 1 : 0"),
        1.0
    );
    assert_eq!(page.problems, [""; 0]);
}

/// Make sure that an old recording and one of the demo, where it can be made, open without a complaint.
#[test]
fn recordings_open() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/format-1.phg");
    chromium::opens(&golden, folder.path(), &["Ten questions"]);
    // SAFETY: no arguments, no failure.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("no demo: needs root");
        return;
    }
    let output = phasegraph(&["demo", "-o", "demo"], folder.path());
    if !output.status.success() {
        eprintln!("no demo here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let phases = ["mount", "create", "init", "start", "run", "cleanup"];
    chromium::opens(&folder.path().join("demo/demo.phg"), folder.path(), &phases);
}

/// Make sure that with an earlier recording the page tells what has changed: of phases in the table, of frames in the
/// flamegraph.
#[test]
fn changes_are_told() {
    let mut page = browser!(1400, 900);
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.phg"), folder.path().join("new.phg"));
    busy_host::write(
        &old,
        Size {
            containers: 4,
            samples: 240,
        },
    );
    busy_host::write(
        &new,
        Size {
            containers: 8,
            samples: 240,
        },
    );
    let words = ["report", "new.phg", "--baseline", "old.phg", "-o", "page.html"];
    assert!(phasegraph(&words, folder.path()).status.success());
    page.open(&folder.path().join("page.html"));
    let head = page.text("document.getElementById('head').textContent");
    assert!(
        head.contains("Compared with: ") && head.contains("Length +100.0 %"),
        "{head}"
    );
    let cell = |row: usize, column: usize| {
        format!("document.querySelectorAll('#phases-table tbody tr')[{row}].cells[{column}].textContent")
    };
    assert_eq!(page.text(&cell(0, 6)), "same");
    let last = page.number("document.querySelectorAll('#phases-table tbody tr').length") as usize - 1;
    assert_eq!(page.text(&cell(last, 6)), "new");
    let first = "document.querySelector('#phases-table tbody button').click()";
    page.value(first);
    page.drawn();
    assert!(page.text(STATUS).contains(" before (same)"), "{}", page.text(STATUS));
    assert_eq!(page.problems, [""; 0]);
}
