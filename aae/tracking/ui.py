"""MLflow's pages, on loopback, opened where the experiments can be compared."""

import argparse
import os
import socket
import sys
from pathlib import Path

from aae.errors import TrackingError, without_password
from aae.workspace import project_root
from aae.tracking.store import StoreAwayError, connect

PORT = 5000
# The adversarial autoencoders, the best match first.
NAME = "match"
VIEW = {
    "searchFilter": "tags.stage = 'train_aae'",
    "orderByKey": "metrics.`match_ratio`",
    "orderByAsc": True,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": [
        "metrics.`match_ratio`",
        "metrics.`ks_statistic`",
        "metrics.`reconstruction_mse`",
        "tags.`prior`",
        "tags.`seed`",
        "tags.`dvc_experiment`",
    ],
}


def main() -> None:
    """Serve the store on loopback; where MLFLOW_TRACKING_URI names a server, print its address."""
    argparse.ArgumentParser(prog="python -m aae.tracking.ui", description=main.__doc__).parse_args()
    try:
        store = connect(project_root(Path.cwd()))
        page = store.share_view(NAME, VIEW)
    except (StoreAwayError, TrackingError) as error:
        sys.exit(f"error: {error}")
    if store.uri.startswith("http"):
        print(f"open {without_password(store.uri)}/{page}")
        return
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:  # in use: any other
            probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print(f"open http://127.0.0.1:{port}/{page}")
    print("once MLflow has said that it runs; Ctrl-C ends it", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # a queue that nothing here uses
    # Not an argument, which everybody on the machine could read.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.uri
    command = ["-m", "mlflow", "ui"]
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, *command, *address])


if __name__ == "__main__":
    main()
