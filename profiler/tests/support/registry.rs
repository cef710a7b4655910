//! A registry of our own, images with layers of known size in it, and a slow way to it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::host::{self, Corner, Skip, succeed};
use super::workload;

/// Where it listens, within the corner.
pub(crate) const ADDRESS: &str = "127.0.0.1:5000";
/// Where the slow way to it begins.
pub(crate) const SLOW: &str = "127.0.0.1:5001";

/// `docker-registry serve` in a corner, ended when it is dropped.
pub(crate) struct Registry {
    server: Child,
    folder: PathBuf,
}

/// A layer as it was made.
pub(crate) struct Layer {
    /// `sha256:…` of it as it is sent.
    pub blob: String,
    pub blob_bytes: u64,
    /// Size of the archive in it.
    pub diff_bytes: u64,
    /// Sum of the sizes of its files.
    pub file_bytes: u64,
}

/// An image as it was made; pushed as `ADDRESS/NAME:1`.
pub(crate) struct Image {
    pub name: String,
    pub digest: String,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

impl Registry {
    pub(crate) fn new(corner: &Corner) -> Result<Registry, Skip> {
        host::require(&["docker-registry", "skopeo", "tar", "gzip"])?;
        let folder = corner.folder().join("registry");
        fs::create_dir_all(&folder).unwrap();
        let configuration = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: \
             {ADDRESS}}}\n",
            folder.display()
        );
        fs::write(&configuration, text).unwrap();
        let server = corner
            .command("docker-registry")
            .arg("serve")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Registry { server, folder };
        let start = Instant::now();
        let listens = || {
            let mut look = corner.command("sh");
            look.args(["-c", "grep -q ':1388 00000000:0000 0A' /proc/net/tcp /proc/net/tcp6"]);
            look.status().unwrap().success()
        };
        while !listens() {
            if start.elapsed() > Duration::from_secs(30) {
                return Err(Skip("docker-registry does not start here".to_owned()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// Makes an image with layers of these sizes and pushes it. The first layer holds the tiny root file system too.
    pub(crate) fn push(&self, corner: &Corner, name: &str, sizes: &[u64]) -> Result<Image, Skip> {
        let layout = self.folder.join(name);
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let mut layers = Vec::new();
        let mut diffs = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            let root = self.folder.join(format!("{name}-{index}"));
            fs::create_dir_all(&root).unwrap();
            if index == 0 {
                workload::busybox_root(&root)?;
            }
            contents(&root.join(format!("file-{index}")), *size, name);
            let file_bytes = files(&root);
            let archive = succeed(Command::new("tar").arg("-C").arg(&root).args(["-cf", "-", "."])).stdout;
            fs::remove_dir_all(&root).unwrap();
            let packed = pack(&archive);
            diffs.push(digest(&archive));
            layers.push(Layer {
                blob: put(&blobs, &packed),
                blob_bytes: packed.len() as u64,
                diff_bytes: archive.len() as u64,
                file_bytes,
            });
        }
        let configuration = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["/bin/sleep", "1000"]},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        let configuration = configuration.to_string().into_bytes();
        let described: Vec<serde_json::Value> = layers
            .iter()
            .map(|layer| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": layer.blob, "size": layer.blob_bytes,
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": put(&blobs, &configuration), "size": configuration.len(),
            },
            "layers": described,
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = put(&blobs, &manifest);
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest, "size": manifest.len(),
                "annotations": {"org.opencontainers.image.ref.name": "made"},
            }],
        });
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let policy = self.folder.join("policy.json");
        fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        let mut push = corner.command("skopeo");
        push.arg("--policy")
            .arg(policy)
            .args(["copy", "--dest-tls-verify=false"]);
        push.arg(format!("oci:{}:made", layout.display()));
        succeed(push.arg(format!("docker://{ADDRESS}/{name}:1")));
        fs::remove_dir_all(layout).unwrap();
        Ok(Image {
            name: name.to_owned(),
            digest,
            layers,
        })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A file of that size, half of which can't be packed any smaller; another for each name.
fn contents(path: &Path, size: u64, name: &str) {
    let mut random: u64 = name
        .bytes()
        .fold(size | 1, |seed, byte| seed.wrapping_mul(0x100_0193) ^ u64::from(byte));
    let mut bytes = vec![0u8; size as usize];
    let half = bytes.len() / 2;
    for word in bytes[..half].chunks_mut(8) {
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let length = word.len();
        word.copy_from_slice(&random.to_le_bytes()[..length]);
    }
    fs::write(path, bytes).unwrap();
}

/// Sum of the sizes of the files below a folder.
fn files(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let found = entry.metadata().unwrap();
            match (found.is_dir(), found.is_file()) {
                (true, _) => files(&entry.path()),
                (_, true) => found.len(),
                _ => 0,
            }
        })
        .sum()
}

fn pack(archive: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .args(["-1", "-n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let archive = archive.to_vec();
    let writer = thread::spawn(move || input.write_all(&archive).unwrap());
    let output = gzip.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn put(blobs: &Path, bytes: &[u8]) -> String {
    let digest = digest(bytes);
    fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
    digest
}

/// A way to the registry on which each request for a blob waits for `delay` before it is handed on. Lasts as long as the
/// test's process, or until the corner's network is gone.
pub(crate) fn slow(corner: &Corner, delay: Duration) {
    let listener = corner.in_network(|| TcpListener::bind(SLOW).unwrap());
    let namespace = corner.network();
    thread::spawn(move || {
        // Connections to the registry are made in the corner's network too.
        Corner::enter(&namespace);
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let Ok(registry) = TcpStream::connect(ADDRESS) else {
                return;
            };
            let (answers, back) = (registry.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || hand_on(answers, back, |_| {}));
            thread::spawn(move || {
                hand_on(client, registry, |sent| {
                    if sent.windows(7).any(|part| part == b"/blobs/") {
                        thread::sleep(delay);
                    }
                });
            });
        }
    });
}

/// Copies until one side has ended.
fn hand_on(mut from: TcpStream, mut to: TcpStream, look: impl Fn(&[u8])) {
    let mut bytes = [0u8; 64 << 10];
    while let Ok(length) = from.read(&mut bytes) {
        if length == 0 {
            break;
        }
        look(&bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
