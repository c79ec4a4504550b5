"""Serve the champion on this machine and keep the MLflow UI up, until Ctrl-C."""

import argparse
import signal
from pathlib import Path

from jobs.demo import HOME
from jobs.stack import Stack
from paluku.errors import ServiceError, exits_cleanly
from paluku.registry.bundle import open_bundle, verify_bundle


@exits_cleanly
def main() -> None:
    """Start, deploy, say where, wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="of the Serve endpoint")
    parser.add_argument("--mlflow-port", type=int, default=5000)
    parser.add_argument(
        "--bundle",
        default="models:/paluku@champion",
        help="a registry URI, hub:OWNER/NAME@REVISION, a bundle's folder, or `default`",
    )
    arguments = parser.parse_args()
    if not (HOME / "mlflow" / "mlflow.db").exists() and arguments.bundle.startswith("models:"):
        raise ServiceError(f"no model is registered in {HOME / 'mlflow'} yet; run `make demo` first")
    bundle = arguments.bundle
    if not bundle.startswith("models:"):
        bundle = str(open_bundle(bundle).resolve())
        verify_bundle(Path(bundle))
    HOME.mkdir(exist_ok=True)
    with Stack(HOME, arguments.port, arguments.mlflow_port) as stack:
        print(f"MLflow UI  {stack.mlflow.uri}\ndeploying {bundle} ...", flush=True)
        stack.deploy(bundle)
        print(f"the page   {stack.url}/\nendpoint   {stack.websocket_url}", flush=True)
        print(f"statistics {stack.url}/stats", flush=True)
        print("Ctrl-C stops all of it", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
