//! Results over time in one SQLite file: a series' figures are added, a phase's are asked for. The file is 0600, changed in
//! one transaction, and can be read by anything that reads SQLite (`docs/design/0024-budgets.md` has its tables).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::budget::is_called;
use super::results::{PhaseRun, Results};

/// `PRAGMA application_id`: "phgh".
const APPLICATION: i32 = 0x7068_6768;

/// `PRAGMA user_version`: raised with the tables.
const VERSION: i32 = 1;

/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(30);

const TABLES: &str = "
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    checksum TEXT NOT NULL,      -- of the results: the same ones are added once
    series TEXT NOT NULL,        -- warm, cold j=4
    name TEXT NOT NULL,          -- as --name gave it
    command TEXT NOT NULL,       -- arguments as a JSON array
    began_real_ns INTEGER NOT NULL,
    hostname TEXT NOT NULL,
    cpu_model TEXT NOT NULL,
    kernel TEXT NOT NULL,
    version TEXT NOT NULL,       -- phasegraph's
    commit_id TEXT,              -- of the working folder's checkout
    runs INTEGER NOT NULL,
    good INTEGER NOT NULL,       -- successful ones
    UNIQUE (checksum, series)
);
CREATE TABLE measure (
    series_id INTEGER NOT NULL REFERENCES series (id) ON DELETE CASCADE,
    key TEXT NOT NULL,           -- the phase
    kind TEXT NOT NULL,
    measure TEXT NOT NULL,       -- wall, cpu, disk, ..., bytes
    n INTEGER NOT NULL,
    median INTEGER NOT NULL,     -- ns or bytes, like the next
    mean INTEGER NOT NULL,
    sd INTEGER NOT NULL,
    min INTEGER NOT NULL,
    max INTEGER NOT NULL,
    p95 INTEGER NOT NULL,
    p99 INTEGER NOT NULL,
    PRIMARY KEY (series_id, key, measure)
);
";

/// Why a history can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("it is an SQLite file, but no history of phasegraph")]
    Other,
    #[error("its tables are version {0}, this phasegraph knows {VERSION}; use a newer one")]
    Newer(i32),
}

/// The file.
#[derive(Debug)]
pub struct History(Connection);

/// Figures of one phase in one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub series: String,
    pub command: Vec<String>,
    pub hostname: String,
    pub began_real_ns: u64,
    pub commit: Option<String>,
    pub key: String,
    pub n: u32,
    pub median: u64,
    pub min: u64,
    pub max: u64,
}

impl History {
    /// Opens a history to add to it, and makes one when there is none.
    ///
    /// # Errors
    ///
    /// [`HistoryError`].
    pub fn create(path: &Path) -> Result<History, HistoryError> {
        // SQLite would make it readable for all.
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if tables == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        is_ours(&transaction)?;
        transaction.commit()?;
        Ok(History(connection))
    }

    /// Opens a history that is there, to read it: no lock of a writer, no right to write is needed.
    ///
    /// # Errors
    ///
    /// [`HistoryError`].
    pub fn open(path: &Path) -> Result<History, HistoryError> {
        path.metadata()?;
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        is_ours(&connection)?;
        Ok(History(connection))
    }

    /// Adds all series of some results; how many were not there yet. `checksum`: the results' own.
    ///
    /// # Errors
    ///
    /// [`HistoryError`]; nothing was added then.
    pub fn add(&mut self, results: &Results, checksum: &str) -> Result<usize, HistoryError> {
        let transaction = self
            .0
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut added = 0;
        for series in &results.series {
            let id: Option<i64> = transaction
                .query_row(
                    "INSERT INTO series (checksum, series, name, command, began_real_ns, hostname, cpu_model, kernel, version, \
                     commit_id, runs, good) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                     ON CONFLICT DO NOTHING RETURNING id",
                    params![
                        checksum,
                        series.name,
                        results.name,
                        serde_json::to_string(&results.command)?,
                        signed(results.began_real_ns),
                        results.host.hostname,
                        results.host.cpu_model,
                        results.host.kernel,
                        results.version,
                        results.commit,
                        series.runs.len() as i64,
                        series.good().count() as i64,
                    ],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(id) = id else { continue };
            added += 1;
            let mut insert = transaction.prepare(
                "INSERT INTO measure (series_id, key, kind, measure, n, median, mean, sd, min, max, p95, p99) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?;
            for measure in &series.measures {
                let mut phases = series.good().flat_map(|run| &run.phases);
                let phase = phases.find(|phase| phase.key == measure.key);
                let summary = &measure.summary;
                insert.execute(params![
                    id,
                    measure.key,
                    phase.map_or("", |phase| &phase.kind),
                    measure.measure,
                    summary.n,
                    signed(summary.median),
                    signed(summary.mean),
                    signed(summary.sd),
                    signed(summary.min),
                    signed(summary.max),
                    signed(summary.p95),
                    signed(summary.p99),
                ])?;
            }
        }
        transaction.commit()?;
        Ok(added)
    }

    /// A phase's figures, oldest first. `phase`: as in a budget.
    ///
    /// # Errors
    ///
    /// [`HistoryError`].
    pub fn entries(&self, phase: &str, measure: &str) -> Result<Vec<Entry>, HistoryError> {
        let mut select = self.0.prepare(
            "SELECT name, series, command, hostname, began_real_ns, commit_id, key, kind, n, median, min, max \
             FROM measure JOIN series ON series.id = series_id WHERE measure = ?1 ORDER BY began_real_ns, series.id",
        )?;
        let mut rows = select.query([measure])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let found = PhaseRun {
                key: row.get(6)?,
                kind: row.get(7)?,
                ..PhaseRun::default()
            };
            if !is_called(&found, phase) {
                continue;
            }
            let number = |column: usize| row.get::<_, i64>(column).map(|number| number.max(0).cast_unsigned());
            let command: String = row.get(2)?;
            entries.push(Entry {
                name: row.get(0)?,
                series: row.get(1)?,
                command: serde_json::from_str(&command).unwrap_or_default(),
                hostname: row.get(3)?,
                began_real_ns: number(4)?,
                commit: row.get(5)?,
                key: found.key,
                n: row.get(8)?,
                median: number(9)?,
                min: number(10)?,
                max: number(11)?,
            });
        }
        Ok(entries)
    }

    /// Phases that there are figures of, for people.
    ///
    /// # Errors
    ///
    /// [`HistoryError`].
    pub fn known(&self) -> Result<Vec<String>, HistoryError> {
        let mut select = self.0.prepare("SELECT DISTINCT kind FROM measure ORDER BY kind")?;
        let names = select.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }
}

/// Connects to a file that is there; its name is no URI, whatever it begins with.
fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// Whether these are a history's tables, of a version that is known.
fn is_ours(connection: &Connection) -> Result<(), HistoryError> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    if number("application_id")? != APPLICATION {
        return Err(HistoryError::Other);
    }
    let version = number("user_version")?;
    if version > VERSION {
        return Err(HistoryError::Newer(version));
    }
    Ok(())
}

/// SQLite's integers are signed.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::compare::diff::tests::series;

    fn results(seed: u64) -> Results {
        Results {
            name: "base".to_owned(),
            command: vec!["podman".to_owned(), "run".to_owned()],
            began_real_ns: 1_790_000_000_000_000_000 + seed,
            series: vec![series(seed, 3, 0.01, |_| 1.0)],
            ..Results::default()
        }
    }

    /// Make sure that figures come back as they were, in order of time, that the same results are added once, and that the
    /// file is private.
    #[test]
    fn added_and_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let mut history = History::create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let (second, first) = (results(2), results(1));
        assert_eq!(history.add(&second, "b").unwrap(), 1);
        assert_eq!(history.add(&first, "a").unwrap(), 1);
        assert_eq!(history.add(&first, "a").unwrap(), 0);
        drop(history);
        let history = History::open(&path).unwrap();
        let entries = history.entries("create", "wall").unwrap();
        assert_eq!(entries.len(), 2);
        for (entry, results) in entries.iter().zip([&first, &second]) {
            let measures = results.series[0].measures.iter();
            let mut of = measures.filter(|measure| measure.key == entry.key && measure.measure == "wall");
            assert_eq!(entry.median, of.next().unwrap().summary.median);
            assert_eq!(entry.began_real_ns, results.began_real_ns);
            assert_eq!(entry.command, results.command);
        }
        assert_eq!(history.entries("teleport", "wall").unwrap(), []);
        assert!(history.known().unwrap().contains(&"create".to_owned()));
    }

    /// Make sure that a history is read while somebody writes to it, and that reading changes nothing.
    #[test]
    fn readers_do_not_write() {
        let folder = tempfile::tempdir().unwrap();
        // SQLite would take such a name for a URI, and its end for options.
        let path = folder.path().join("file:history?mode=memory");
        let mut history = History::create(&path).unwrap();
        history.add(&results(1), "a").unwrap();
        let writer = history
            .0
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .unwrap();
        let start = std::time::Instant::now();
        let mut reader = History::open(&path).unwrap();
        assert_eq!(reader.entries("create", "wall").unwrap().len(), 1);
        assert!(start.elapsed() < PATIENCE / 2, "it waited for the writer");
        drop(writer);
        assert!(matches!(reader.add(&results(2), "b"), Err(HistoryError::Sql(_))));
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert!(matches!(History::open(&empty), Err(HistoryError::Other)));
        assert_eq!(empty.metadata().unwrap().len(), 0);
    }

    /// Make sure that other files, other databases and newer histories are refused and left as they are.
    #[test]
    fn refused() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        std::fs::write(
            &text,
            "no database at all, but long enough to be looked at: ".repeat(40),
        )
        .unwrap();
        assert!(matches!(History::create(&text), Err(HistoryError::Sql(_))));
        let other = folder.path().join("other");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE t (x)")
            .unwrap();
        assert!(matches!(History::create(&other), Err(HistoryError::Other)));
        let newer = folder.path().join("newer");
        History::create(&newer)
            .unwrap()
            .0
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        assert!(matches!(History::open(&newer), Err(HistoryError::Newer(_))));
        assert!(matches!(
            History::open(&folder.path().join("none")),
            Err(HistoryError::Io(_))
        ));
    }
}
