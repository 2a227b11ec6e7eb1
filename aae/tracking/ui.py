"""MLflow's pages on loopback, with a view that compares the experiments."""

import os
import socket
import sys
from pathlib import Path

from aae.errors import TrackingError, without_password
from aae.evaluation.measures import HEADLINES, MEASURES, SORTED_BY
from aae.tracking.store import connect
from aae.workspace import project_root

PORT = 5000
# The view lists the adversarial autoencoders.
NAME = "match"
VIEW = {
    "searchFilter": "tags.stage = 'train_aae'",
    "orderByKey": f"metrics.`{SORTED_BY}`",
    "orderByAsc": MEASURES[SORTED_BY].better == "lower",
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": [
        *(f"metrics.`{key}`" for key in HEADLINES),
        *(f"tags.`{tag}`" for tag in ("prior", "seed", "dvc_experiment")),
    ],
}


def serve() -> None:
    """Serve the store on loopback; if MLFLOW_TRACKING_URI names a server, print its address.

    Raises:
        TrackingError: if there is no repository whose store it could be; if the store does not
            answer or rejects the request.
    """
    root = project_root(Path.cwd())
    if not (root / ".dvc").is_dir() and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise TrackingError(
            f"{root} is in no repository of the project; run the command in one, or set "
            "MLFLOW_TRACKING_URI"
        )
    store = connect(root)
    page = store.save_view(NAME, VIEW)
    if store.uri.startswith("http"):
        print(f"open {without_password(store.uri)}/{page}")
        return
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:  # the port is in use
            probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    print(f"open http://127.0.0.1:{port}/{page}")
    print("once MLflow says that it is running; Ctrl-C stops it", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # nothing here uses that queue
    # In a command-line argument, every user of the machine could read the password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.uri
    command = ["-m", "mlflow", "ui"]
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, *command, *options])
