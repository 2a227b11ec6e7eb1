"""Measure how well each prior is learnt: match ratio, KS statistic and reconstruction, by seed.

    .venv/bin/python benchmarks/priors.py                                  the whole table
    .venv/bin/python benchmarks/priors.py --priors gamma uniform:low=0,high=1 --seeds 0 1
    .venv/bin/python benchmarks/priors.py --recipe article --priors gaussian gamma
    .venv/bin/python benchmarks/priors.py --set beta1=0.9 learning_rate.reconstruction=0.001

Trains with the parameters of params.yaml: one autoencoder for each seed and, from it, one
adversarial autoencoder for each prior. Evaluates them on held-out images as the pipeline does. Each
training has one thread, and one training per core runs in parallel. With --keep, the results are
appended to a file of JSON lines, and results in it for the same code and parameters are not
computed again, so that a run of an hour can be interrupted.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from aae.pipeline.stage import set_arithmetic
from aae.data import read_source, split_source
from aae.errors import ParameterError
from aae.evaluation.two_sample import PriorTest
from aae.files import tree_digest
from aae.models import Architecture, Model
from aae.models.checkpoints import load_model, save_model
from aae.models.networks import pixels
from aae.params import Params, load_params
from aae.priors import chosen_prior
from aae.sweep.combinations import changed_params
from aae.training import (
    Batches,
    Training,
    adversarial_phases,
    autoencoder_phases,
    initialise,
)

ROOT = Path(__file__).resolve().parent.parent
# Versions of three priors that are far from zero, far from one in scale, or peaked at an edge.
MOVED = ("gaussian:loc=100,scale=0.1", "uniform:low=0,high=1", "gamma:concentration=0.5")
# These changes to train_aae give the article's recipe; see docs/recipe.md.
ARTICLE = [
    "init=scratch", "standardise=false", "beta1=0.9", "beta2=0.999", "warmup=0.0",
    "schedule=constant", "gradient_penalty=0.0", "learning_rate.reconstruction=0.001", "epochs=100",
]  # fmt: skip
RECIPES = {"default": [], "article": ARTICLE}


def main() -> None:
    """Train everything and print the table."""
    names = list(load_params(ROOT / "params.yaml").priors)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--priors", nargs="+", default=[*names, *MOVED], metavar="NAME[:ARGUMENT=NUMBER,…]",
        help="priors of params.yaml, with changed arguments if given; by default all",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="SEED", help="%(default)s"
    )
    parser.add_argument("--recipe", choices=RECIPES, default="default", help="%(default)s")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to train_aae"
    )
    parser.add_argument(
        "--jobs", type=int, default=torch.get_num_threads(), help="parallel trainings; %(default)s"
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="file for results")
    options = parser.parse_args()
    changes = [*RECIPES[options.recipe], *options.set]
    keys = {}
    for prior in options.priors:
        for seed in options.seeds:
            try:
                keys[prior, seed] = result_key(chosen_params(prior, seed, changes))
            except ParameterError as error:
                parser.error(f"{prior}: {error}")

    kept = read_results(options.keep)
    results = {run: kept[key] for run, key in keys.items() if key in kept}
    missing = [(prior, seed) for seed in options.seeds for prior in options.priors]
    missing = [run for run in missing if run not in results]
    console = Console(width=124)
    start = time.monotonic()
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(options.jobs, get_context("spawn"), set_up) as pool,
        Progress(*columns, console=console) as progress,
    ):
        autoencoders = {seed: Path(folder) / f"{seed}.safetensors" for _, seed in missing}
        waiting = [pool.submit(train_ae, *item) for item in autoencoders.items()]
        for trained in progress.track(
            as_completed(waiting), len(waiting), description="autoencoders"
        ):
            trained.result()
        trainings = {
            pool.submit(train_aae, *run, changes, autoencoders[run[1]]): run for run in missing
        }
        for future in progress.track(
            as_completed(trainings), len(trainings), description="adversarial autoencoders"
        ):
            run = trainings[future]
            results[run] = result = future.result()
            progress.print(f"{run[0]} seed {run[1]}: match ratio {result['match_ratio']:.2f}")
            if options.keep:
                with options.keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": keys[run], **result}) + "\n")

    recipe = ", ".join([f"{options.recipe} recipe", *options.set])
    print(f"{recipe}: {len(missing)} trainings in {(time.monotonic() - start) / 60:.0f} minutes")
    table = Table("prior", *(f"seed {seed}" for seed in options.seeds), title="match ratio by seed")
    for title in ("median", "train", "KS", "KS floor", "MSE"):
        table.add_column(title)
    for prior in options.priors:
        rows = [results[prior, seed] for seed in options.seeds]
        ratios = [row["match_ratio"] for row in rows]
        table.add_row(
            prior.replace(":", " "),
            *(f"{ratio:.2f}" for ratio in ratios),
            f"{statistics.median(ratios):.2f}",
            f"{statistics.median(row['train_match_ratio'] for row in rows):.2f}",
            f"{statistics.median(row['ks_statistic'] for row in rows):.3f}",
            f"{statistics.median(row['floor']['ks_statistic']['mean'] for row in rows):.3f}",
            f"{statistics.median(row['reconstruction_mse'] for row in rows):.4f}",
        )
    console.print(table)
    print("train (match ratio of training images), KS, its floor and MSE (per pixel): medians")


def set_up() -> None:
    """Set up the arithmetic of a stage in a process of the pool."""
    torch.set_num_threads(1)
    set_arithmetic()


def chosen_params(prior: str, seed: int, changes: list[str]) -> Params:
    """Return the parameters with another prior, seed and changes to train_aae."""
    name, _, arguments = prior.partition(":")
    overrides = [
        f"prior={name}", f"seed={seed}",
        *(f"++priors.{name}.{argument}" for argument in filter(None, arguments.split(","))),
        *(f"++train_aae.{change}" for change in changes),
    ]  # fmt: skip
    return changed_params(ROOT / "params.yaml", overrides)


def result_key(params: Params) -> str:
    """Return a digest of everything that determines a result: code, packages and parameters."""
    digest = hashlib.sha256(params.model_dump_json(exclude={"priors", "tracking"}).encode())
    digest.update(params.priors[params.prior].model_dump_json().encode())
    digest.update(tree_digest(ROOT / "aae", ROOT / "requirements.lock").encode())
    return digest.hexdigest()


def read_results(path: Path | None) -> dict[str, dict]:
    """Return the results in a file by their keys; no results if there is no file."""
    if path is None or not path.exists():
        return {}
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["key"]: row for row in rows}


def train_ae(seed: int, path: Path) -> None:
    """Train and save the autoencoder of a seed."""
    params = load_params(ROOT / "params.yaml").model_copy(update={"seed": seed})
    splits = prepare(params)
    train, validation = splits["train"].images, splits["validation"].images
    architecture = Architecture(
        image_shape=tuple(train.shape[1:]),
        latent_dim=params.latent_dim,
        hidden=params.network.hidden,
    )
    model = Model(architecture, seed)
    batches = Batches(train, validation, None, seed, model.device)
    phases = autoencoder_phases(model, params.train_ae)
    list(Training(model, phases, batches, params.train_ae).epochs())
    save_model(model, path)


def train_aae(prior: str, seed: int, changes: list[str], autoencoder: Path) -> dict:
    """Train an adversarial autoencoder and return its metrics."""
    params = chosen_params(prior, seed, changes)
    splits = prepare(params)
    train, validation = splits["train"].images, splits["validation"].images
    trained = load_model(autoencoder)
    architecture = trained.architecture.model_copy(
        update={"discriminator_hidden": params.network.discriminator_hidden}
    )
    model = Model(architecture, seed)
    target, settings = chosen_prior(params), params.train_aae
    initialise(model, target, settings, trained, train)
    batches = Batches(train, validation, target, seed, model.device)
    phases = adversarial_phases(model, target, settings)
    list(Training(model, phases, batches, settings).epochs())
    images = splits["test"].images
    codes = model.encode(images)
    mse = F.mse_loss(model.decode(codes), pixels(images)).item()
    # 39 sets are enough for the floor, and the table shows no p-values.
    evaluation = params.eval_latent.model_copy(update={"draws": 39})
    test = PriorTest(target, len(codes), evaluation, seed)
    # The same number of training images shows how much of the distance is overfitting.
    some = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[: len(codes)]
    on_train = test(model.encode(train[some]))["match_ratio"]
    return {"reconstruction_mse": mse, "train_match_ratio": on_train, **test(codes)}


def prepare(params: Params) -> dict:
    """Return the same splits as the pipeline."""
    source = read_source(params.data.source, ROOT / params.data.root)
    return split_source(source, params.data, params.seed)


if __name__ == "__main__":
    main()
