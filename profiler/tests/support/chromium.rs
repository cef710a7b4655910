//! Headless Chromium, spoken to over a pair of pipes: messages of its DevTools protocol, each ended by a NUL.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A browser ends by itself after this, should a test hang.
const LONGEST: &str = "300";

/// Why no browser can be had; tests print it and pass.
pub(crate) struct Skip(pub String);

/// One page in a browser of its own, with a fresh profile.
pub(crate) struct Page {
    browser: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    number: u64,
    /// Errors and messages of the page's console, and what the page asked the network for.
    pub problems: Vec<String>,
    profile: tempfile::TempDir,
}

impl Page {
    /// Starts a browser with an empty page of that size, CSS pixels.
    pub(crate) fn new(width: u32, height: u32) -> Result<Page, Skip> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("chromium").is_file()) {
            return Err(Skip("needs `chromium`".to_owned()));
        }
        let profile = tempfile::tempdir().unwrap();
        // The protocol's pipes are descriptors 3 and 4: the shell moves standard input and output there.
        let script = "exec timeout --kill-after=5 \"$1\" chromium --headless --no-sandbox --disable-gpu --disable-quic \
                      --no-first-run --disable-background-networking --disable-component-update --disable-sync \
                      --remote-debugging-pipe --user-data-dir=\"$2\" about:blank 3<&0 4>&1 0</dev/null 1>/dev/null";
        let mut browser = Command::new("sh")
            .args(["-c", script, "sh", LONGEST])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (browser.stdin.take().unwrap(), browser.stdout.take().unwrap());
        let mut page = Page {
            browser,
            input,
            output: BufReader::new(output),
            session: None,
            number: 0,
            problems: Vec::new(),
            profile,
        };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = page.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        page.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.size(width, height);
        Ok(page)
    }

    /// Asks the browser for something and gives its answer; what happens meanwhile is kept.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.input.write_all(&bytes).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.output.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "chromium has ended");
            let mut answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.keep(&answer);
        }
    }

    fn keep(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => self.problems.push(params["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" => self.problems.push(params["args"].to_string()),
            "Log.entryAdded" => self.problems.push(params["entry"]["text"].to_string()),
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                if !url.starts_with("file:///") && !url.starts_with("blob:") {
                    self.problems.push(format!("asks for {url}"));
                }
            }
            // `alert(1)` of a script that must not run; nothing more would be answered.
            "Page.javascriptDialogOpening" => panic!("a script of the recording's runs: {params}"),
            _ => {}
        }
    }

    pub(crate) fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Whether the system prefers dark pages.
    pub(crate) fn dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// Opens a report and waits for it; how long that took.
    pub(crate) fn open(&mut self, file: &Path) -> Duration {
        let start = Instant::now();
        self.call("Page.navigate", json!({"url": format!("file://{}", file.display())}));
        self.wait("document.documentElement?.dataset.ready === 'true'");
        start.elapsed()
    }

    /// What an expression is worth, once its promise is kept.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut result = self.call("Runtime.evaluate", params);
        let thrown = &result["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        result["result"]["value"].take()
    }

    pub(crate) fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{expression}: {value}"))
            .to_owned()
    }

    pub(crate) fn number(&mut self, expression: &str) -> f64 {
        let value = self.value(expression);
        value.as_f64().unwrap_or_else(|| panic!("{expression}: {value}"))
    }

    /// Waits until a condition holds.
    pub(crate) fn wait(&mut self, condition: &str) {
        let start = Instant::now();
        while self.value(condition) != true {
            let message = "document.getElementById('message')?.textContent ?? ''";
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "never: {condition}; {}; {:?}",
                self.text(message),
                self.problems
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until everything that was asked to be drawn is drawn.
    pub(crate) fn drawn(&mut self) {
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))");
    }

    /// A key, by its name in the DOM and its text if it has one.
    pub(crate) fn key(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event = json!({"type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", event);
        }
        self.drawn();
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
        self.drawn();
    }

    /// Presses the mouse at one place of the window and lets it go at another.
    pub(crate) fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        let steps = [
            ("mouseMoved", from),
            ("mousePressed", from),
            ("mouseMoved", to),
            ("mouseReleased", to),
        ];
        for (kind, (x, y)) in steps {
            let buttons = i32::from(kind == "mouseMoved" && (x, y) == to);
            let button = if kind == "mouseMoved" && (x, y) == from {
                "none"
            } else {
                "left"
            };
            let event = json!({"type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
        self.drawn();
    }

    pub(crate) fn click(&mut self, at: (f64, f64)) {
        self.drag(at, at);
    }

    /// The page as it is printed.
    pub(crate) fn pdf(&mut self) -> Vec<u8> {
        let params = json!({"printBackground": true, "preferCSSPageSize": true});
        let pdf = self.call("Page.printToPDF", params);
        let decoded = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            pdf["data"].as_str().unwrap(),
        );
        decoded.unwrap()
    }
}

/// Makes the page of a recording, opens it and looks for texts on it. Without a browser it says so.
pub(crate) fn opens(recording: &Path, folder: &Path, texts: &[&str]) {
    let file = folder.join("opened.html");
    let made = Command::new(env!("CARGO_BIN_EXE_phasegraph"))
        .args(["report", "--force", "-o"])
        .args([&file, recording])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut page = match Page::new(1400, 900) {
        Ok(page) => page,
        Err(Skip(why)) => {
            eprintln!("the page is not opened: {why}");
            return;
        }
    };
    page.open(&file);
    let all = page.text("document.getElementById('main').textContent");
    for text in texts {
        assert!(all.contains(text), "{text}");
    }
    assert_eq!(page.problems, [""; 0]);
}

impl Drop for Page {
    fn drop(&mut self) {
        // The browser's own processes end with it; its profile goes after them.
        let _ = self.input.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let start = Instant::now();
        while self.browser.try_wait().is_ok_and(|status| status.is_none()) && start.elapsed() < Duration::from_secs(10)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.browser.kill();
        let _ = self.browser.wait();
        let _ = std::fs::remove_dir_all(self.profile.path());
    }
}
