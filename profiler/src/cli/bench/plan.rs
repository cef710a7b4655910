//! What is to be run: the command for each combination of parameters, cold, warm or both.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::{Args, Which};
use crate::cli::Problem;

/// Most combinations of parameters.
const MOST: usize = 1_000;

/// See the module.
pub(super) struct Plan {
    /// Whether each series of runs is cold, in order.
    pub(super) temperatures: Vec<bool>,
    pub(super) variants: Vec<Variant>,
}

/// The command with one combination of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) params: BTreeMap<String, String>,
    pub(super) command: Vec<OsString>,
    /// Commands before each cold run.
    pub(super) cold: Vec<Vec<String>>,
}

impl Plan {
    pub(super) fn new(args: &Args) -> Result<Plan, Problem> {
        let wrong = |what: String| Problem::new(what).with_status(2);
        let has_cold = !args.cold.is_empty() || args.drop_caches;
        let temperatures = match args.series {
            Some(Which::Cold) if !has_cold => {
                return Err(wrong("nothing says what makes a run cold".to_owned()).next("--cold CMD or --drop-caches"));
            }
            Some(Which::Cold) => vec![true],
            Some(Which::Warm) => vec![false],
            None if has_cold => vec![true, false],
            None => vec![false],
        };
        let mut cold = Vec::new();
        for line in &args.cold {
            match shlex::split(line) {
                Some(words) if !words.is_empty() => cold.push(words),
                _ => {
                    return Err(wrong(format!("--cold {line:?} can't be split into words"))
                        .next("close its quotes, or use sh -c '…'"));
                }
            }
        }
        let parameters = args
            .param
            .iter()
            .map(|text| parameter(text))
            .collect::<Result<Vec<_>, _>>();
        let parameters = parameters.map_err(wrong)?;
        for (index, (name, _)) in parameters.iter().enumerate() {
            let place = format!("{{{name}}}");
            let used = args.command.iter().any(|word| word.to_string_lossy().contains(&place))
                || cold.iter().flatten().any(|word| word.contains(&place));
            if !used {
                return Err(wrong(format!("{place} stands neither in the command nor in --cold")));
            }
            if parameters[..index].iter().any(|(other, _)| other == name) {
                return Err(wrong(format!("--param {name} is given twice")).next("all its values in one: k=a,b,c"));
            }
        }
        let mut variants = vec![Variant {
            params: BTreeMap::new(),
            command: args.command.clone(),
            cold,
        }];
        for (name, values) in &parameters {
            let combined = variants
                .iter()
                .flat_map(|variant| values.iter().map(|value| variant.with(name, value)));
            variants = combined.take(MOST + 1).collect();
            if variants.len() > MOST {
                return Err(wrong(format!("more than {MOST} combinations of parameters")));
            }
        }
        Ok(Plan { temperatures, variants })
    }

    /// Runs in all.
    pub(super) fn steps(&self, args: &Args) -> u64 {
        let each = u64::from(args.runs) * if args.unprofiled { 2 } else { 1 };
        let warm = self.temperatures.iter().filter(|cold| !**cold).count() as u64;
        self.variants.len() as u64 * (each * self.temperatures.len() as u64 + warm * u64::from(args.warmup))
    }
}

impl Variant {
    fn with(&self, name: &str, value: &str) -> Variant {
        let place = format!("{{{name}}}");
        let mut params = self.params.clone();
        params.insert(name.to_owned(), value.to_owned());
        let words = self
            .cold
            .iter()
            .map(|words| words.iter().map(|word| word.replace(&place, value)).collect());
        Variant {
            params,
            command: self.command.iter().map(|word| replace(word, &place, value)).collect(),
            cold: words.collect(),
        }
    }

    /// `j=4 c=gzip`.
    pub(super) fn title(&self) -> String {
        let params: Vec<String> = self
            .params
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        params.join(" ")
    }

    /// `cold j=4`.
    pub(super) fn series(&self, cold: bool) -> String {
        let temperature = if cold { "cold" } else { "warm" };
        format!("{temperature} {}", self.title()).trim_end().to_owned()
    }
}

fn replace(word: &OsString, place: &str, value: &str) -> OsString {
    match word.to_str() {
        Some(word) => word.replace(place, value).into(),
        // Arguments that are no text have no places.
        None => word.clone(),
    }
}

/// `k=v1,v2`.
fn parameter(text: &str) -> Result<(String, Vec<String>), String> {
    let Some((name, values)) = text.split_once('=') else {
        return Err(format!("--param {text:?} is not of the form k=v1,v2"));
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(format!("--param {text:?}: a name is made of letters, digits, _ and -"));
    }
    let values: Vec<String> = values.split(',').map(str::to_owned).collect();
    let mut distinct = values.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < values.len() || values.iter().any(|value| value.chars().any(char::is_control)) {
        return Err(format!("--param {text:?}: each value once, without control characters"));
    }
    Ok((name.to_owned(), values))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &[&str]) -> Result<Plan, Problem> {
        let words = ["bench"].iter().chain(line);
        Plan::new(&Line::try_parse_from(words).unwrap().args)
    }

    /// Make sure that parameters give every combination, in the command and in what cools it, and that the cold series
    /// comes first.
    #[test]
    fn combinations() {
        let line = [
            "--param",
            "j=1,4",
            "--param",
            "c=gz,zstd",
            "--cold",
            "rm -f 'a {c}'",
            "--",
            "tool",
            "-j{j}",
            "{c}",
        ];
        let plan = plan(&line).unwrap();
        let commands: Vec<Vec<OsString>> = plan.variants.iter().map(|variant| variant.command.clone()).collect();
        assert_eq!(
            commands,
            [
                ["tool", "-j1", "gz"],
                ["tool", "-j1", "zstd"],
                ["tool", "-j4", "gz"],
                ["tool", "-j4", "zstd"]
            ]
        );
        assert_eq!(plan.variants[1].cold, [["rm", "-f", "a zstd"]]);
        assert_eq!(plan.temperatures, [true, false]);
        assert_eq!(plan.variants[3].series(true), "cold c=zstd j=4");
    }

    /// Make sure that without anything to cool it there is one series, whose words stay as they are.
    #[test]
    fn plain() {
        let plan = plan(&["--", "echo", "{j}"]).unwrap();
        assert_eq!(plan.temperatures, [false]);
        assert_eq!(plan.variants[0].command, ["echo", "{j}"]);
        assert_eq!(plan.variants[0].series(false), "warm");
    }

    /// Make sure that what makes no sense is refused, with status 2.
    #[test]
    fn nonsense() {
        for line in [
            &["--param", "j", "--", "x", "{j}"][..],
            &["--param", "j=1,1", "--", "x", "{j}"],
            &["--param", "j=1", "--", "x"],
            &["--param", "j=1", "--param", "j=2", "--", "x", "{j}"],
            &["--param", "=1", "--", "x", "{}"],
            &["--series", "cold", "--", "x"],
            &["--cold", "rm 'a", "--", "x"],
            &["--cold", "", "--", "x"],
        ] {
            assert_eq!(plan(line).map(|_| ()).unwrap_err().status(), 2, "{line:?}");
        }
    }
}
