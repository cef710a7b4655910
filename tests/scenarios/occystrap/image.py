"""Writes an image as an OCI layout: image.py FOLDER MEGABYTES... makes a layer of each size, half of which packs well."""

import gzip
import hashlib
import io
import json
import os
import random
import sys
import tarfile

folder, sizes = sys.argv[1], [int(size) for size in sys.argv[2:]]
blobs = os.path.join(folder, "blobs", "sha256")
os.makedirs(blobs)


def put(data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


layers, diffs = [], []
for number, megabytes in enumerate(sizes):
    made = random.Random(number)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        # Files as a distribution has them: most small, the bytes in a few large ones.
        left = megabytes * 1_000_000
        while left > 0:
            size = min(left, made.choice([4_000, 20_000, 100_000, 1_000_000]))
            left -= size
            data = made.randbytes(size // 2) + bytes(size - size // 2)
            info = tarfile.TarInfo(f"layer{number}/file{left}")
            info.size = size
            tar.addfile(info, io.BytesIO(data))
    raw = archive.getvalue()
    diffs.append("sha256:" + hashlib.sha256(raw).hexdigest())
    packed = put(gzip.compress(raw, compresslevel=6, mtime=0))
    layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **packed})
config = put(json.dumps({
    "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs},
}).encode())
manifest = put(json.dumps({
    "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config}, "layers": layers,
}).encode())
with open(os.path.join(folder, "index.json"), "w") as file:
    json.dump({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
        "annotations": {"org.opencontainers.image.ref.name": "made"},
    }]}, file)
with open(os.path.join(folder, "oci-layout"), "w") as file:
    file.write('{"imageLayoutVersion":"1.0.0"}')
