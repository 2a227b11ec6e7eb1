"""Measure how well each prior is learnt, by seed, next to the autoencoder and its mixture.

    .venv/bin/python benchmarks/priors.py                                  the whole table
    .venv/bin/python benchmarks/priors.py --priors gamma uniform:low=0,high=1 --seeds 0 1
    .venv/bin/python benchmarks/priors.py --recipe article --priors gaussian gamma
    .venv/bin/python benchmarks/priors.py --images validation --set posterior.std=0.1
    .venv/bin/python benchmarks/priors.py --priors gaussian --set latent_dim=8 data.source=mnist

Trains with the parameters of params.yaml: one autoencoder for each seed and, from it, one
adversarial autoencoder for each prior. Evaluates them on test images as the pipeline does. To
choose between recipes, use --images validation: the test images are then left out, a quarter of the
others takes their place, and the networks are trained on the rest. Each training has one thread,
and one training per core runs in parallel. With --keep, the results are appended to a file of JSON
lines, and results in it for the same code and parameters are not computed again, so that a run of
an hour can be interrupted.
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from runs import ROOT, Runs, progress_bar, result_key, set_up

from aae.data import Images, in_memory, known_labels, read_source, split_source
from aae.data.images import Part
from aae.errors import AAEError
from aae.evaluation.evaluation import Evaluation
from aae.models import Model, load_model, save_model
from aae.params import Params
from aae.priors import chosen_prior
from aae.sweep.combinations import changed_params
from aae.training import adversarial_training, autoencoder_training, centre

# Versions of three priors that are far from zero, far from one in scale, or peaked at an edge.
MOVED = ("gaussian:loc=100,scale=0.1", "uniform:low=0,high=1", "gamma:concentration=0.5")
# These changes give the article's recipe; see docs/recipe.md.
ARTICLE = [
    "posterior.kind=deterministic", "augment.shift=0.0", "augment.rotate=0.0", "augment.zoom=0.0",
    "augment.shear=0.0", "network.discriminator_hidden=[1000,1000]", "train_aae.init=scratch",
    "train_aae.standardise=false", "train_aae.beta1=0.9", "train_aae.beta2=0.999",
    "train_aae.warmup=0.0", "train_aae.schedule=constant", "train_aae.gradient_penalty=0.0",
    "train_aae.learning_rate.generator=0.001", "train_aae.discriminator_steps=1",
    "train_aae.average=0.0", "train_aae.epochs=100",
]  # fmt: skip
RECIPES = {"default": [], "article": ARTICLE}


def main() -> None:
    """Train everything and print the tables."""
    names = list(changed_params(ROOT / "params.yaml", []).priors)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--priors", nargs="+", default=[*names, *MOVED], metavar="NAME[:ARGUMENT=NUMBER,…]",
        help="priors of params.yaml, with changed arguments if given; by default all",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[5, 6, 7, 8, 9], metavar="SEED", help="%(default)s"
    )
    parser.add_argument(
        "--images", choices=("test", "validation"), default="test", help="%(default)s"
    )
    parser.add_argument("--recipe", choices=RECIPES, default="default", help="%(default)s")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="other changes to params.yaml"
    )
    parser.add_argument(
        "--jobs", type=int, default=torch.get_num_threads(), help="parallel trainings; %(default)s"
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="file for results")
    options = parser.parse_args()
    changes = [*RECIPES[options.recipe], *options.set]
    runs = [(prior, seed) for seed in options.seeds for prior in options.priors]
    try:
        params = {run: chosen_params(*run, changes) for run in runs}
        kept = Runs({run: result_key(params[run], options.images) for run in runs}, options.keep)
    except AAEError as error:
        parser.error(str(error))
    missing, results = kept.missing, kept.results
    console = Console(width=156)
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(options.jobs, get_context("spawn"), set_up) as pool,
        progress_bar(console) as progress,
    ):
        autoencoders = {seed: Path(folder) / f"{seed}.safetensors" for _, seed in missing}
        of_seed = {seed: params[prior, seed] for prior, seed in missing}
        waiting = [
            pool.submit(train_ae, of_seed[seed], options.images, path)
            for seed, path in autoencoders.items()
        ]
        for trained in progress.track(
            as_completed(waiting), len(waiting), description="autoencoders"
        ):
            trained.result()
        trainings = {
            pool.submit(train_aae, params[run], options.images, autoencoders[run[1]]): run
            for run in missing
        }
        kept.collect(
            trainings, progress, "adversarial autoencoders",
            lambda run, found: f"{run[0]} seed {run[1]}: match ratio "
            f"{found['aae']['match_ratio']:.2f}",
        )  # fmt: skip

    recipe = ", ".join([f"{options.recipe} recipe", *options.set, f"{options.images} images"])
    print(f"{recipe}: {len(missing)} trainings in {(time.monotonic() - start) / 60:.0f} minutes")
    console.print(every_run(runs, results), medians(options.priors, options.seeds, results))
    print(
        "AE: the autoencoder. Mixture: the autoencoder with ten Gaussians fitted to its codes.\n"
        "At the start: before the training, when the codes are those of the autoencoder with the\n"
        "prior's mean and covariance, and noise; in brackets, how many seeds follow it then.\n"
        "Training images: match ratio of as many training images. MSE: reconstruction error per\n"
        "pixel. k-NN: nearest-neighbour accuracy of codes.\n"
        "p: of all tests together. Fréchet: of decoded prior samples, for the mixture of decoded "
        "samples of the mixture."
    )


def every_run(runs: list[tuple[str, int]], results: dict[tuple[str, int], dict]) -> Table:
    """Return the table of all runs."""
    table = Table(
        "prior", "seed", "match ratio", "KS", "p", "follows", "MSE", "of AE", "Fréchet", "of AE",
        "mixture", "k-NN", title="every seed",
    )  # fmt: skip
    for prior, seed in runs:
        found = results[prior, seed]
        aae, ae = found["aae"], found["ae"]
        table.add_row(
            prior.replace(":", " "), str(seed), f"{aae['match_ratio']:.2f}",
            f"{aae['ks_statistic']:.3f}", f"{aae['p_value']['all']:.3f}",
            "yes" if aae["follows_prior"] else "no", f"{aae['reconstruction_mse']:.4f}",
            f"{ae['reconstruction_mse']:.4f}", f"{aae['generated_frechet']:.1f}",
            f"{ae['generated_frechet']:.1f}", f"{found['mixture']['generated_frechet']:.1f}",
            f"{aae['knn_accuracy']:.3f}",
        )  # fmt: skip
    return table


def medians(priors: list[str], seeds: list[int], results: dict[tuple[str, int], dict]) -> Table:
    """Return the table of medians over the seeds."""
    table = Table(
        "prior", "follows", "match ratio", "at the start", "training images", "KS", "p", "MSE",
        "of AE", "Fréchet", "of AE", "mixture", "k-NN", title="medians over the seeds",
    )  # fmt: skip
    for prior in priors:
        rows = [results[prior, seed] for seed in seeds]

        def ratio(key: str, rows: list[dict] = rows) -> str:
            return f"{statistics.median(row[key] for row in rows):.2f}"

        def median(model: str, key: str, digits: int, rows: list[dict] = rows) -> str:
            return f"{statistics.median(row[model][key] for row in rows):.{digits}f}"

        table.add_row(
            prior.replace(":", " "),
            f"{sum(row['aae']['follows_prior'] for row in rows)} of {len(rows)}",
            median("aae", "match_ratio", 2),
            f"{ratio('start_match_ratio')} ({sum(row['start_follows_prior'] for row in rows)})",
            ratio("train_match_ratio"),
            median("aae", "ks_statistic", 3),
            f"{statistics.median(row['aae']['p_value']['all'] for row in rows):.3f}",
            median("aae", "reconstruction_mse", 4), median("ae", "reconstruction_mse", 4),
            median("aae", "generated_frechet", 1), median("ae", "generated_frechet", 1),
            median("mixture", "generated_frechet", 1), median("aae", "knn_accuracy", 3),
        )  # fmt: skip
    return table


def chosen_params(prior: str, seed: int, changes: list[str]) -> Params:
    """Return the parameters with another prior, seed and other changes."""
    name, _, arguments = prior.partition(":")
    overrides = [
        f"prior={name}", f"seed={seed}",
        *(f"++priors.{name}.{argument}" for argument in filter(None, arguments.split(","))),
        *(f"++{change}" for change in changes),
    ]  # fmt: skip
    return changed_params(ROOT / "params.yaml", overrides)


def train_ae(params: Params, images: str, path: Path) -> None:
    """Train and save the autoencoder of a seed."""
    splits, _ = prepare(params, images)
    training = autoencoder_training(params, splits["train"].images, splits["validation"].images)
    list(training.epochs())
    save_model(training.averaged, path)


def train_aae(params: Params, images: str, autoencoder: Path) -> dict:
    """Train an adversarial autoencoder; return its measures and those of its two rivals."""
    splits, class_names = prepare(params, images)
    train, ae = splits["train"].images, load_model(autoencoder, params.network.kind)
    evaluate = Evaluation(
        splits, class_names, chosen_prior(params), params.eval_latent, params.seed
    )
    validation = splits["validation"]
    known = known_labels(splits["train"], validation, class_names, params)
    training = adversarial_training(params, train, validation.images, ae, known)
    aae: Model = training.averaged
    # Where noise alone lets codes follow the prior, a training proves nothing.
    at_start = evaluate.prior_test(evaluate.posterior_samples(aae))
    list(training.epochs())
    centre(aae, train)
    # The same number of training images shows how much of the distance is overfitting.
    generator = torch.Generator().manual_seed(params.seed)
    some = train[torch.randperm(len(train), generator=generator)[: len(splits["test"])]]
    on_train = evaluate.prior_test(aae.encode(some, aae.noise(len(some), generator)))
    return {
        "aae": evaluate(aae), "ae": evaluate(ae), "mixture": evaluate.rival(ae),
        "train_match_ratio": on_train["match_ratio"],
        "start_match_ratio": at_start["match_ratio"],
        "start_follows_prior": at_start["follows_prior"],
    }  # fmt: skip


def prepare(params: Params, images: str) -> tuple[dict[str, Images], tuple[str, ...]]:
    """Return the pipeline's splits and the class names; or splits without its test images."""
    source = read_source(params.data)
    splits = in_memory(split_source(source, params.data, params.seed))
    if images == "validation":
        train, validation = splits["train"], splits["validation"]
        labels = [part.labels for part in (train, validation) if part.labels is not None]
        seen = Part.of(
            torch.cat([train.images, validation.images]),
            torch.cat(labels) if labels else None,
            source.train.shape,
        )
        apart = params.data.model_copy(update={"test_share": 0.25})
        source = replace(source, train=seen, test=None)
        splits = in_memory(split_source(source, apart, params.seed))
    return splits, source.class_names


if __name__ == "__main__":
    main()
