//! A kubelet's calls to containerd's CRI plug-in, by hand: protobuf over HTTP/2, sent by curl.
//!
//! Numbers of fields from `runtime/v1/api.proto` of the CRI.

use std::fs;
use std::path::Path;

/// A field that holds bytes: text, or a message.
pub(crate) fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

/// A field that holds a small number.
pub(crate) fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

/// An id that is not known yet; as long as one.
pub(crate) const POD: &str = "PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP";
pub(crate) const CONTAINER: &str = "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC";

/// A script of the calls, in the corner's folder. `RunPodSandbox` and `CreateContainer` answer with the ids that later
/// calls are sent with.
pub(crate) fn script(folder: &Path, socket: &Path, calls: &[(&str, Vec<u8>)]) -> String {
    let mut script = format!(
        "call() {{ LC_ALL=C sed -e s/{POD}/${{pod:-{POD}}}/ -e s/{CONTAINER}/${{container:-{CONTAINER}}}/ $2 | \
         curl --silent --show-error --fail --http2-prior-knowledge --unix-socket {} --data-binary @- \
         -H content-type:application/grpc -H te:trailers --dump-header headers --output answer http://x/runtime.v1.$1; \
         grep -q 'grpc-status: 0' headers || {{ cat headers; exit 1; }}; }}; \
         id() {{ LC_ALL=C grep -ao '[0-9a-f]\\{{64\\}}' answer; }}\n",
        socket.display()
    );
    for (index, (method, message)) in calls.iter().enumerate() {
        // Not packed, length.
        let head = [&[0][..], &(message.len() as u32).to_be_bytes()].concat();
        fs::write(folder.join(format!("call-{index}")), [head, message.clone()].concat()).unwrap();
        script.push_str(&format!("call {method} call-{index}\n"));
        match *method {
            "RuntimeService/RunPodSandbox" => script.push_str("pod=$(id)\n"),
            "RuntimeService/CreateContainer" => script.push_str("container=$(id)\n"),
            _ => {}
        }
    }
    script
}
