"""How far guarded metrics differ between seeds, and the tolerance that unchanged runs stay within.

    .venv/bin/python benchmarks/metric_noise.py [--seeds 20]

Runs the pipeline of the gate (`regression` in params.yaml) once for each seed, in clones of this
repository, as many side by side as there are cores. What is not committed is not in them, and
nothing is left behind.

A run and its baseline are two draws from what is printed here, if nothing has changed but the last
digits of the arithmetic. The tolerance is what 99 of 100 such pairs stay within *in all metrics at
once*: Student's quantile for a difference of two, with the 1 % shared out among the metrics.
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
# Share of unchanged runs that are told that they got worse.
ALARMS = 0.01


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=30, help="how many, at least ten; %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at once; %(default)s")
    options = parser.parse_args()
    if options.seeds < 10:
        parser.error(f"--seeds: a spread takes ten or more, not {options.seeds}")
    settings = load_params(ROOT / "params.yaml").regression
    # A thread each, and a `python` for the stages: a clone has no .venv.
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
    """Give a process of the pool a clone of its own to work in."""
    clone = tempfile.mkdtemp(dir=folder)
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    os.chdir(clone)


def run_seed(settings: Regression, seed: int) -> dict[str, float]:
    """Return the guarded metrics of a seed."""
    with Path("pipeline.log").open("a", encoding="utf-8") as log:
        measured = measure(f"seed-{seed}", settings.overrides | {"seed": seed}, log=log)
    return {name: measured[name] for name in settings.metrics}


def print_table(runs: pd.DataFrame, settings: Regression) -> None:
    """Print spread and tolerance of every metric.

    Args:
        runs: a column a metric, a row a seed.
        settings: the section ``regression`` of params.yaml.
    """
    quantile = float(student.ppf(1 - ALARMS / len(settings.metrics), len(runs) - 1))
    table = Table("metric", title=f"{len(runs)} seeds")
    for title in ("mean", "spread", "tolerance", "share", "in force"):
        table.add_column(title, justify="right")
    for name, guard in settings.metrics.items():
        mean, spread = runs[name].mean(), runs[name].std()
        tolerance = quantile * math.sqrt(2) * spread
        values = (f"{x:.4g}" for x in (mean, spread, tolerance))
        table.add_row(name, *values, f"{tolerance / mean:.1%}", in_params(guard))
    Console().print(table)
    print(
        f"tolerance: {quantile:.2f} · √2 · spread, within which {1 - ALARMS:.0%} of unchanged runs "
        f"are in all {len(settings.metrics)} metrics"
    )


def in_params(guard: Guard) -> str:
    """Return the tolerance that is in force."""
    return f"{guard.absolute:g}" if guard.relative is None else f"{guard.relative:.0%}"


if __name__ == "__main__":
    main()
