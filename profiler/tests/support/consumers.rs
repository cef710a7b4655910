//! The programs that exports are for, from Debian, PyPI and npm. Each is set up once, below the build's own folder; where
//! it is not to be had the test says so and is skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::run::{Folder, stderr};

/// Says why a test does nothing.
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Something kept between runs; made whole or not at all.
fn kept(name: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        return Some(path);
    }
    let new = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    match make(new.path()) {
        Ok(()) => {
            // Another run may have been first.
            _ = std::fs::rename(new.path(), &path);
            Some(path)
        }
        Err(why) => {
            skip(&format!("{name}: {why}"));
            None
        }
    }
}

fn done(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{command:?}: {}", stderr(&output)))
}

/// Python with Perfetto's and OpenTelemetry's definitions.
pub(crate) struct Python(PathBuf);

pub(crate) fn python() -> Option<&'static Python> {
    static PYTHON: OnceLock<Option<Python>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| {
        let packages = kept("python-packages", |folder| {
            let venv = folder.join("venv");
            done(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            // Into a folder beside it: a venv does not survive being moved.
            done(
                Command::new(venv.join("bin/pip"))
                    .args(["install", "--quiet", "--disable-pip-version-check", "--target"])
                    .arg(folder.join("packages"))
                    .args(["perfetto", "opentelemetry-proto"]),
            )?;
            std::fs::remove_dir_all(venv).map_err(|error| error.to_string())
        })?;
        Some(Python(packages.join("packages")))
    });
    made.as_ref()
}

impl Python {
    /// What a script prints.
    pub(crate) fn json(&self, script: &str, args: &[&PathBuf]) -> Value {
        let mut command = Command::new("python3");
        command.args(["-c", script]).args(args).env("PYTHONPATH", &self.0);
        let output = done(&mut command).unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The folder of speedscope's page.
pub(crate) fn speedscope() -> Option<PathBuf> {
    static SPEEDSCOPE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = SPEEDSCOPE.get_or_init(|| {
        let folder = kept("speedscope", |folder| {
            let mut npm = Command::new("npm");
            npm.args(["pack", "--silent", "speedscope@1.25.0"]).current_dir(folder);
            done(&mut npm)?;
            let mut tar = Command::new("tar");
            done(tar.args(["xzf", "speedscope-1.25.0.tgz"]).current_dir(folder)).map(|_| ())
        })?;
        Some(folder.join("package/dist/release"))
    });
    made.clone()
}

/// A browser without a window.
pub(crate) struct Browser(&'static str);

pub(crate) fn browser() -> Option<Browser> {
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_ok());
    if found.is_none() {
        skip("chromium can't be run");
    }
    found.map(Browser)
}

impl Browser {
    /// speedscope's page with a profile loaded, as speedscope's own command line does it: a script beside the page that
    /// calls it with the file's bytes. The view is its table of functions, which is text.
    pub(crate) fn dom(&self, speedscope: &Path, profile: &[u8], folder: &Folder) -> String {
        let script = folder.path("profile.js");
        let bytes = base64(profile);
        std::fs::write(&script, format!("speedscope.loadFileFromBase64(\"x\", \"{bytes}\")")).unwrap();
        let url = format!(
            "file://{}/index.html#localProfilePath={}&view=sandwich",
            speedscope.display(),
            script.display()
        );
        let output = Command::new(self.0)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--allow-file-access-from-files",
                "--no-first-run",
                "--virtual-time-budget=20000",
                "--dump-dom",
            ])
            .arg(format!("--user-data-dir={}", folder.path("browser").display()))
            .arg(url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Text as a browser writes it between tags.
pub(crate) fn in_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { digit as char } else { '=' });
        }
    }
    text
}
