//! Debug information from a server that the user names (<https://sourceware.org/elfutils/Debuginfod.html>).
//!
//! Only reports ask it, never a recording: a profiler with root's rights fetches nothing from a network, and the
//! workload's is left alone.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Largest file fetched, bytes.
const MAX_FILE: u64 = 4 << 30;
/// How long a server may take for one file, and to begin with it.
const TIMEOUT: Duration = Duration::from_secs(300);
const TIMEOUT_FIRST: Duration = Duration::from_secs(20);

/// Why a server gives nothing. That it does not have a file is none of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is no URL of a server: it begins with http:// or https://")]
    Url(String),
    #[error("asking {url} failed: {source}")]
    Ask {
        url: String,
        #[source]
        source: Box<ureq::Error>,
    },
    #[error("keeping debug information in {} failed: {source}", path.display())]
    Keep { path: PathBuf, source: io::Error },
}

/// A server, and the folder where its files are kept: laid out as `/usr/lib/debug`, so that it serves as `--debug-dir`.
#[derive(Debug)]
pub struct Server {
    url: String,
    folder: PathBuf,
    agent: ureq::Agent,
}

impl Server {
    /// Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`Error::Url`].
    pub fn new(url: &str, folder: PathBuf) -> Result<Server, Error> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Error::Url(url.to_owned()));
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(TIMEOUT_FIRST))
            .timeout_recv_response(Some(TIMEOUT_FIRST))
            .http_status_as_error(false)
            .user_agent(concat!("phasegraph/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Server {
            url: url.trim_end_matches('/').to_owned(),
            folder,
            agent: config.into(),
        })
    }

    /// The debug information of a build, fetched unless it is there already. `None`: the server does not have it.
    ///
    /// # Errors
    ///
    /// The server can't be asked, or the file not be kept.
    pub fn fetch(&self, build_id: &[u8]) -> Result<Option<PathBuf>, Error> {
        let Some((first, rest)) = build_id.split_first().filter(|(_, rest)| !rest.is_empty()) else {
            return Ok(None);
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let folder = self.folder.join(".build-id").join(format!("{first:02x}"));
        let path = folder.join(format!("{}.debug", hex(rest)));
        if path.is_file() {
            return Ok(Some(path));
        }
        let url = format!("{}/buildid/{}/debuginfo", self.url, hex(build_id));
        let ask = |source| Error::Ask {
            url: url.clone(),
            source: Box::new(source),
        };
        let mut response = self.agent.get(&url).call().map_err(ask)?;
        if response.status() == ureq::http::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(ask(ureq::Error::StatusCode(response.status().as_u16())));
        }
        let reader = response.body_mut().with_config().limit(MAX_FILE).reader();
        keep(reader, &folder, &path).map_err(|source| Error::Keep {
            path: path.clone(),
            source,
        })?;
        Ok(Some(path))
    }
}

/// Under its name only when it is whole.
fn keep(mut reader: impl io::Read, folder: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(&mut reader.by_ref().take(MAX_FILE), file.as_file_mut())?;
    file.persist(path).map(|_: File| ()).map_err(|error| error.error)
}

/// Where fetched files are kept: `$XDG_CACHE_HOME/phasegraph/debug`, or below `~/.cache`, or the system's folder for
/// temporary files.
pub fn cache_folder() -> PathBuf {
    let named = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    named("XDG_CACHE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("phasegraph/debug")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    /// A server on loopback that has one build. It gives the paths that it was asked for.
    fn serve(answers: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for _ in 0..answers {
                let (stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let first = lines.next().unwrap();
                lines.find(String::is_empty);
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let answer = match &path[..] {
                    "/buildid/abcdef/debuginfo" => "200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nDEBUG",
                    "/buildid/abcd00/debuginfo" => "200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\ncut",
                    "/buildid/500000/debuginfo" => "500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    _ => "404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                };
                (&stream).write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
                asked.push(path);
            }
            asked
        });
        (url, asked)
    }

    /// Make sure that a build is fetched once, kept under its id, and that a missing or a broken one leaves nothing.
    #[test]
    fn fetched_once() {
        let (url, asked) = serve(4);
        let folder = tempfile::tempdir().unwrap();
        let server = Server::new(&url, folder.path().to_owned()).unwrap();
        let path = server.fetch(&[0xab, 0xcd, 0xef]).unwrap().unwrap();
        assert_eq!(path, folder.path().join(".build-id/ab/cdef.debug"));
        assert_eq!(fs::read(&path).unwrap(), b"DEBUG");
        assert_eq!(server.fetch(&[0xab, 0xcd, 0xef]).unwrap(), Some(path));
        assert_eq!(server.fetch(&[1, 2, 3]).unwrap(), None);
        assert!(server.fetch(&[0xab, 0xcd, 0x00]).is_err());
        assert!(matches!(server.fetch(&[0x50, 0, 0]), Err(Error::Ask { .. })));
        assert_eq!(asked.join().unwrap().len(), 4);
        assert_eq!(fs::read_dir(folder.path().join(".build-id/ab")).unwrap().count(), 1);
        assert_eq!(server.fetch(&[]).unwrap(), None);
    }

    /// Make sure that what is no URL is refused before anything is asked.
    #[test]
    fn no_server() {
        for url in ["debuginfod.example", "file:///etc/passwd", ""] {
            assert!(matches!(Server::new(url, PathBuf::new()), Err(Error::Url(_))), "{url}");
        }
    }
}
