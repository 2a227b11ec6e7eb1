"""Measure the variants with labels and clusters, beside published figures.

    .venv/bin/python benchmarks/labels.py --root FOLDER          the whole table, on full MNIST
    .venv/bin/python benchmarks/labels.py --root FOLDER --rows "1,000 labels" --seeds 0
    .venv/bin/python benchmarks/labels.py --default      every variant, at the defaults

MNIST is read from FOLDER/MNIST/raw/, or downloaded to it. Trains with the parameters of params.yaml
and, unless --default is given, the changes in :data:`COMPARABLE`: one adversarial autoencoder for
each row and seed. All test images are measured; to choose between recipes, use --images validation,
which measures validation images in their place. Each training has one thread, and one training per
core runs in parallel. With --keep, the results are appended to a file of JSON lines, and results in
it for the same code and parameters are not computed again, so that a run of hours can be
interrupted.

Published figures: Makhzani et al. 2015, tables 2 and 3; https://github.com/musyoku/
adversarial-autoencoder, issue 8; https://github.com/conan7882/adversarial-autoencoders.
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
from runs import ROOT, Runs, progress_bar, result_key, set_up

from aae.data import in_memory, known_labels, read_source, split_source
from aae.errors import AAEError
from aae.evaluation.evaluation import Evaluation
from aae.evaluation.measures import MEASURES
from aae.params import Params
from aae.priors import chosen_prior
from aae.sweep.combinations import changed_params
from aae.training import adversarial_training, autoencoder_training, centre

# The changes of all rows with which the published figures are compared, chosen on validation images
# of seed 0: docs/labels.md.
COMPARABLE = [
    "data.source=mnist", "latent_dim=10", "network.hidden=[500,500]", "train_ae.epochs=6",
    "train_aae.epochs=6", "augment.shift=2.0", "augment.rotate=15.0", "augment.zoom=0.15",
    "augment.shear=0.2",
    # Those of two dimensions, so that all rows have the same.
    "network.discriminator_hidden=[200,200]", "train_aae.discriminator_steps=2",
    "posterior.std=0.6",
]  # fmt: skip
# Measures that are shares, shown in percent.
PERCENT = ("_error", "_accuracy")


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        changes: its changes to params.yaml.
        measures: the measures that are shown.
        published: what others report of the first measure.
    """

    changes: list[str]
    measures: tuple[str, ...]
    published: str = ""


SEMI, CLUSTERS = "labels.use=semi-supervised", "labels.use=clusters"
OF_CLASSES = ("classification_error", "asked_class_accuracy")
OF_CLUSTERS = ("cluster_error", "cluster_nmi")
ROWS = {
    "100 labels": Row([SEMI, "labels.count=100"], OF_CLASSES, "1.90 % (paper), 15 % (musyoku)"),
    "1,000 labels": Row(
        [SEMI, "labels.count=1000"], OF_CLASSES, "1.60 % (paper), 2.9 % with 1,280 (conan7882)"
    ),
    "all labels": Row([SEMI], OF_CLASSES, "0.85 % (paper)"),
    # With codes of few dimensions, clusters have to say more.
    "16 clusters": Row(
        [CLUSTERS, "labels.clusters=16", "latent_dim=2"], OF_CLUSTERS, "9.55 % (paper)"
    ),
    "30 clusters": Row(
        [CLUSTERS, "labels.clusters=30", "latent_dim=2"], OF_CLUSTERS, "4.10 % (paper)"
    ),
    "class for the decoder": Row(
        ["labels.use=decoder"], ("asked_class_accuracy", "probe_accuracy")
    ),
    "prior by class": Row(
        ["labels.use=prior", "prior=swiss_roll", "latent_dim=2"], ("class_match_ratio",)
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
    parser.add_argument(
        "--images", choices=("test", "validation"), default="test", help="%(default)s"
    )
    parser.add_argument(
        "--default", action="store_true", help="keep the data and the networks of params.yaml"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="other changes to params.yaml"
    )
    parser.add_argument(
        "--jobs", type=int, default=torch.get_num_threads(), help="parallel trainings; %(default)s"
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="file for results")
    options = parser.parse_args()
    runs = [(row, seed) for seed in options.seeds for row in options.rows]
    common = [] if options.default else [*COMPARABLE, f"data.root={options.root.absolute()}"]
    try:
        params = {
            (row, seed): changed_params(
                ROOT / "params.yaml",
                [*common, f"seed={seed}", *ROWS[row].changes, *options.set],
            )
            for row, seed in runs
        }
        kept = Runs({run: result_key(params[run], options.images) for run in runs}, options.keep)
    except AAEError as error:
        parser.error(str(error))
    missing, results = kept.missing, kept.results
    console, start = Console(width=140), time.monotonic()
    with (
        ProcessPoolExecutor(options.jobs, get_context("spawn"), set_up) as pool,
        progress_bar(console) as progress,
    ):
        trainings = {pool.submit(train, params[run], options.images): run for run in missing}
        kept.collect(
            trainings, progress, "trainings",
            lambda run, found: f"{run[0]}, seed {run[1]}: {shown(run[0], [found])[0][1]}",
        )  # fmt: skip
    minutes = (time.monotonic() - start) / 60
    changes = ", ".join([*(common or ["default parameters"]), *options.set])
    changes += f"; {options.images} images"
    print(f"{changes}: {len(missing)} trainings in {minutes:.0f} minutes")
    console.print(table(options.rows, options.seeds, results, published=not options.default))


def table(
    rows: list[str], seeds: list[int], results: dict[tuple[str, int], dict], published: bool
) -> Table:
    """Return the table: mean and range over the seeds, with published figures if wanted."""
    found = Table(
        "", "measure", "mean", "lowest to highest", "categories used", "code follows the prior",
        *(["published"] if published else []), title=f"seeds {', '.join(map(str, seeds))}",
    )  # fmt: skip
    for row in rows:
        measured = [results[row, seed] for seed in seeds]
        used = [f"{one['categories_used']:.0f}" for one in measured if "categories_used" in one]
        follow = f"{sum(one['follows_prior'] for one in measured)} of {len(seeds)}"
        of_row = [", ".join(used), follow, *([ROWS[row].published] if published else [])]
        for name, (title, mean, ends), once in zip(
            (row, ""), shown(row, measured), (of_row, []), strict=False
        ):
            found.add_row(name, title, mean, ends, *once)
    return found


def shown(row: str, measured: list[dict]) -> list[tuple[str, str, str]]:
    """Return title, mean and range of each measure of a row."""
    found = []
    for key in ROWS[row].measures:
        percent = key.endswith(PERCENT)
        values = [one[key] * (100 if percent else 1) for one in measured]
        unit = " %" if percent else ""
        ends = f"{min(values):.2f} to {max(values):.2f}{unit}"
        found.append((MEASURES[key].title, f"{statistics.mean(values):.2f}{unit}", ends))
    return found


def train(params: Params, images: str) -> dict:
    """Train an adversarial autoencoder; return its measures on test or validation images."""
    source = read_source(params.data)
    splits = in_memory(split_source(source, params.data, params.seed))
    train, validation = splits["train"], splits["validation"]
    known = known_labels(train, validation, source.class_names, params)
    autoencoder = None
    if params.labels.use == "prior":  # the other variants start from random weights
        first = autoencoder_training(params, train.images, validation.images)
        list(first.epochs())
        autoencoder = first.averaged
    training = adversarial_training(params, train.images, validation.images, autoencoder, known)
    list(training.epochs())
    centre(training.averaged, train.images)
    splits["test"] = splits[images]
    prior = chosen_prior(params)
    evaluate = Evaluation(splits, source.class_names, prior, params.eval_latent, params.seed)
    return evaluate(training.averaged)


if __name__ == "__main__":
    main()
