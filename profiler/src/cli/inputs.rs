//! Series of runs from wherever they are: a folder that `bench` wrote, its `results.json`, a folder of recordings, one
//! recording.

use std::path::{Path, PathBuf};

use super::{Problem, load};
use crate::compare::digest;
use crate::compare::results::{FILE, KIND, Results, SCHEMA, Series};
use crate::report::text;

/// Largest file of results, bytes: 10,000 runs of 100 phases are 1 GB.
const LARGEST: u64 = 2 << 30;

/// Series, and where their recordings are.
pub(super) struct Input {
    pub(super) results: Results,
    /// What the user called it; harmless text.
    pub(super) title: String,
    folder: PathBuf,
}

/// Reads what is at `path`.
///
/// # Errors
///
/// It holds no series; status 2.
pub(super) fn read(path: &Path) -> Result<Input, Problem> {
    let failed = || Problem::new(format!("can't use {}", path.display())).with_status(2);
    let title = text::visible(path.as_os_str().as_encoded_bytes());
    let file = path.metadata().map_err(|error| failed().because(error))?;
    if file.is_dir() {
        let results = path.join(FILE);
        if results.exists() {
            return Ok(Input {
                results: json(&results)?,
                title,
                folder: path.to_owned(),
            });
        }
        let mut recordings: Vec<PathBuf> = std::fs::read_dir(path)
            .map_err(|error| failed().because(error))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "phg"))
            .collect();
        recordings.sort();
        if recordings.is_empty() {
            return Err(failed().because("it holds neither results.json nor a recording (*.phg)"));
        }
        return Ok(Input {
            results: recorded(&recordings)?,
            title,
            folder: path.to_owned(),
        });
    }
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let results = if begins_with_brace(path) {
        json(path)?
    } else {
        recorded(&[path.to_owned()])?
    };
    Ok(Input { results, title, folder })
}

/// A recording begins with a magic of its own, a file of results with a brace.
fn begins_with_brace(path: &Path) -> bool {
    use std::io::Read as _;
    let mut first = [0; 64];
    let length = std::fs::File::open(path)
        .and_then(|mut file| file.read(&mut first))
        .unwrap_or(0);
    first[..length].trim_ascii_start().first() == Some(&b'{')
}

fn json(path: &Path) -> Result<Results, Problem> {
    let failed = || Problem::new(format!("can't use {}", path.display())).with_status(2);
    let length = path.metadata().map_err(|error| failed().because(error))?.len();
    if length > LARGEST {
        return Err(failed().because(format!("it is larger than {} GiB", LARGEST >> 30)));
    }
    let bytes = std::fs::read(path).map_err(|error| failed().because(error))?;
    Results::from_json(&bytes).map_err(|error| failed().because(error).next("run phasegraph bench again"))
}

/// Recordings as the runs of one series.
fn recorded(paths: &[PathBuf]) -> Result<Results, Problem> {
    let mut results = Results {
        kind: KIND.to_owned(),
        schema: SCHEMA,
        ..Results::default()
    };
    let mut series = Series {
        name: "recordings".to_owned(),
        ..Series::default()
    };
    for (index, path) in paths.iter().enumerate() {
        let session = load(path).map_err(|problem| problem.with_status(2))?;
        let mut run = digest::run(&session, false);
        run.number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        run.recording = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        if index == 0 {
            results.host = digest::host(&session);
            results.commit = digest::commit(&session);
            results.notes = digest::notes(&session);
            results.version = text::visible(session.meta.version.as_bytes());
            results.command = session.meta.command.iter().map(|word| text::visible(word)).collect();
            results.began_real_ns = run.began_real_ns;
        }
        series.runs.push(run);
    }
    series.summarize();
    results.series = vec![series];
    Ok(results)
}

impl Input {
    /// The series of this name.
    ///
    /// # Errors
    ///
    /// There is none; status 2.
    pub(super) fn series(&self, name: &str) -> Result<&Series, Problem> {
        let series = &self.results.series;
        series.iter().find(|series| series.name == name).ok_or_else(|| {
            let known: Vec<&str> = series.iter().map(|series| &series.name[..]).collect();
            let known = known.join(", ");
            Problem::new(format!("no series {name:?} in {}; there is: {known}", self.title)).with_status(2)
        })
    }

    /// Leaves only the series of this name.
    ///
    /// # Errors
    ///
    /// There is none; status 2.
    pub(super) fn only(&mut self, name: &str) -> Result<(), Problem> {
        self.series(name)?;
        self.results.series.retain(|series| series.name == name);
        Ok(())
    }

    /// Series without recordings.
    #[cfg(test)]
    pub(super) fn of(results: Results) -> Input {
        Input {
            results,
            title: String::new(),
            folder: PathBuf::new(),
        }
    }

    /// Recordings of the successful runs of a series, as far as they were kept.
    pub(super) fn recordings(&self, series: &Series) -> Vec<PathBuf> {
        let names = series.good().filter_map(|run| run.recording.as_deref());
        // A name in a file of results leads nowhere else.
        let plain = names.filter(|name| Path::new(name).components().count() == 1 && !name.starts_with('.'));
        plain
            .map(|name| self.folder.join(name))
            .filter(|path| path.is_file())
            .collect()
    }
}
