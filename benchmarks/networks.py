"""Measure the time of a training step of each kind of networks, by the size of the images.

    .venv/bin/python benchmarks/networks.py
    .venv/bin/python benchmarks/networks.py --sizes 28 64 128 --channels 3 --threads 1
    .venv/bin/python benchmarks/networks.py --kinds conv --set network.channels=[32,64,128]
    .venv/bin/python benchmarks/networks.py --steps 100 --set device=cuda precision=tf32
    .venv/bin/python benchmarks/networks.py --set labels.use=semi-supervised

A step is one of the adversarial autoencoder, with the parameters of params.yaml. The images are
random, of ten classes. The kinds take turns of a few steps, of which the first does not count; on a
GPU the first five do not, in which a step is recorded as the trainings record it. The table
shows the median over the rounds. With --processor-time, the benchmark measures processor time
instead of elapsed time: use it, with one thread, if others use the machine as well.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from runs import Enough

from aae.pipeline.stage import set_arithmetic
from aae.data import Images, known_labels
from aae.errors import ParameterError
from aae.seeding import stream
from aae.sweep.combinations import changed_params
from aae.training import Training, adversarial_training
from aae.training.cuda_graph import WARM_UP

ROOT = Path(__file__).resolve().parent.parent
# First steps of a turn on a GPU that do not count: those before the recording, it, and one more.
UNCOUNTED = WARM_UP + 2


def main() -> None:
    """Time all kinds in turns and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", default=["mlp", "conv"], help="%(default)s")
    parser.add_argument("--sizes", nargs="+", type=int, default=[28, 64], help="%(default)s")
    parser.add_argument("--channels", type=int, default=1, help="of the images; %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; %(default)s")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a turn; %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="%(default)s")
    parser.add_argument(
        "--processor-time", action="store_true", help="measure processor time instead"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="other changes to params.yaml"
    )
    options = parser.parse_args()
    set_arithmetic()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.processor_time else time.perf_counter
    batches = options.rounds * (UNCOUNTED + options.steps + 1)
    try:
        trainings = {
            (size, kind): make(kind, (options.channels, size, size), batches, options.set)
            for size in options.sizes
            for kind in options.kinds
        }
    except ParameterError as error:
        parser.error(str(error))
    seconds: dict[tuple[int, str], list[float]] = {row: [] for row in trainings}
    for _ in range(options.rounds):
        for row, training in trainings.items():
            seconds[row].append(turn(training, options.steps, clock))
    what = "processor time" if options.processor_time else "elapsed time"
    table = Table(
        "pixels", "network.kind", "ms per step", "steps per second",
        title=f"batches of {trainings[options.sizes[0], options.kinds[0]].settings.batch_size}, "
        f"threads: {options.threads}, {what}",
    )  # fmt: skip
    for (size, kind), found in seconds.items():
        median = statistics.median(found)
        table.add_row(f"{size}×{size}", kind, f"{1000 * median:.0f}", f"{1 / median:.1f}")
    Console(width=100).print(table)


def make(
    kind: str, image_shape: tuple[int, int, int], batches: int, changes: list[str]
) -> Training:
    """Return a training of networks of this kind on random images, with epochs of many batches."""
    changes = [f"network.kind={kind}", "train_aae.init=scratch", *changes]
    params = changed_params(ROOT / "params.yaml", changes)
    count = batches * params.train_aae.batch_size
    images = torch.randint(
        256, (count, *image_shape), dtype=torch.uint8, generator=stream(0, "random images")
    )
    train, names = Images(images, torch.arange(count) % 10), tuple("0123456789")
    known = known_labels(train, train[torch.arange(100)], names, params)
    return adversarial_training(params, images, images[:100], None, known)


def turn(training: Training, steps: int, clock: Callable[[], float]) -> float:
    """Take some steps of a training; return the seconds of one of them."""
    on_gpu = training.model.device.type == "cuda"
    uncounted = UNCOUNTED if on_gpu else 1
    times: list[float] = []

    def between_steps() -> None:
        if on_gpu and len(times) in (uncounted, uncounted + steps):
            torch.cuda.synchronize()
        times.append(clock())
        if len(times) > uncounted + steps:
            raise Enough

    with suppress(Enough):
        list(training.epochs(between_steps))
    return (times[-1] - times[uncounted]) / steps


if __name__ == "__main__":
    main()
