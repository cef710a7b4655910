//! `record`: the whole host, or one container that runs already.

use std::time::Duration;

use super::{Problem, capture};
use crate::control::containers;
use crate::session;

/// Record the whole host, or one running container
///
/// Every process of the host is followed, those that run already included, and every container, whoever starts it.
/// The recording ends when its time is up, or with Ctrl-C or SIGTERM, and a summary is printed on standard error.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        sudo phasegraph record --duration 60s\n  \
                        sudo phasegraph record -o night.phg --name nightly --max-overhead 1\n  \
                        sudo phasegraph record --container web --duration 5m\n\n\
                        Exit status: 0 when the recording was made and closed, 1 when it could not be.")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) capture: capture::Args,

    /// End after this time: 90s, 5m, 1h30m [default: when interrupted]
    #[arg(short, long, value_name = "D", value_parser = duration)]
    pub(crate) duration: Option<Duration>,

    /// Only this running container, with what its engine does for it: a name, an id, or the beginning of an id
    #[arg(long, value_name = "C")]
    pub(crate) container: Option<String>,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    // A number alone is seconds, as `sleep` has it.
    let parsed = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .ok_or("a length of time such as 90s, 5m or 1h30m")?,
    };
    if parsed.is_zero() {
        return Err("a length of time above 0".to_owned());
    }
    Ok(parsed)
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let problem = |error| capture::failed("can't record the host", error);
    session::check_privilege().map_err(problem)?;
    let container = match &args.container {
        None => None,
        Some(wanted) => Some(containers::find(wanted).map_err(|error| {
            Problem::new("can't record that container")
                .because(error)
                .next("one that runs; `run -- CMD…` records the start of another")
        })?),
    };
    let host = session::Host {
        duration: args.duration,
        container,
    };
    let outcome = session::run(&session::Options {
        host: Some(host),
        ..args.capture.options()?
    })
    .map_err(problem)?;
    args.capture.tell(&outcome.recording)?;
    Ok(outcome.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that lengths of time are read with and without a unit, and nonsense is refused.
    #[test]
    fn durations() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for nonsense in ["", "0", "0s", "-5s", "soon", "5 parsecs"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
    }
}
