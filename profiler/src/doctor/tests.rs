use super::*;
use crate::report::{terminal::Style, text};

fn findings() -> Findings {
    let check = |name, verdict, advice: &str| Check {
        name,
        verdict,
        found: "something \x1b[31m that was found".into(),
        advice: advice.into(),
    };
    let signal = |signal, rung, lost| Signal {
        signal,
        gives: "what it gives",
        required: false,
        rung,
        lost,
        detail: String::new(),
        refused: Vec::new(),
    };
    Findings {
        schema: SCHEMA,
        version: "0.1.0",
        works: true,
        checks: vec![
            check("kernel", Verdict::Good, ""),
            check(
                "pid namespace",
                Verdict::Bad,
                "start the container with --pid=host, and so on and on and on",
            ),
        ],
        signals: vec![
            signal("sched_switch", Some("tp_btf"), ""),
            signal(
                "mount_calls",
                Some("tracepoint"),
                "60 ns of every system call of the host",
            ),
            signal("cgroup_mkdir", None, ""),
        ],
        runtimes: vec![Runtime {
            program: "podman",
            path: "/usr/bin/podman".into(),
            version: "4.3.1".into(),
            storage: vec!["overlay".into()],
        }],
    }
}

/// Make sure that the page says what is missing, fits 80 columns, and lets no control character through.
#[test]
fn page() {
    let style = Style {
        width: 80,
        color: false,
        utf8: true,
    };
    let page = render(&findings(), &style);
    for line in page.lines() {
        assert!(text::width(line) <= 80, "{line:?}");
    }
    let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for fact in [
        "a recording works here",
        "! pid namespace",
        "--pid=host",
        "tp_btf sched_switch",
        "- tracepoint mount_calls; lost: 60 ns",
        "- none cgroup_mkdir; lost: what it gives",
        "podman 4.3.1 (overlay)",
    ] {
        assert!(words.contains(fact), "{fact} in\n{page}");
    }
    assert!(!page.contains('\x1b'));
}

/// Make sure that an examination of this host names everything, fits a screen, and can be read by machines.
#[test]
fn this_host() {
    let findings = examine();
    for name in [
        "kernel",
        "privileges",
        "pid namespace",
        "lockdown",
        "kernel types",
        "cgroups",
        "perf events",
        "kernel symbols",
        "user symbols",
        "free space",
        "signals",
    ] {
        assert!(findings.checks.iter().any(|check| check.name == name), "{name}");
    }
    let style = Style {
        width: 80,
        color: false,
        utf8: true,
    };
    let page = render(&findings, &style);
    assert!(page.lines().count() <= 50, "{page}");
    assert!(page.lines().all(|line| text::width(line) <= 80), "{page}");
    let json: serde_json::Value = serde_json::from_slice(&serde_json::to_vec(&findings).unwrap()).unwrap();
    assert_eq!(json["works"], findings.works);
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        assert!(!findings.works && findings.signals.is_empty());
        assert!(page.contains("root"), "{page}");
    }
}
