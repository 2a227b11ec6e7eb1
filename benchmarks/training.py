"""Measure the time of a training step: this project, other implementations, and a lower bound.

    .venv/bin/python benchmarks/training.py
    .venv/bin/python benchmarks/training.py --threads 1 --images data/raw
    .venv/bin/python benchmarks/training.py --threads 1 --processor-time
    .venv/bin/python benchmarks/training.py --device cuda --batch 1000

The networks are an encoder 784-1000-1000-2, a decoder that mirrors it, and a discriminator
2-1000-1000-1; the batches are 100 of 60,000 images. Each implementation runs its own loop in a
separate process. The processes take turns of a few dozen steps, for the given number of rounds. The
first steps of a turn do not count. With --processor-time, the benchmark measures processor time
instead of elapsed time: use it, with one thread, if others use the machine as well (with several
threads, waiting also counts as processor time). On a GPU (--device), a turn ends when the GPU has
finished its work.

- **this project** is `aae.training.Training` with the adversarial phases and the parameters of
  params.yaml, set up as in a stage. The other implementations have no gradient penalty; therefore
  the benchmark times this project with and without it.
- **textbook** is the same algorithm as tutorials write it, and **pythae** is that library's
  `AdversarialTrainer`, which has less to do. benchmarks/others.py describes both.
- **bound** is the time that the machine needs for the matrix products of a step and for the memory
  traffic of its optimisers. Each product is timed alone at its shape, with all its matrices in the
  cache. The memory traffic is one pass over weights, gradients and moments of each Adam, at the
  speed at which the machine scales an array in place. (A copy into another array is slower than
  Adam, because the processor first reads the memory that it overwrites.) The bound does not contain
  activations, losses and Python.
- **bound, from memory** is the same, but no product finds its weights in the cache or leaves their
  gradients there: between two uses of a matrix, a step uses all the others.

This project and the bound run in the environment of a stage (stages/run), the others in the user's.
"""

import argparse
import functools
import itertools
import math
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import others
import torch
from others import (
    DECODER,
    DISCRIMINATOR,
    ENCODER,
    HIDDEN,
    IMAGE_SHAPE,
    LATENT_DIM,
    Tick,
    missing_pythae,
)
from rich.console import Console
from rich.progress import track
from rich.table import Table
from runs import ROOT, environment
from torch import Tensor

from aae.pipeline.stage import set_arithmetic
from aae.data.published import read_published
from aae.errors import DataError, ParameterError
from aae.params import Device, Precision
from aae.seeding import stream
from aae.sweep.combinations import changed_params
from aae.training import adversarial_training
from aae.training.devices import has_bf16, rounding, training_device, training_precision

COUNT = 60_000
# Number of steps at the start of a turn that do not count: the caches still hold the data of
# another process, and on a GPU the step is not recorded yet.
WARM_UP = 5
# Size in bytes of arrays that must not fit into a cache.
BEYOND_CACHE = 2**26

# Takes a number of steps and returns the seconds per step.
Turn = Callable[[int], float]


class TurnOver(Exception):  # noqa: N818 (no error)
    """A loop has taken all steps of its turn."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: name of the implementation.
        make: sets it up in its process; its argument is the folder of the images or None.
        as_stage: whether its process has the environment of a stage.
        missing: how to install a package that is missing; empty if none is.
    """

    name: str
    make: Callable[[Path | None], Turn]
    as_stage: bool = False
    missing: str = ""


def rows(precisions: Sequence[Precision]) -> list[Row]:
    """Return the rows of the table.

    Args:
        precisions: the precisions of this project and of the bound, each of which is timed with
            and without the gradient penalty.
    """
    projects = [
        Row(project_name(precision, penalty), functools.partial(project, precision, penalty), True)
        for precision in precisions
        for penalty in (True, False)
    ]
    bounds = [
        Row(
            bound_name(precision, penalty, cached),
            functools.partial(bound, precision, penalty, cached),
            True,
        )
        for precision in precisions
        for penalty in (True, False)
        for cached in (True, False)
    ]
    return [
        *projects,
        Row("textbook, with its data loading", functools.partial(textbook, True)),
        Row("textbook, batches ready", functools.partial(textbook, False)),
        Row("pythae, with its data loading", pythae, missing=missing_pythae()),
        *bounds,
    ]


def project_name(precision: str, penalty: bool) -> str:
    """Return the name of a row of this project."""
    return f"this project, {precision}" + (", gradient penalty" if penalty else "")


def bound_name(precision: str, penalty: bool, cached: bool) -> str:
    """Return the name of a row of the bound."""
    where = "" if cached else ", from memory"
    return f"bound, {precision}" + where + (", gradient penalty" if penalty else "")


def main() -> None:
    """Time all rows in turns and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each row; %(default)s")
    parser.add_argument("--steps", type=int, default=40, help="timed steps of a turn; %(default)s")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="for each row; %(default)s"
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="folder with MNIST/raw; without it, the images are random",
    )
    parser.add_argument(
        "--processor-time", action="store_true", help="measure processor time instead"
    )
    parser.add_argument("--batch", type=int, default=100, help="images in a batch; %(default)s")
    parser.add_argument("--device", choices=get_args(Device), default="cpu", help="%(default)s")
    options = parser.parse_args()
    for name in ("rounds", "steps", "threads", "batch"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: {getattr(options, name)} is wrong: at least 1 is needed")
    if options.batch > COUNT:
        parser.error(f"--batch: {options.batch} is wrong: at most {COUNT} images are possible")
    if options.images:
        options.images = options.images.resolve()
        try:
            read_images(options.images)
        except DataError as error:
            parser.error(str(error))

    try:
        options.device = training_device(options.device)
    except ParameterError as error:
        parser.error(str(error))

    precisions = known_precisions(options.device)
    all_rows = rows(precisions)
    seconds: dict[str, list[float]] = {row.name: [] for row in all_rows if not row.missing}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pools, waiting = {}, []
        for row in all_rows:
            if row.missing:
                continue
            pools[row.name] = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            with environment(as_stage=row.as_stage):  # the pool's process inherits it
                waiting.append(pools[row.name].submit(set_up, row, options, folder))
        for ready in waiting:
            ready.result()
        for _ in track(range(options.rounds), "rounds", console=Console(stderr=True)):
            for name, pool in pools.items():
                seconds[name].append(pool.submit(take_turn, options.steps).result())
    kind = ", processor time" if options.processor_time else ""
    where = f"threads: {options.threads}"
    if options.device.type == "cuda":
        where = torch.cuda.get_device_name(options.device)
    title = f"{where}, torch {torch.__version__}{kind}"
    print_table(all_rows, seconds, precisions, COUNT // options.batch, title)


def known_precisions(device: torch.device) -> list[Precision]:
    """Return the precisions that a device supports."""
    known: list[Precision] = ["float32"]
    with suppress(ParameterError):
        known.append(training_precision("tf32", device))
    return [*known, "bf16"] if has_bf16(device) else known


def print_table(
    all_rows: Sequence[Row],
    seconds: dict[str, list[float]],
    precisions: Sequence[str],
    steps_per_epoch: int,
    title: str,
) -> None:
    """Print the medians of the times, and the medians of the ratios of each round.

    Other users of the machine make some rounds slower than others, but all rows of a round alike.
    Therefore the ratios are computed within a round.

    Args:
        all_rows: the rows of the table.
        seconds: time of a step in each round, by the name of the row.
        precisions: the precisions of this project.
        steps_per_epoch: number of batches in an epoch.
        title: title of the table.
    """
    baseline = project_name("float32", False)

    def ratio(name: str, to: str) -> float:
        return statistics.median(
            own / other for own, other in zip(seconds[name], seconds[to], strict=True)
        )

    table = Table("", title=title)
    for heading in ("a step", "fastest – slowest round", f"{steps_per_epoch} steps", "ratio"):
        table.add_column(heading, justify="right")
    for row in all_rows:
        if row.missing:
            table.add_row(row.name, row.missing)
            continue
        step = statistics.median(seconds[row.name])
        low, high = min(seconds[row.name]) * 1e3, max(seconds[row.name]) * 1e3
        table.add_row(
            row.name, f"{step * 1e3:.3g} ms", f"{low:.3g} – {high:.3g} ms",
            f"{step * steps_per_epoch:.3g} s", f"{ratio(row.name, baseline):.2f}",
        )  # fmt: skip
    Console(width=130).print(table)
    print(f"ratio: to {baseline} without gradient penalty")
    for precision in precisions:
        ours = project_name(precision, False)
        least, least_from_memory = (
            bound_name(precision, False, cached) for cached in (True, False)
        )
        for row in all_rows:
            if row.name in seconds and row.name.startswith(("textbook", "pythae")):
                print(
                    f"{precision}, no penalty: {ratio(row.name, ours):.2f} times as fast as "
                    f"{row.name}; at the bound {ratio(row.name, least):.2f} times, "
                    f"from memory {ratio(row.name, least_from_memory):.2f}"
                )
        for penalty, cached in itertools.product((False, True), (True, False)):
            name, bound = project_name(precision, penalty), bound_name(precision, penalty, cached)
            print(f"{name}: {ratio(name, bound):.2f} times the {bound}")


# The state of this process, which belongs to one row.
_turn: Turn
_clock: Callable[[], float]
_batch: int
_device: torch.device


def set_up(row: Row, options: argparse.Namespace, folder: str) -> None:
    """Set up this process for a row.

    Args:
        row: the row.
        options: options of the command.
        folder: folder that the row may write to.
    """
    global _turn, _clock, _batch, _device
    os.chdir(folder)
    _batch, _device = options.batch, options.device
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    _clock = time.process_time if options.processor_time else time.perf_counter
    if _device.type == "cuda":
        torch.cuda.set_device(_device)
    _turn = row.make(options.images)


def take_turn(steps: int) -> float:
    """Return the seconds per step of this process's row."""
    return _turn(steps)


def timed(loop: Callable[[Tick], object]) -> Turn:
    """Convert a loop that calls a function between steps into a turn that is timed and ends."""

    def turn(steps: int) -> float:
        times: list[float] = []

        def tick() -> None:
            if len(times) in (WARM_UP, WARM_UP + steps):
                wait_for_device()
            times.append(_clock())
            if len(times) > WARM_UP + steps:
                raise TurnOver

        try:
            loop(tick)
        except TurnOver:
            return (times[-1] - times[WARM_UP]) / steps
        raise AssertionError("the loop ended before the turn was over")

    return turn


def wait_for_device() -> None:
    """Wait until a GPU has finished its work."""
    if _device.type == "cuda":
        torch.cuda.synchronize()


def read_images(folder: Path | None) -> Tensor:
    """Return 60,000 uint8 images [N, 1, 28, 28]: MNIST's below a folder, or random bytes."""
    if folder:
        return read_published("mnist", folder)[0][0]
    return torch.randint(
        256, (COUNT, *IMAGE_SHAPE), dtype=torch.uint8, generator=stream(0, "random images")
    )


def project(precision: Precision, penalty: bool, folder: Path | None) -> Turn:
    """Set up this project's training."""
    set_arithmetic()
    hidden = str(list(HIDDEN)).replace(" ", "")
    params = changed_params(ROOT / "params.yaml", [
        # The others have neither noise, augmentation nor averages. A trained autoencoder as the
        # start would not change the time.
        "posterior.kind=deterministic", "augment.shift=0.0", "augment.rotate=0.0",
        "augment.zoom=0.0", "augment.shear=0.0", "train_aae.average=0.0", "train_aae.init=scratch",
        "train_aae.discriminator_steps=1", f"train_aae.gradient_penalty={float(penalty)}",
        f"train_aae.batch_size={_batch}", "train_aae.epochs=10000", f"latent_dim={LATENT_DIM}",
        f"network.hidden={hidden}", f"network.discriminator_hidden={hidden}",
        f"precision={precision}", f"device={_device.type}",
    ])  # fmt: skip
    images = read_images(folder)
    training = adversarial_training(params, images, images[:_batch], None)
    return timed(lambda tick: list(training.epochs(between_steps=tick)))


def textbook(loading: bool, folder: Path | None) -> Turn:
    """Set up the algorithm as tutorials write it, with or without loading its images."""
    return timed(forever(others.textbook(read_images(folder), _batch, _device, loading).epoch))


def forever(epoch: Callable[[Tick], object]) -> Callable[[Tick], object]:
    """Return a loop that repeats an epoch without end."""

    def loop(tick: Tick) -> None:
        while True:
            epoch(tick)

    return loop


def pythae(folder: Path | None) -> Turn:
    """Set up pythae's AdversarialTrainer with the same networks and images."""
    return timed(forever(others.pythae(read_images(folder), _batch, _device).epoch))


def products(penalty: bool) -> Counter[tuple[str, int, int]]:
    """Return how often a step needs each matrix product: (which, inputs, outputs) of a layer.

    "forward" gives a layer's outputs; "weights" and "inputs" give the gradients of these two.

    Args:
        penalty: whether the discriminator has a gradient penalty.
    """
    needed: Counter[tuple[str, int, int]] = Counter()

    def add(network: Sequence[tuple[int, int]], **times: int) -> None:
        for layer in network:
            for which, count in times.items():
                needed[which, *layer] += count

    # Both phases run the encoder forward and backward; gradients of the images are not needed.
    add(ENCODER, forward=2, weights=2)
    add(ENCODER[1:], inputs=2)
    add(DECODER, forward=1, weights=1, inputs=1)
    # The discriminator's update uses prior samples and codes; the generator's uses codes again.
    add(DISCRIMINATOR, forward=3, weights=2, inputs=1)
    add(DISCRIMINATOR[1:], inputs=2)
    if penalty:
        # The gradient at prior samples, and the backward pass through its computation.
        add(DISCRIMINATOR, inputs=1, weights=1)
        add(DISCRIMINATOR[:-1], forward=1)
    return needed


def bound(precision: Precision, penalty: bool, cached: bool, _folder: Path | None) -> Turn:
    """Set up the parts of a step that no implementation can avoid."""
    set_arithmetic()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    pieces: list[tuple[Callable[[], object], float]] = [
        (product(*layer, dtype, cached), count) for layer, count in products(penalty).items()
    ]
    # Each Adam reads weight, gradient and two moments, and writes all of them but the gradient.
    adapted = (*ENCODER, *DECODER, *DISCRIMINATOR, *ENCODER)
    moved = 7 * 4 * sum((inputs + 1) * outputs for inputs, outputs in adapted)
    array = torch.ones(BEYOND_CACHE // 4, device=_device)
    pieces.append((functools.partial(array.mul_, 1.0), moved / (2 * array.nbytes)))

    def turn(steps: int) -> float:
        total = 0.0
        for piece, count in pieces:
            with rounding(precision):
                for _ in range(WARM_UP):
                    piece()
                repeat = repeated(piece, steps)
            wait_for_device()
            start = _clock()
            repeat()
            wait_for_device()
            total += (_clock() - start) / steps * count
        return total

    return turn


def product(
    which: str, inputs: int, outputs: int, dtype: torch.dtype, cached: bool
) -> Callable[[], object]:
    """Return a matrix product of a layer.

    Args:
        which: one of its three products; see :func:`products`.
        inputs: number of inputs of the layer.
        outputs: number of outputs of the layer.
        dtype: type of all numbers.
        cached: whether it uses the same weights every time, or one copy after another, of which
            there are more than a cache holds.
    """
    x = torch.randn(_batch, inputs, device=_device, dtype=dtype)
    gradient = torch.randn(_batch, outputs, device=_device, dtype=dtype)
    copies = 1 if cached else math.ceil(BEYOND_CACHE / (inputs * outputs * dtype.itemsize))
    # The weights, or in their place their gradients.
    weights = itertools.cycle(torch.randn(copies, outputs, inputs, device=_device, dtype=dtype))
    if which == "weights":
        return lambda: torch.mm(gradient.T, x, out=next(weights))
    if which == "inputs":
        result = torch.empty_like(x)
        return lambda: torch.mm(gradient, next(weights), out=result)
    result = torch.empty_like(gradient)
    return lambda: torch.mm(x, next(weights).T, out=result)


def repeated(piece: Callable[[], object], times: int) -> Callable[[], object]:
    """Return a function that repeats a piece; on a GPU, it is one launch for all repetitions."""

    def repeat() -> None:
        for _ in range(times):
            piece()

    if _device.type == "cpu":
        return repeat
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        repeat()
    return graph.replay


if __name__ == "__main__":
    main()
