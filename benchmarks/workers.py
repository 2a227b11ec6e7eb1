"""Measure how long six queued experiments take with one worker of DVC's queue and with two.

    .venv/bin/python benchmarks/workers.py [--epochs 10]

Queues three priors for two seeds in a clone of this repository, as docs/sweeps.md does, with fewer
epochs than the default, and measures the time from `dvc queue start` until the last experiment has
succeeded. The clone does not contain uncommitted changes, and is deleted at the end.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
SWEEP = ["-S", "prior=gaussian,gamma,uniform", "-S", "seed=0,1"]


def main() -> None:
    """Time the queue with one worker and with two, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=10, help="of each training; %(default)s")
    epochs = parser.parse_args().epochs
    table = Table("workers", "threads a stage", "six experiments", "ratio")
    seconds: dict[int, float] = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            seconds[workers], threads = time_queue(Path(folder) / "clone", workers, epochs)
        ratio = seconds[workers] / seconds[1]
        table.add_row(str(workers), threads, f"{seconds[workers]:.0f} s", f"{ratio:.2f}")
    Console().print(table)


def time_queue(clone: Path, workers: int, epochs: int) -> tuple[float, str]:
    """Return the seconds that the queue takes in a new clone, and the threads of its stages."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    shorter = [f"{stage}.epochs={epochs}" for stage in ("train_ae", "train_aae")]
    overrides = [word for value in shorter for word in ("-S", value)]
    dvc(clone, "exp", "run", "--queue", *SWEEP, *overrides)
    start = time.perf_counter()
    dvc(clone, "queue", "start", "--jobs", str(workers))
    while "Running" in (status := dvc(clone, "queue", "status")) or "Queued" in status:
        for line in status.splitlines():
            if line.endswith("Running"):
                dvc(clone, "queue", "logs", "--follow", line.split()[1])  # until it has ended
                break
    elapsed = time.perf_counter() - start
    if status.count("Success") != 6:
        sys.exit(f"error: not all experiments succeeded\n{status}")
    program = (
        "import mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db'); "
        "runs = mlflow.search_runs(experiment_names=['aae']); print(*set(runs['tags.threads']))"
    )
    command = [sys.executable, "-c", program]
    threads = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True).stdout
    return elapsed, ", ".join(sorted(threads.split()))


def dvc(folder: Path, *arguments: str) -> str:
    """Run a command of DVC and return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "dvc", *arguments]
    result = subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        sys.exit(f"error: dvc {' '.join(arguments)}\n{result.stderr}")
    return result.stdout


if __name__ == "__main__":
    main()
