"""Measure the variants with labels and clusters, beside published figures.

    .venv/bin/python benchmarks/labels.py --root FOLDER          the whole table, on full MNIST
    .venv/bin/python benchmarks/labels.py --root FOLDER --rows "1,000 labels" --seeds 0
    .venv/bin/python benchmarks/labels.py --source mnist-5k --set train_aae.epochs=50

FOLDER has MNIST/raw/ in it. Trains with the parameters of params.yaml and the changes in
:data:`COMMON` and :data:`ROWS`: one adversarial autoencoder for each row and seed, from random
weights. The errors are those of all test images. Each training has one thread, and one training per
core runs in parallel. With --keep, the results are appended to a file of JSON lines, and results in
it for the same code and parameters are not computed again, so that a run of hours can be
interrupted.
"""

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from runs import ROOT, Runs, progress_bar, set_up

from aae.data import in_memory, known_labels, read_source, split_source
from aae.errors import ParameterError
from aae.evaluation.categories import measure_categories
from aae.params import Params
from aae.sweep.combinations import changed_params
from aae.training import adversarial_training, centre

# The changes of all rows.
COMMON = ["latent_dim=10", "network.hidden=[500,500]", "train_aae.epochs=30"]


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        changes: its changes to params.yaml.
        measure: the measure that is compared.
        published: what others report.
    """

    changes: list[str]
    measure: str
    published: str


SEMI = "labels.use=semi-supervised"
ROWS = {
    "100 labels": Row(
        [SEMI, "labels.count=100"], "classification_error", "1.90 % [AAE]; 15 % [musyoku #8]"
    ),
    "1,000 labels": Row(
        [SEMI, "labels.count=1000"], "classification_error", "1.60 % [AAE]; 2.9 % [conan7882]"
    ),
    "all labels": Row([SEMI], "classification_error", "0.85 % [AAE]"),
    "16 clusters": Row(
        ["labels.use=clusters", "labels.clusters=16"], "cluster_error", "9.55 % [AAE]"
    ),
    "30 clusters": Row(
        ["labels.use=clusters", "labels.clusters=30"], "cluster_error", "4.10 % [AAE]"
    ),
}


def main() -> None:
    """Train everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="%(default)s")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[5, 6, 7], metavar="SEED", help="%(default)s"
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT / "data" / "raw", metavar="FOLDER",
        help="folder with MNIST/raw/, to which MNIST is downloaded if it is not there; %(default)s",
    )  # fmt: skip
    parser.add_argument("--source", default="mnist", help="data.source; %(default)s")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="other changes to params.yaml"
    )
    parser.add_argument(
        "--jobs", type=int, default=torch.get_num_threads(), help="parallel trainings; %(default)s"
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="file for results")
    options = parser.parse_args()
    runs = [(row, seed) for seed in options.seeds for row in options.rows]
    source = [f"data.source={options.source}", f"data.root={options.root.absolute()}"]
    try:
        params = {
            (row, seed): changed_params(
                ROOT / "params.yaml",
                [*source, f"seed={seed}", *COMMON, *ROWS[row].changes, *options.set],
            )
            for row, seed in runs
        }
    except ParameterError as error:
        parser.error(str(error))
    kept = Runs(params, "test", options.keep)
    missing, results = kept.missing, kept.results
    console, start = Console(width=120), time.monotonic()
    with (
        ProcessPoolExecutor(options.jobs, get_context("spawn"), set_up) as pool,
        progress_bar(console) as progress,
    ):
        trainings = {pool.submit(train, params[run]): run for run in missing}
        kept.collect(
            trainings, progress, "trainings",
            lambda run, found: f"{run[0]}, seed {run[1]}: "
            f"{100 * found[ROWS[run[0]].measure]:.2f} %",
        )  # fmt: skip
    minutes = (time.monotonic() - start) / 60
    print(
        f"{', '.join([*COMMON, *options.set])}: {len(missing)} trainings in {minutes:.0f} minutes"
    )
    console.print(table(options.rows, options.seeds, results))


def table(rows: list[str], seeds: list[int], results: dict[tuple[str, int], dict]) -> Table:
    """Return the table: mean and range over the seeds, beside published figures."""
    found = Table(
        "", "error of test images", "lowest to highest", "categories used", "published",
        title=f"seeds {', '.join(map(str, seeds))}",
    )  # fmt: skip
    for row in rows:
        measures = [results[row, seed] for seed in seeds]
        errors = [100 * measured[ROWS[row].measure] for measured in measures]
        used = [measured["categories_used"] for measured in measures]
        found.add_row(
            row, f"{statistics.mean(errors):.2f} %", f"{min(errors):.2f} to {max(errors):.2f} %",
            f"{min(used):.0f} or more", ROWS[row].published,
        )  # fmt: skip
    return found


def train(params: Params) -> dict:
    """Train an adversarial autoencoder; return the measures of its categories."""
    source = read_source(params.data)
    splits = in_memory(split_source(source, params.data, params.seed))
    images, validation = splits["train"], splits["validation"]
    known = known_labels(images, validation, source.class_names, params)
    training = adversarial_training(params, images.images, validation.images, None, known)
    list(training.epochs())
    centre(training.averaged, images.images)
    return measure_categories(training.averaged, splits["test"], validation)


if __name__ == "__main__":
    main()
