"""Measure how long it takes to train a model that passes its test, from random weights.

    .venv/bin/python benchmarks/time_to_match.py --plot docs/time_to_match.png
    .venv/bin/python benchmarks/time_to_match.py --seeds 5 --times 3 --set train_aae.epochs=20

- **this project** trains with the parameters of params.yaml: the autoencoder and, from it, the
  adversarial autoencoder, both to the end, where their learning rates are zero. Its model is the
  averaged one, centred, with the noise of its posterior, as in the pipeline; the first evaluation
  is at the start of the adversarial training.
- **textbook** and **pythae** train as benchmarks/others.py describes, on the same images, until
  they have taken ten times as long (--times) as this project with the same seed.

As a training goes, the pipeline's evaluation measures its model on the test images, and compares
the codes with the prior that the model is trained for. There are three ways to pass:

- The match ratio is at most 1.1 (--limit), in this evaluation and in all later ones. Of sets of
  prior samples, about one in seven has a higher ratio, so even a perfect model can miss this.
- The model follows the prior: all tests together cannot tell its codes from prior samples.
- The model follows the prior in this evaluation and in all later ones.

The seconds are those of the epochs, without the start of a process and without the evaluations. The
trainings run one after the other, each in a process of its own with all cores (--threads): this
project's in the environment of a stage (stages/run), the others in the user's. With --keep, the
results are appended to a file of JSON lines, and results in it for the same code and parameters are
not computed again, so that a run of hours can be interrupted.
"""

import argparse
import copy
import functools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import others
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from rich.console import Console
from rich.table import Table
from runs import ROOT, Run, Runs, environment, progress_bar, result_key
from torch import Tensor
from torch.distributions import Normal

from aae.pipeline.stage import set_arithmetic
from aae.data import Images, in_memory, read_source, split_source
from aae.errors import AAEError
from aae.evaluation.evaluation import Evaluation
from aae.files import check_writable, file_digest
from aae.models import Architecture, Mlp, Model, load_model, save_model
from aae.params import Params
from aae.priors import Prior, chosen_prior
from aae.report.figures import CLASS_COLOURS, new_figure, save_figure
from aae.sweep.combinations import changed_params
from aae.training import adversarial_training, autoencoder_training, centre
from aae.training.devices import training_device

OURS = "this project"
# Images in a batch of the others.
BATCH = 100
# Evaluations of a training: of this project at the start of the adversarial training and then at
# equal distances, of the others at equal ratios of seconds, from a hundredth of their time on.
OUR_POINTS, OTHER_POINTS = 11, 12

# What an evaluation has found: the number of the "epoch", the "seconds" of training, and measures.
Point = dict[str, Any]
# The epochs of a training. After each, a function returns the model as it is then.
Epochs = Iterator[Callable[[], Model]]


class Implementation(NamedTuple):
    """An implementation.

    Attributes:
        start: sets up its training, with uint8 training and validation images [N, C, H, W].
        prior: returns the prior that it trains its models for.
        as_stage: whether it runs as a stage does.
    """

    start: Callable[[Params, Tensor, Tensor], Epochs]
    prior: Callable[[Params], Prior]
    as_stage: bool


def main() -> None:
    """Train and evaluate all models; print the tables and draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[5, 6, 7], metavar="SEED", help="%(default)s"
    )
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="of a training; %(default)s"
    )
    parser.add_argument(
        "--times", type=float, default=10.0,
        help="how many times as long as this project the others train; %(default)s",
    )  # fmt: skip
    parser.add_argument("--limit", type=float, default=1.1, help="of match ratios; %(default)s")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to params.yaml"
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="file for results")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="PNG with all match ratios")
    options = parser.parse_args()
    for name in ("threads", "times"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name}: {getattr(options, name)} is wrong: it must be above 0")
    try:
        if options.plot:
            check_writable(options.plot)
        params = {
            seed: changed_params(ROOT / "params.yaml", [f"seed={seed}", *options.set])
            for seed in options.seeds
        }
        images = read_source(params[options.seeds[0]].data).train
    except AAEError as error:
        parser.error(str(error))
    if images.shape != others.IMAGE_SHAPE:
        parser.error(f"data: {images.shape} is wrong: the networks need {others.IMAGE_SHAPE}")

    missing = {"pythae": text} if (text := others.missing_pythae()) else {}
    names = [name for name in IMPLEMENTATIONS if name not in missing]
    settings = f"{options.threads} threads, {options.times} times"
    keys = {
        (name, seed): result_key(
            params[seed], f"{name}, {settings}, {file_digest(Path(others.__file__))}"
        )
        for seed in options.seeds
        for name in names
    }
    try:
        kept = Runs(keys, options.keep)
    except AAEError as error:
        parser.error(str(error))
    set_arithmetic()
    torch.set_num_threads(options.threads)
    console, start = Console(width=140), time.monotonic()
    with progress_bar(console) as progress:
        for name, seed in progress.track(kept.missing, description="trainings"):
            if name == OURS:
                points = our_points(params[seed])
            else:  # this project comes first
                taken = kept.results[OURS, seed]["curve"][-1]["seconds"]
                points = other_points(options.times * taken)
            curve = []
            for point in evaluations(name, params[seed], options.threads, points):
                curve.append(point)
                progress.print(
                    f"{name}, seed {seed}: epoch {point['epoch']}, {point['seconds']:.0f} s, "
                    f"match ratio {point['match_ratio']:.2f}, p {point['p']:.3f}"
                )
            kept.add((name, seed), {"curve": curve})
    minutes = (time.monotonic() - start) / 60
    print(f"{len(kept.missing)} trainings in {minutes:.0f} minutes")
    curves = {run: kept.results[run]["curve"] for run in keys}
    title = ", ".join(
        [f"seeds {', '.join(map(str, options.seeds))}; threads: {options.threads}", *options.set]
    )
    console.print(passing_table(curves, options.limit, missing, title), final_table(curves))
    print(
        "Medians over the seeds, with the lowest and the highest value in brackets.\n"
        "MSE: of reconstructions. p: of all tests together. Fréchet: of decoded prior samples."
    )
    if options.plot:
        save_figure(draw(curves, options.limit), options.plot)


def our_points(params: Params) -> list[tuple[int, float]]:
    """Return the epochs after which this project is evaluated, each with 0 seconds."""
    first = params.train_ae.epochs if params.train_aae.init == "ae" else 0
    shares = (k / (OUR_POINTS - 1) for k in range(OUR_POINTS))
    epochs = {first + math.ceil(share * params.train_aae.epochs) for share in shares}
    return [(epoch, 0.0) for epoch in sorted(epochs - {0})]


def other_points(seconds: float) -> list[tuple[int, float]]:
    """Return the seconds after which others that train so long are evaluated, each with epoch 1."""
    shares = (k / (OTHER_POINTS - 1) for k in range(OTHER_POINTS))
    return [(1, seconds * 100 ** (share - 1)) for share in shares]


def evaluations(
    name: str, params: Params, threads: int, points: Sequence[tuple[int, float]]
) -> Iterator[Point]:
    """Train with an implementation in a new process, and evaluate its models here.

    Args:
        name: name of the implementation.
        params: all parameters.
        threads: threads of the training.
        points: epochs and seconds; an evaluation follows the first epoch that has reached both.
    """
    implementation = IMPLEMENTATIONS[name]
    splits, class_names = read_splits(params)
    evaluate = Evaluation(
        splits, class_names, implementation.prior(params), params.eval_latent, params.seed
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
    ):
        path = Path(folder) / "model.safetensors"
        with environment(implementation.as_stage):  # the pool's process inherits it
            pool.submit(set_up, name, params, threads, folder).result()
        epoch, seconds = 0, 0.0
        for wanted in points:
            if epoch >= wanted[0] and seconds >= wanted[1]:
                continue
            epoch, seconds = pool.submit(train, *wanted, path).result()
            found = evaluate(load_model(path, params.network.kind))
            measures = ("match_ratio", "follows_prior", "reconstruction_mse", "generated_frechet")
            yield {
                "epoch": epoch, "seconds": seconds, "p": found["p_value"]["all"],
                **{measure: found[measure] for measure in measures},
            }  # fmt: skip


def read_splits(params: Params) -> tuple[dict[str, Images], tuple[str, ...]]:
    """Return the pipeline's splits and the class names."""
    source = read_source(params.data)
    return in_memory(split_source(source, params.data, params.seed)), source.class_names


# The state of this process, which belongs to one training.
_epochs: Epochs
_epoch, _seconds = 0, 0.0


def set_up(name: str, params: Params, threads: int, folder: str) -> None:
    """Set up this process for a training.

    Args:
        name: name of the implementation.
        params: all parameters.
        threads: threads of the training.
        folder: folder that the implementation may write to.
    """
    global _epochs
    implementation = IMPLEMENTATIONS[name]
    if implementation.as_stage:
        set_arithmetic()
    torch.set_num_threads(threads)
    torch.manual_seed(params.seed)
    splits, _ = read_splits(params)
    os.chdir(folder)
    _epochs = implementation.start(params, splits["train"].images, splits["validation"].images)


def train(epoch: int, seconds: float, path: Path) -> tuple[int, float]:
    """Train until an epoch and some seconds have passed; save the model.

    Returns:
        The number of the last epoch, and the seconds of all epochs so far.
    """
    global _epoch, _seconds
    while _epoch < epoch or _seconds < seconds:
        start = time.perf_counter()
        model = next(_epochs)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        _seconds += time.perf_counter() - start
        _epoch += 1
    save_model(model(), path)
    return _epoch, _seconds


def project(params: Params, images: Tensor, validation_images: Tensor) -> Epochs:
    """Set up the trainings of this project, the second of which starts from the first."""
    first = autoencoder_training(params, images, validation_images)

    def started() -> Model:
        # An adversarial autoencoder as it would start from the autoencoder as of now.
        return adversarial_training(params, images, validation_images, first.averaged).averaged

    def epochs() -> Epochs:
        if params.train_aae.init == "ae":
            for _ in first.epochs():
                yield started
        second = adversarial_training(params, images, validation_images, first.averaged)

        def centred() -> Model:
            model = copy.deepcopy(second.averaged)
            centre(model, images)
            return model

        for _ in second.epochs():
            yield centred

    return epochs()


def other(
    make: Callable[[Tensor, int, torch.device], others.Loop],
    params: Params,
    images: Tensor,
    _validation_images: Tensor,
) -> Epochs:
    """Set up the training of another implementation, which never ends."""
    loop = make(images, BATCH, training_device(params.device))
    architecture = Architecture(
        image_shape=others.IMAGE_SHAPE,
        latent_dim=others.LATENT_DIM,
        network=Mlp(hidden=others.HIDDEN),
    )
    model = Model(architecture, params.seed)  # its weights are replaced

    @torch.no_grad()
    def converted() -> Model:
        for ours, theirs in ((model.encoder, loop.encoder), (model.decoder, loop.decoder)):
            for own, weight in zip(ours.parameters(), theirs.parameters(), strict=True):
                own.copy_(weight)
        return model

    def epochs() -> Epochs:
        while True:
            loop.epoch(lambda: None)
            yield converted

    return epochs()


def gaussian(std: float, _params: Params) -> Prior:
    """Return the Gaussian prior of another implementation."""
    return Prior(Normal(0.0, std), others.LATENT_DIM)


IMPLEMENTATIONS = {
    OURS: Implementation(project, chosen_prior, as_stage=True),
    "textbook": Implementation(
        functools.partial(other, others.textbook),
        functools.partial(gaussian, others.TEXTBOOK_STD),
        as_stage=False,
    ),
    "pythae": Implementation(
        functools.partial(other, others.pythae),
        functools.partial(gaussian, others.PYTHAE_STD),
        as_stage=False,
    ),
}


def passing(curve: Sequence[Point], limit: float) -> dict[str, Point | None]:
    """Return the evaluation at which a training passes, for each way to pass; None for never.

    Args:
        curve: the evaluations of the training.
        limit: the largest match ratio that passes.
    """
    low = [point["match_ratio"] <= limit for point in curve]
    follows = [point["follows_prior"] for point in curve]
    found = {
        f"match ratio at most {limit:g}, for good": for_good(low),
        "follows the prior, first": follows.index(True) if any(follows) else None,
        "follows the prior, for good": for_good(follows),
    }
    return {way: None if index is None else curve[index] for way, index in found.items()}


def for_good(passes: Sequence[bool]) -> int | None:
    """Return the index from which on all evaluations pass; None if the last one does not."""
    failures = [index for index, passed in enumerate(passes) if not passed]
    first = failures[-1] + 1 if failures else 0
    return first if first < len(passes) else None


def passing_table(
    curves: Mapping[Run, Sequence[Point]], limit: float, missing: Mapping[str, str], title: str
) -> Table:
    """Return the table of how long it takes until a model passes.

    Args:
        curves: the evaluations of each training.
        limit: the largest match ratio that passes.
        missing: how to install implementations that are missing, by their names.
        title: title of the table.
    """
    table = Table("", "passes", "seeds", "seconds", "MSE then", "Fréchet then", title=title)
    for name in IMPLEMENTATIONS:
        if name in missing:
            table.add_row(name, missing[name])
            continue
        found = [passing(curve, limit) for (own, _), curve in curves.items() if own == name]
        for number, way in enumerate(found[0]):
            points = [point for points in found if (point := points[way])]
            never = [math.inf] * (len(found) - len(points))
            table.add_row(
                "" if number else name, way, f"{len(points)} of {len(found)}",
                span([*(point["seconds"] for point in points), *never], 0),
                span([point["reconstruction_mse"] for point in points], 4),
                span([point["generated_frechet"] for point in points], 1),
            )  # fmt: skip
        table.add_section()
    return table


def final_table(curves: Mapping[Run, Sequence[Point]]) -> Table:
    """Return the table of the last evaluations, given those of each training."""
    table = Table(
        "", "seconds", "epochs", "match ratio", "p", "follows", "MSE", "Fréchet",
        title="at the end of the trainings",
    )  # fmt: skip
    for name in IMPLEMENTATIONS:
        last = [curve[-1] for (own, _), curve in curves.items() if own == name]
        if not last:
            continue
        columns = {
            "seconds": 0, "epoch": 0, "match_ratio": 2, "p": 3, "reconstruction_mse": 4,
            "generated_frechet": 1,
        }  # fmt: skip
        spans = [span([point[key] for point in last], digits) for key, digits in columns.items()]
        follows = sum(point["follows_prior"] for point in last)
        table.add_row(name, *spans[:4], f"{follows} of {len(last)}", *spans[4:])
    return table


def span(values: Sequence[float], digits: int) -> str:
    """Return the median of values, with the lowest and the highest in brackets."""
    if not values:
        return ""

    def text(value: float) -> str:
        return "never" if value == math.inf else f"{value:.{digits}f}"

    middle, low, high = map(text, (statistics.median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} – {high})"


def draw(curves: Mapping[Run, Sequence[Point]], limit: float) -> Figure:
    """Draw match ratios over seconds: a line for each training, filled dots where codes follow.

    Args:
        curves: the evaluations of each training.
        limit: the largest match ratio that passes.
    """
    figure = new_figure(8, 5)
    axes = figure.subplots()
    colours = dict(zip(IMPLEMENTATIONS, CLASS_COLOURS, strict=False))
    for (name, _), curve in curves.items():
        seconds = [point["seconds"] for point in curve]
        ratios = [point["match_ratio"] for point in curve]
        fills = [colours[name] if point["follows_prior"] else "white" for point in curve]
        axes.plot(seconds, ratios, color=colours[name], linewidth=1)
        axes.scatter(seconds, ratios, s=25, c=fills, edgecolors=colours[name], zorder=3)
    for name in dict.fromkeys(name for name, _ in curves):
        axes.plot([], [], "o-", color=colours[name], label=name)
    axes.axhline(limit, color="grey", linestyle="--", linewidth=1, label=f"match ratio {limit:g}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("match ratio (filled: the codes follow the prior)")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
