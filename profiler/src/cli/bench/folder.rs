//! The folder of a series of runs: recordings, `results.json`, tables.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::cli::Problem;
use crate::cli::output::Target;
use crate::compare::results::{FILE, Outcome, Results, Series};
use crate::report::compare::tsv;

/// See the module.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A new one, or an empty one that is there.
    pub(super) fn create(asked: Option<PathBuf>) -> Result<Folder, Problem> {
        let path = asked.unwrap_or_else(|| {
            let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
            PathBuf::from(format!("phasegraph-bench-{now}"))
        });
        let failed = |error| Problem::new(format!("can't make the folder {}", path.display())).because(error);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // Whoever else may write there could put links where files are written, and files where they are read.
                let there = path.metadata().map_err(failed)?;
                if there.uid() != rustix::process::geteuid().as_raw() || there.mode() & 0o022 != 0 {
                    return Err(
                        Problem::new(format!("others than this user may write into {}", path.display()))
                            .next("another name with -o: a folder that is not there is made"),
                    );
                }
                let mut entries = std::fs::read_dir(&path).map_err(failed)?;
                if entries.next().is_some() {
                    return Err(Problem::new(format!("{} is not empty", path.display()))
                        .next("another name with -o: nothing is overwritten"));
                }
            }
            Err(error) => return Err(failed(error)),
        }
        // Runs of the command may change the working folder's name, not this one's.
        Ok(Folder(std::path::absolute(&path).map_err(failed)?))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Nothing came of it.
    pub(super) fn remove_if_empty(&self) {
        _ = std::fs::remove_dir(&self.0);
    }

    /// Keeps the recordings of the slowest and of the middle successful run, and of those that failed.
    pub(super) fn keep_ends(&self, series: &mut Series) {
        let mut order: Vec<(u64, u32)> = series.good().map(|run| (run.wall_ns, run.number)).collect();
        order.sort_unstable();
        let kept =
            [order.last(), order.get(order.len().saturating_sub(1) / 2)].map(|run| run.map(|(_, number)| *number));
        for run in &mut series.runs {
            if run.outcome != Outcome::Ok || kept.contains(&Some(run.number)) {
                continue;
            }
            if let Some(name) = run.recording.take() {
                _ = std::fs::remove_file(self.0.join(name));
            }
        }
    }

    /// Writes the results and their tables; the results' checksum.
    pub(super) fn write(&self, results: &Results) -> Result<String, Problem> {
        let failed = |error| Problem::new("can't make JSON of the results").because(error);
        let (json, checksum) = results.to_json().map_err(failed)?;
        let table = |table: std::io::Result<Vec<u8>>| {
            table.map_err(|error| Problem::new("can't make a table of the results").because(error))
        };
        Target::File(self.0.join(FILE)).write(&json, false)?;
        Target::File(self.0.join("summary.tsv")).write(&table(tsv::summary(results))?, false)?;
        Target::File(self.0.join("runs.tsv")).write(&table(tsv::runs(results))?, false)?;
        Ok(checksum)
    }
}

/// File name of a run's recording: the series' place and name, as far as that is harmless, and the run's number.
pub(super) fn recording(series: usize, name: &str, number: u32) -> String {
    let plain = |char: char| if char.is_ascii_alphanumeric() { char } else { '-' };
    let name: String = name.chars().take(40).map(plain).collect();
    format!("{series:02}-{name}-{number:04}.phg")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::results::Run;

    /// Make sure that names are plain whatever a parameter is, and sort as the runs were.
    #[test]
    fn names() {
        assert_eq!(recording(1, "warm j=../../x", 7), "01-warm-j-------x-0007.phg");
        assert!(recording(1, "warm", 9) < recording(1, "warm", 10));
    }

    /// Make sure that an empty folder of one's own is taken, and none that others may write into.
    #[test]
    fn folders_of_others() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("there");
        std::fs::create_dir(&path).unwrap();
        for (mode, taken) in [(0o700, true), (0o755, true), (0o775, false), (0o1777, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Folder::create(Some(path.clone())).is_ok(), taken, "{mode:o}");
        }
    }

    /// Make sure that of the recordings the slowest, the middle one and those of failed runs stay.
    #[test]
    fn ends() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::create(Some(parent.path().join("new"))).unwrap();
        let mut series = Series::default();
        for (number, wall_ns) in [(1, 30), (2, 10), (3, 20), (4, 40), (5, 5)] {
            let name = recording(1, "warm", number);
            std::fs::write(folder.path().join(&name), "x").unwrap();
            series.runs.push(Run {
                number,
                wall_ns,
                recording: Some(name),
                ..Run::default()
            });
        }
        series.runs[4].outcome = Outcome::Failed;
        folder.keep_ends(&mut series);
        let kept: Vec<u32> = series
            .runs
            .iter()
            .filter(|run| run.recording.is_some())
            .map(|run| run.number)
            .collect();
        assert_eq!(kept, [3, 4, 5]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        assert!(Folder::create(Some(folder.path().to_owned())).is_err());
    }
}
