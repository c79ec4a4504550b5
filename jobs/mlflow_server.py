"""MLflow on this machine, over what the demo, the jobs and the evaluations have logged, until Ctrl-C."""

import argparse
import os
import signal
from pathlib import Path

from jobs.submit import ROOT
from paluku.cluster.ports import claim
from paluku.errors import exits_cleanly
from paluku.registry.server import LocalMlflow
from paluku.registry.tracking import create_experiments

# MLflow's own names: what they hold may have a password in it, which a command line would show.
BACKEND, ARTIFACTS = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"


@exits_cleanly
def main() -> None:
    """Start, say where, wait."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.mlflow_server",
        description=f"{__doc__} {BACKEND}=postgresql://USER:PASSWORD@HOST/NAME and "
        f"{ARTIFACTS}=s3://BUCKET/FOLDER take the place of SQLite and of files in the folder.",
    )
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--folder", type=Path, default=ROOT / ".paluku" / "mlflow")
    asked = parser.parse_args()
    port = claim(asked.port, "MLflow", "pass --port")
    stores = os.environ.get(BACKEND, ""), os.environ.get(ARTIFACTS, "")
    # Else SIGTERM would leave the server behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with LocalMlflow(asked.folder, port, *stores) as mlflow:
        create_experiments(mlflow.uri)
        print(f"MLflow UI  {mlflow.uri}\nCtrl-C stops it", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
