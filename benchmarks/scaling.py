"""Measure how time and memory of the adversarial training grow with images, width and latent size.

    .venv/bin/python benchmarks/scaling.py [--steps 40] [--threads N]
    .venv/bin/python benchmarks/scaling.py --pictures

Times a number of steps of `aae.training.Training` with the adversarial phases, in batches of 100
with the parameters of params.yaml, on random images that are memory-mapped as in a stage. The
configurations run one after the other, each in a separate process. The time of an epoch is the time
of a step multiplied by the number of steps. It does not contain the validation, whose memory is
measured separately. With --processor-time, the benchmark measures processor time instead of
elapsed time: use it, with one thread, if others use the machine as well.

The memory of a process is of two kinds. *Anonymous* memory belongs to the process alone: networks,
gradients, moments, and the intermediate results of a step. *Mapped* memory is the part of the image
file (and of libraries) that the process has read and that is still in the page cache: Linux
reclaims it when memory is short. Neither includes the memory that the imports take. *Networks* is
the size of weights, gradients and moments of the three optimisers; *beyond* is the rest of the
anonymous memory. *Validating* is the anonymous memory at the peak of the validation; *resident* is
the peak of both kinds together. The benchmark runs on Linux only, whose /proc distinguishes them.

With --pictures, the benchmark measures instead how time and memory of preparing images grow with
their number: JPEG files of 96×96 pixels, in colour, which become images of 64×64 pixels.
"""

import argparse
import itertools
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from runs import Enough

from aae.pipeline.stage import set_arithmetic
from aae.sweep.combinations import changed_params
from aae.training import adversarial_training

ROOT = Path(__file__).resolve().parent.parent
IMAGE_SHAPE, BATCH = (1, 28, 28), 100
COUNTS, WIDTHS, LATENT_DIMS = (5_000, 60_000, 600_000), (250, 1000, 2000, 4000), (2, 8, 64)
# The values of the other two while one of the three changes.
COUNT, WIDTH, LATENT_DIM = 60_000, 1000, 2
# Numbers of pictures to prepare.
PICTURES = (1_000, 10_000, 100_000)
# The first steps find memory and caches empty.
WARM_UP = 3
# Limit in seconds for the steps of wide networks, and the number of steps that a median needs.
LONGEST, ENOUGH = 20.0, 5
# Number of images that are written at a time.
CHUNK = 10_000
MEGABYTE = 2**20


@dataclass(frozen=True)
class Configuration:
    """The configuration of a training.

    Attributes:
        count: number of images.
        width: units of each hidden layer.
        latent_dim: dimensions of a code.
    """

    count: int
    width: int
    latent_dim: int


@dataclass(frozen=True)
class Measured:
    """The measurements of a configuration, with memory in bytes.

    Attributes:
        steps: number of timed steps.
        seconds: median time of a step.
        networks: size of weights, gradients and moments.
        anonymous: anonymous memory at the peak of the steps.
        validating: anonymous memory at the peak of the validation, for a tenth of the images.
        mapped: mapped memory at the end.
        resident: peak of both kinds together, over the whole run.
    """

    steps: int
    seconds: float
    networks: int
    anonymous: int
    validating: int
    mapped: int
    resident: int


def main() -> None:
    """Measure all configurations and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=40, help="timed steps, at most; %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="%(default)s")
    parser.add_argument(
        "--processor-time", action="store_true", help="measure processor time instead"
    )
    parser.add_argument("--pictures", action="store_true", help="measure the preparation of images")
    # For the child processes, which measure one configuration or one folder of pictures.
    parser.add_argument("--prepare", help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps < ENOUGH:
        parser.error(f"--steps: {options.steps} is wrong: at least {ENOUGH} are needed")
    if options.measure:
        clock = time.process_time if options.processor_time else time.perf_counter
        measured = measure(Configuration(*options.measure), options.steps, clock)
        print(json.dumps(vars(measured)))
        return
    if options.prepare:
        print(json.dumps(prepare(options.prepare)))
        return
    if options.pictures:
        measure_pictures()
        return
    if not Path("/proc/self/status").exists():
        sys.exit("error: /proc/self/status is missing: this benchmark runs on Linux only")

    by_count = [Configuration(count, WIDTH, LATENT_DIM) for count in COUNTS]
    by_width = [Configuration(COUNT, width, LATENT_DIM) for width in WIDTHS]
    by_latent_dim = [Configuration(COUNT, WIDTH, latent_dim) for latent_dim in LATENT_DIMS]
    results: dict[Configuration, Measured] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in COUNTS:
            write_images(Path(folder) / f"{count}.npy", count)
        distinct = dict.fromkeys([*by_count, *by_width, *by_latent_dim])
        for it in track(list(distinct), "configurations", console=Console(stderr=True)):
            results[it] = run(it, Path(folder), options)
    kind = ", processor time" if options.processor_time else ""
    title = f"threads: {options.threads}, torch {torch.__version__}{kind}"
    print_table(results, title)
    per_image = [results[it].seconds / BATCH for it in by_count]
    print(
        f"time per image, {COUNTS[-1]:,} images to {COUNTS[0]:,}: "
        f"{per_image[-1] / per_image[0]:.2f} times"
    )
    beyond = [results[it].anonymous - results[it].networks for it in by_count]
    grown = (beyond[-1] - beyond[0]) / (COUNTS[-1] - COUNTS[0])
    print(f"memory beyond the networks grows by {grown:.1f} bytes per image of {28 * 28} bytes")
    validating = [results[it].validating - results[it].anonymous for it in by_count]
    grown = (validating[-1] - validating[0]) / (COUNTS[-1] - COUNTS[0]) * 10
    print(f"the validation needs {grown / 28 / 28:.1f} bytes more per pixel of its images")


def measure_pictures() -> None:
    """Print time and memory of preparing more and more pictures."""
    table = Table(title=f"{joblib.cpu_count()} cores")
    for heading in ("pictures", "images", "time", "a picture", "memory at the peak"):
        table.add_column(heading, justify="right", no_wrap=True)
    with tempfile.TemporaryDirectory() as name:
        folder, random = Path(name), np.random.default_rng(0)
        (folder / "pictures").mkdir()
        for fewer, count in itertools.pairwise((0, *PICTURES)):
            for number in range(fewer, count):
                colours = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                picture = Image.fromarray(colours).resize((96, 96), Image.Resampling.BICUBIC)
                picture.save(folder / "pictures" / f"{number:06}.jpg")
            words = [sys.executable, str(Path(__file__).resolve()), "--prepare", "pictures"]
            result = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
            if result.returncode:
                sys.exit(f"error: {result.stderr}")
            seconds, memory = json.loads(result.stdout.splitlines()[-1])
            table.add_row(
                f"{count:,}", f"{count * 64 * 64 * 3 / MEGABYTE:.0f} MiB", f"{seconds:.1f} s",
                f"{seconds / count * 1e6:.0f} µs", f"{memory / MEGABYTE:.0f} MiB",
            )  # fmt: skip
    Console(width=140).print(table)


def prepare(folder: str) -> tuple[float, int]:
    """Prepare the pictures of a folder; return seconds, and bytes of memory at the peak."""
    from aae.data import read_source, split_source, write_prepared
    from aae.params import Data

    settings = Data(
        source=folder, root="", size=64, channels=3, test_share=0.2, validation_share=0.1
    )
    start = time.perf_counter()
    source = read_source(settings)
    write_prepared(split_source(source, settings, 0), source)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def print_table(results: dict[Configuration, Measured], title: str) -> None:
    """Print the measurements of every configuration."""
    table = Table(title=f"{title}; memory in MiB")
    headings = (
        "images", "width", "latent", "steps", "a step", "an image", "an epoch",
        "networks", "anonymous", "beyond", "validating", "mapped", "resident",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for it, measured in results.items():
        epoch = measured.seconds * math.ceil(it.count / BATCH)
        sizes = (
            measured.networks, measured.anonymous, measured.anonymous - measured.networks,
            measured.validating, measured.mapped, measured.resident,
        )  # fmt: skip
        table.add_row(
            f"{it.count:,}", f"{it.width}", f"{it.latent_dim}", f"{measured.steps}",
            f"{measured.seconds * 1e3:.1f} ms", f"{measured.seconds / BATCH * 1e6:.0f} µs",
            f"{epoch:.0f} s", *(f"{size / MEGABYTE:.0f}" for size in sizes),
        )  # fmt: skip
    Console(width=140).print(table)


def write_images(path: Path, count: int) -> None:
    """Write random images, a part at a time."""
    random = np.random.default_rng(0)
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *IMAGE_SHAPE))
    for start in range(0, count, CHUNK):
        part = file[start : start + CHUNK]
        part[:] = np.frombuffer(random.bytes(part.size), np.uint8).reshape(part.shape)
    file.flush()


def run(it: Configuration, folder: Path, options: argparse.Namespace) -> Measured:
    """Measure a configuration in a separate process; the images are in a folder."""
    words = [str(ROOT / "stages" / "run"), sys.executable, str(Path(__file__).resolve())]
    words += ["--steps", str(options.steps)]
    words += ["--measure", str(it.count), str(it.width), str(it.latent_dim)]
    if options.processor_time:
        words.append("--processor-time")
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    result = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        sys.exit(f"error: {it}\n{result.stderr}")
    return Measured(**json.loads(result.stdout.splitlines()[-1]))


def measure(it: Configuration, steps: int, clock: Callable[[], float]) -> Measured:
    """Train for some steps on the images in the current folder; validate on a tenth of them."""
    set_arithmetic()
    before = memory()
    params = changed_params(ROOT / "params.yaml", [
        f"latent_dim={it.latent_dim}", f"network.hidden=[{it.width},{it.width}]",
        # The same for any number of dimensions, so that nothing else changes with it
        "network.discriminator_hidden=[200,200]", "train_aae.discriminator_steps=2",
        # A trained autoencoder as the start would not change the measurements.
        "train_aae.init=scratch", f"train_aae.batch_size={BATCH}",
    ])  # fmt: skip
    images = torch.from_numpy(np.load(f"{it.count}.npy", mmap_mode="c"))
    validation = images[: it.count // 10]
    training = adversarial_training(params, images, validation, None)
    model = training.model

    times: list[float] = []

    def between_steps() -> None:
        times.append(clock())
        taken = len(times) - 1 - WARM_UP
        if taken == steps or (taken >= ENOUGH and times[-1] - times[0] > LONGEST):
            raise Enough

    with peak() as anonymous:
        try:
            while True:
                list(training.epochs(between_steps))
        except Enough:
            pass
    with peak() as validating:
        training.validate()
    # A gradient is as large as its weight.
    moments = [
        tensor
        for optimiser in training.optimisers.values()
        for state in optimiser.state.values()
        for tensor in state.values()
    ]
    weights = sum(weight.nbytes for weight in model.parameters())
    return Measured(
        steps=len(times) - 1 - WARM_UP,
        seconds=statistics.median(b - a for a, b in itertools.pairwise(times[WARM_UP:])),
        networks=2 * weights + sum(x.nbytes for x in moments),
        anonymous=anonymous[0] - before["RssAnon"],
        validating=validating[0] - before["RssAnon"],
        mapped=memory()["RssFile"] - before["RssFile"],
        # Not ru_maxrss, which begins with the memory of the process that this one was forked from.
        resident=memory()["VmHWM"] - before["VmHWM"],
    )


def memory() -> dict[str, int]:
    """Return the memory sizes of this process in bytes, by their names in proc(5)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    parts = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in parts}


@contextmanager
def peak() -> Iterator[list[int]]:
    """Sample the anonymous memory every few milliseconds; item 0 of the list is its peak."""
    most, ended = [memory()["RssAnon"]], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            most[0] = max(most[0], memory()["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


if __name__ == "__main__":
    main()
