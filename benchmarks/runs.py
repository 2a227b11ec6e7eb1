"""Runs of a benchmark: their processes, and their results, which are kept in a file."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from aae.pipeline.stage import set_arithmetic
from aae.files import check_writable, tree_digest
from aae.params import Params

ROOT = Path(__file__).resolve().parent.parent
# The environment in which the benchmark was started.
USERS = dict(os.environ)
# What is varied, and the seed.
Run = tuple[str, int]


class Enough(Exception):  # noqa: N818 (no error)
    """All steps that were to be timed have been taken."""


class Runs:
    """The results of runs; those in a file, for the same code and parameters, are not run again.

    Args:
        keys: what determines the result of each run, see :func:`result_key`.
        keep: file of JSON lines, to which results are appended; None keeps nothing.

    Raises:
        OutputError: if the file cannot be written.

    Attributes:
        results: the result of each run that has ended.
        missing: runs whose results are not in the file.
    """

    def __init__(self, keys: Mapping[Run, str], keep: Path | None) -> None:
        self.keys, self.keep = keys, keep
        if keep:
            check_writable(keep)
        kept = read_results(keep)
        self.results = {run: kept[key] for run, key in keys.items() if key in kept}
        self.missing = [run for run in keys if run not in self.results]

    def add(self, run: Run, result: dict) -> None:
        """Keep the result of a run."""
        self.results[run] = result
        if self.keep:
            with self.keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": self.keys[run], **result}) + "\n")

    def collect(
        self,
        trainings: Mapping[Future, Run],
        progress: Progress,
        what: str,
        line: Callable[[Run, dict], str],
    ) -> None:
        """Wait for trainings, print a line for each, and keep their results.

        After an error, those that have not started yet are not started.
        """
        try:
            for future in progress.track(as_completed(trainings), len(trainings), description=what):
                run = trainings[future]
                self.add(run, future.result())
                progress.print(line(run, self.results[run]))
        finally:
            for future in trainings:
                future.cancel()


def progress_bar(console: Console) -> Progress:
    """Return a progress bar with the number of trainings and the elapsed time."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def set_up() -> None:
    """Set up the arithmetic of a stage in a process of the pool."""
    torch.set_num_threads(1)
    set_arithmetic()


def result_key(params: Params, what: str) -> str:
    """Return a digest of code (the benchmark's own too), packages and parameters of a run.

    Args:
        params: the parameters.
        what: everything else that determines them, such as "test" or "validation", the images that
            are measured.
    """
    apart = {"priors", "tracking", "snapshots", "regression"}
    digest = hashlib.sha256(params.model_dump_json(exclude=apart).encode())
    digest.update(params.priors[params.prior].model_dump_json().encode())
    names = (
        "data",
        "evaluation",
        "models",
        "priors",
        "training",
        "params.py",
        "seeding.py",
        "pipeline/stage.py",
    )
    code = [*(ROOT / "aae" / name for name in names), ROOT / "requirements.lock", Path(sys.argv[0])]
    digest.update(f"{what} {tree_digest(*code)}".encode())
    return digest.hexdigest()


def read_results(path: Path | None) -> dict[str, dict]:
    """Return the results in a file by their keys; no results if there is no file."""
    if path is None or not path.exists():
        return {}
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["key"]: row for row in rows}


@contextmanager
def environment(as_stage: bool) -> Iterator[None]:
    """Set the environment of a stage, or else that of the user, until the block ends."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(USERS)  # without what set_arithmetic has set for this process
    if as_stage:
        shown = subprocess.check_output([ROOT / "stages" / "run", "env", "-0"], cwd=ROOT, text=True)
        os.environ.update(dict(line.split("=", 1) for line in shown.split("\0") if line))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
