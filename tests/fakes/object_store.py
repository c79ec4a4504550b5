"""An object store on this machine that speaks S3 over HTTP: moto's server."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

from paluku.cluster.ports import LOOPBACK, free_ports

KEY, SECRET = "test", "testtest"


@contextmanager
def bucket() -> Iterator[str]:
    """The URI of a folder in an empty bucket, with everything in it that a process needs to open it."""
    (port,) = free_ports(1)
    server = ThreadedMotoServer(LOOPBACK, port, verbose=False)
    server.start()
    try:
        store = boto3.client(
            "s3",
            endpoint_url=f"http://{LOOPBACK}:{port}",
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )
        # moto keeps one memory for all servers of a process: each has a bucket of its own.
        name = f"corpora-{port}"
        store.create_bucket(Bucket=name)
        options = f"scheme=http&endpoint_override={LOOPBACK}:{port}&region=us-east-1"
        yield f"s3://{KEY}:{SECRET}@{name}/te?{options}"
    finally:
        server.stop()
