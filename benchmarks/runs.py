"""Runs of a benchmark: in parallel, with results that are kept in a file."""

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, as_completed
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from aae.pipeline.stage import set_arithmetic
from aae.files import tree_digest
from aae.params import Params

ROOT = Path(__file__).resolve().parent.parent
# What is varied, and the seed.
Run = tuple[str, int]


class Runs:
    """The results of runs; those in a file, for the same code and parameters, are not run again.

    Args:
        params: the parameters of each run.
        images: "test" or "validation", the images that are measured.
        keep: file of JSON lines, to which results are appended; None keeps nothing.

    Attributes:
        results: the result of each run that has ended.
        missing: runs whose results are not in the file.
    """

    def __init__(self, params: Mapping[Run, Params], images: str, keep: Path | None) -> None:
        self.keep = keep
        self.keys = {run: result_key(params[run], images) for run in params}
        kept = read_results(keep)
        self.results = {run: kept[key] for run, key in self.keys.items() if key in kept}
        self.missing = [run for run in params if run not in self.results]

    def collect(
        self,
        trainings: Mapping[Future, Run],
        progress: Progress,
        what: str,
        line: Callable[[Run, dict], str],
    ) -> None:
        """Wait for trainings, print a line for each, and keep their results."""
        for future in progress.track(as_completed(trainings), len(trainings), description=what):
            run = trainings[future]
            self.results[run] = result = future.result()
            progress.print(line(run, result))
            if self.keep:
                with self.keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": self.keys[run], **result}) + "\n")


def progress_bar(console: Console) -> Progress:
    """Return a progress bar with the number of trainings and the elapsed time."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def set_up() -> None:
    """Set up the arithmetic of a stage in a process of the pool."""
    torch.set_num_threads(1)
    set_arithmetic()


def result_key(params: Params, images: str) -> str:
    """Return a digest of code, packages and parameters that determine the measures of a run."""
    apart = {"priors", "tracking", "snapshots", "regression"}
    digest = hashlib.sha256(params.model_dump_json(exclude=apart).encode())
    digest.update(params.priors[params.prior].model_dump_json().encode())
    names = (
        "data",
        "evaluation",
        "models",
        "priors",
        "training",
        "seeding.py",
        "pipeline/stage.py",
    )
    code = [ROOT / "aae" / name for name in names]
    digest.update(f"{images} {tree_digest(*code, ROOT / 'requirements.lock')}".encode())
    return digest.hexdigest()


def read_results(path: Path | None) -> dict[str, dict]:
    """Return the results in a file by their keys; no results if there is no file."""
    if path is None or not path.exists():
        return {}
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["key"]: row for row in rows}
