"""Measure how guarded metrics differ between seeds, and the tolerance that unchanged runs need.

    .venv/bin/python benchmarks/metric_noise.py [--seeds 30]

Runs the pipeline of the gate (`regression` in params.yaml) once for each seed, in clones of this
repository, one per core in parallel. The clones do not contain uncommitted changes, and are deleted
at the end.

If nothing has changed but the last digits of the arithmetic, a run and its baseline are two draws
from the distribution that is printed here. 99 of 100 such pairs stay within the tolerance *in all
metrics at once*: it is Student's quantile for the difference of two draws, with the 1 % divided
among the metrics.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import t as student

from aae.params import Guard, Regression, load_params
from aae.regression.gate import measure

ROOT = Path(__file__).resolve().parent.parent
# Share of unchanged runs that the gate may report as worse.
ALARMS = 0.01


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=30, help="at least ten seeds; %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="in parallel; %(default)s")
    options = parser.parse_args()
    if options.seeds < 10:
        parser.error(f"--seeds: {options.seeds} is wrong: a spread needs ten or more")
    settings = load_params(ROOT / "params.yaml").regression
    # One thread for each run. The stages find `python` on the PATH, since a clone has no .venv.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(options.jobs, get_context("spawn"), go_to_clone, (folder,)) as pool,
    ):
        waiting = [pool.submit(run_seed, settings, seed) for seed in range(options.seeds)]
        console = Console(stderr=True)
        finished = track(as_completed(waiting), "seeds", len(waiting), console=console)
        table = pd.DataFrame([future.result() for future in finished])
    print_table(table, settings)


def go_to_clone(folder: str) -> None:
    """Make a separate clone for a process of the pool, and change into it."""
    clone = tempfile.mkdtemp(dir=folder)
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    os.chdir(clone)


def run_seed(settings: Regression, seed: int) -> dict[str, float]:
    """Return the guarded metrics of a seed; those that need labels only if the images have them."""
    with Path("pipeline.log").open("a", encoding="utf-8") as log:
        measured = measure(f"seed-{seed}", settings.overrides | {"seed": seed}, log=log)
    return {name: measured[name] for name in settings.metrics if name in measured}


def print_table(runs: pd.DataFrame, settings: Regression) -> None:
    """Print the spread and the tolerance of every metric.

    Args:
        runs: one column for each metric, one row for each seed.
        settings: the section ``regression`` of params.yaml.
    """
    quantile = float(student.ppf(1 - ALARMS / len(runs.columns), len(runs) - 1))
    table = Table("metric", title=f"{len(runs)} seeds")
    for title in ("mean", "spread", "tolerance", "share", "in force"):
        table.add_column(title, justify="right")
    for name in runs:
        mean, spread = runs[name].mean(), runs[name].std()
        tolerance = quantile * math.sqrt(2) * spread
        values = (f"{x:.4g}" for x in (mean, spread, tolerance))
        table.add_row(name, *values, f"{tolerance / mean:.1%}", in_params(settings.metrics[name]))
    Console().print(table)
    print(
        f"tolerance: {quantile:.2f} · √2 · spread, within which {1 - ALARMS:.0%} of unchanged runs "
        f"stay in all {len(runs.columns)} metrics"
    )


def in_params(guard: Guard) -> str:
    """Return the tolerance in params.yaml."""
    return f"{guard.absolute:g}" if guard.relative is None else f"{100 * guard.relative:.3g}%"


if __name__ == "__main__":
    main()
