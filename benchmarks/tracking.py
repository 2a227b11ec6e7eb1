"""Measure what tracking and snapshots cost a stage, and how long the stages take to start.

    .venv/bin/python benchmarks/tracking.py

Runs the tracked stages with the parameters of params.yaml, in a copy of the pipeline's inputs with
a separate MLflow store; needs `make repro` before it. Tracking consists of three parts. At the
start it loads MLflow and opens the store and the run. During the epochs it records their losses,
and draws and records the latent histograms. At the end it logs the model or the evaluation and
closes the run. Start and end do not grow with the number of images or epochs. The time of the
snapshots is a part of the training's time.

Start-up is the time of `--help`, in which a stage imports everything, MLflow included. The
benchmark also measures the lower bound of start-up and tracking: importing torch in each stage, and
in the tracked stages also MLflow, which opens the store. Each of these times is the fastest of five
runs, taken in turns.
"""

import argparse
import functools
import json
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("prepare_data", "train_ae", "train_aae", "eval_latent", "report")
RUN = "stages/run"  # dvc.yaml starts them with it
TRACKED = ("train_ae", "train_aae", "eval_latent")
BARE = "import torch"
BARE_TRACKED = (
    "import torch, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db'); "
    "mlflow.get_experiment_by_name('aae')"
)


def main() -> None:
    """Run the stages one after the other and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=TRACKED, help=argparse.SUPPRESS)  # the child's part
    stage = parser.parse_args().stage
    if stage:
        print(json.dumps(run_stage(stage)))
        return
    if not (ROOT / "models" / "ae.safetensors").exists():
        sys.exit("error: run `make repro` first")

    table = Table("stage", "whole stage")
    for title in ("start", "epochs", "end", "epochs' share", "total share", "snapshots", "share"):
        table.add_column(title)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        (copy / ".dvc").mkdir()
        for part in ("params.yaml", "dvc.yaml", "requirements.lock"):
            shutil.copy(ROOT / part, copy)
        for part in ("data/prepared", "models", "stages", "aae"):
            shutil.copytree(ROOT / part, copy / part)
        new_store = open_store(copy)
        tracking = 0.0
        for name in TRACKED:
            command = [RUN, sys.executable, str(Path(__file__).resolve()), "--stage", name]
            start = time.perf_counter()
            result = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=True)
            whole = time.perf_counter() - start
            parts = json.loads(result.stdout.splitlines()[-1])
            snapshots, loading = parts.pop("snapshots"), parts.pop("loading")
            tracking += sum(parts.values())
            parts["start"] += loading
            times = [f"{seconds:.1f} s" for seconds in (whole, *parts.values())]
            shares = [f"{s / whole:.1%}" for s in (parts["epochs"], sum(parts.values()))]
            table.add_row(name, *times, *shares, f"{snapshots:.2f} s", f"{snapshots / whole:.1%}")
        scripts = [(f"stages/{name}.py", "--help") for name in STAGES]
        programs = [("-c", BARE), ("-c", BARE_TRACKED)]
        *start_up, bare, bare_tracked = fastest(copy, [*scripts, *programs])
    Console(width=110).print(table)
    print(f"Once, when the store is new: {new_store:.1f} s for creating its tables.")
    each = " + ".join(f"{seconds:.1f}" for seconds in start_up)
    print(f"Start-up of all five stages: {each} = {sum(start_up):.1f} s.")
    print(f"Start-up and tracking together: {sum(start_up) + tracking:.1f} s.")
    least = len(STAGES) * bare + len(TRACKED) * (bare_tracked - bare)
    print(f"Importing torch alone in each, MLflow and its store in those tracked: {least:.1f} s.")


def fastest(folder: Path, programs: list[tuple[str, ...]]) -> list[float]:
    """Return the seconds that Python takes with each list of arguments, the fastest of five."""
    times: list[list[float]] = [[] for _ in programs]
    for _ in range(5):
        for arguments, found in zip(programs, times, strict=True):
            start = time.perf_counter()
            command = [RUN, sys.executable, *arguments]
            subprocess.run(command, cwd=folder, check=True, stdout=DEVNULL, stderr=DEVNULL)
            found.append(time.perf_counter() - start)
    return [min(found) for found in times]


def open_store(folder: Path) -> float:
    """Create the store, and return how many seconds longer that takes than opening it."""
    program = (
        "from pathlib import Path; from aae.tracking.store import connect; connect(Path.cwd())"
    )

    def connect(where: Path) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], cwd=where, check=True, stderr=DEVNULL)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as other:
        connect(Path(other))  # warms up the file cache
    return connect(folder) - connect(folder)


def run_stage(stage: str) -> dict[str, float]:
    """Run a stage script in this process and return the seconds spent, by part."""
    seconds = dict.fromkeys(("loading", "start", "epochs", "end", "snapshots"), 0.0)

    @contextmanager
    def clock(part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds[part] += time.perf_counter() - start

    def timed(part: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapper(*arguments, **keywords):
            with clock(part):
                return function(*arguments, **keywords)

        return wrapper

    # Imports that a stage needs without tracking come first, so that they do not count.
    from aae import models, progress, training  # noqa: F401
    from aae.pipeline import stage as _  # noqa: F401

    if stage == "eval_latent":
        from aae.report import gallery  # noqa: F401

    with clock("loading"):
        from aae.tracking import run as runs

        if stage == "train_aae":  # it draws these figures only for MLflow
            from aae.report import figures

            figures.draw_latent_histograms = timed("epochs", figures.draw_latent_histograms)
            figures.to_array = timed("epochs", figures.to_array)

    from aae.training.snapshots import Snapshots

    Snapshots.save = timed("snapshots", Snapshots.save)  # type: ignore[method-assign]

    def clocked(original: Callable) -> Callable:
        @contextmanager
        def wrapper(*arguments, **keywords):
            manager = original(*arguments, **keywords)
            with clock("start"):
                run = manager.__enter__()
            yield run  # after an error there is nothing to measure
            with clock("end"):
                manager.__exit__(None, None, None)

        return wrapper

    runs.training_run = clocked(runs.training_run)
    runs.evaluation_run = clocked(runs.evaluation_run)
    run = runs.Run
    parts = {
        "log_dataset": "start",
        "log_epoch": "epochs",
        "log_image": "epochs",
        "log_model": "end",
        "log_evaluation": "end",
    }
    for name, part in parts.items():
        setattr(run, name, timed(part, getattr(run, name)))

    sys.argv = [stage]
    runpy.run_path(str(ROOT / "stages" / f"{stage}.py"), run_name="__main__")
    return seconds


if __name__ == "__main__":
    main()
