//! Sends an export to a server that the user names.

use std::time::Duration;

use super::Problem;
use crate::report::text;

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of its answer that are looked at.
const MAX_ANSWER: u64 = 64 << 10;

/// Posts JSON and says what came of it, in harmless words.
pub(super) fn post(url: &str, body: &[u8]) -> Result<String, Problem> {
    let failed = || Problem::new(format!("can't send to {url}"));
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(failed()
            .because("it is no URL of a server")
            .next("http://127.0.0.1:4318/v1/traces, for example")
            .with_status(2));
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .user_agent(concat!("phasegraph/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut response = agent
        .post(url)
        .content_type("application/json")
        .send(body)
        .map_err(|error| failed().because(error).next("check that the server listens there"))?;
    let status = response.status();
    let answer = response
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER)
        .read_to_vec()
        .unwrap_or_default();
    if !status.is_success() {
        return Err(failed().because(format!("it answered {status}: {}", text::visible(&answer))));
    }
    match rejected(&answer) {
        Some(why) => Err(failed().because(why)),
        None => Ok(format!("{} bytes, {status}", body.len())),
    }
}

/// A server takes part of a request and says so in a good answer
/// (<https://opentelemetry.io/docs/specs/otlp/#partial-success>).
fn rejected(answer: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let partial = answer.get("partialSuccess")?;
    let count = match partial.get("rejectedSpans")? {
        serde_json::Value::String(count) => count.parse().ok()?,
        count => count.as_u64()?,
    };
    let why = partial.get("errorMessage").and_then(|why| why.as_str());
    (count > 0).then(|| {
        let why = text::visible(why.unwrap_or("it gave no reason").as_bytes());
        format!("it rejected {count} spans: {why}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a partial success is a failure, and a whole one or an empty answer is not.
    #[test]
    fn partial_success() {
        assert_eq!(rejected(b""), None);
        assert_eq!(rejected(b"{}"), None);
        assert_eq!(rejected(br#"{"partialSuccess":{}}"#), None);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":"0"}}"#), None);
        let why = rejected(br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too\u001b old"}}"#).unwrap();
        assert_eq!(why, r"it rejected 3 spans: too\x1b old");
        assert!(
            rejected(br#"{"partialSuccess":{"rejectedSpans":2}}"#)
                .unwrap()
                .contains('2')
        );
    }
}
