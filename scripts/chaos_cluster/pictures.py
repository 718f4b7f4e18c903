"""The bucket that pictures are in, read beside the service."""

from __future__ import annotations

from pathlib import Path

import obstore
from obstore.store import S3Store

from scripts.servers.seaweedfs import KEYS, SeaweedFS

IMAGES = "images/"


def copy_pictures(server: SeaweedFS, folder: Path) -> None:
    """Bring a folder of blobs, which the auditor reads, up to date with the bucket's pictures."""
    key_id, secret = KEYS["reader"]
    store = S3Store(
        server.bucket,
        endpoint=server.endpoint,
        region="us-east-1",
        access_key_id=key_id,
        secret_access_key=secret,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    for batch in obstore.list(store, prefix=IMAGES):
        for found in batch:
            path = folder / found["path"]
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(obstore.get(store, found["path"]).bytes())
