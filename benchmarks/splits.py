"""Measure how evenly each seed splits images, which decides what the tests of the codes can find.

    .venv/bin/python benchmarks/splits.py
    .venv/bin/python benchmarks/splits.py --seeds 5 6 7 8 9 --set data.source=mnist

Prints, for each seed, the energy distance between test images and all others, divided by its mean
over random splits (Székely & Rizzo 2013, https://doi.org/10.1016/j.jspi.2013.03.018), in the first
2, 8 and 16 principal components of the pixels. A split with every class in proportion is more even
than a random one: values are mostly below 1.
"""

import argparse

import torch
from rich.console import Console
from rich.table import Table
from runs import ROOT
from torch import Tensor

from aae.data import in_memory, read_source, split_source
from aae.errors import AAEError
from aae.sweep.combinations import changed_params

DIMENSIONS = (2, 8, 16)


def main() -> None:
    """Split the images with each seed and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=list(range(10)), metavar="SEED", help="%(default)s"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to params.yaml"
    )
    options = parser.parse_args()
    table = Table("seed", *(f"{count} components" for count in DIMENSIONS))
    for seed in options.seeds:
        try:
            params = changed_params(ROOT / "params.yaml", [f"seed={seed}", *options.set])
            splits = in_memory(split_source(read_source(params.data), params.data, params.seed))
        except AAEError as error:
            parser.error(str(error))
        train, validation, test = (
            splits[name].images.flatten(1).float() for name in ("train", "validation", "test")
        )
        others = torch.cat([train, validation])
        components = torch.linalg.svd(others - others.mean(0), full_matrices=False).Vh
        ratios = [
            unevenness(test @ components[:count].T, others @ components[:count].T)
            for count in DIMENSIONS
        ]
        table.add_row(str(seed), *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


def unevenness(first: Tensor, second: Tensor) -> float:
    """Return the energy distance of points [n, d] and [m, d], over its mean over random splits."""
    n, m, spread = len(first), len(second), second.std(0)
    within, beyond = (torch.cdist(points / spread, points / spread) for points in (first, second))
    between = torch.cdist(first / spread, second / spread)
    distance = 2 * between.mean() - within.mean() - beyond.mean()
    # Each pair of different points is as likely within the parts as between them.
    pairs = (n + m) * (n + m - 1)
    mean = (within.sum() + beyond.sum() + 2 * between.sum()) / pairs
    return float(distance / (mean * (1 / n + 1 / m)))


if __name__ == "__main__":
    main()
