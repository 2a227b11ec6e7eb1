"""Measure how well scores find a digit that the training has not seen.

    .venv/bin/python benchmarks/anomaly.py                            every digit, left out in turn
    .venv/bin/python benchmarks/anomaly.py --digits 0 1 --seeds 0 1 2
    .venv/bin/python benchmarks/anomaly.py --set latent_dim=8 data.source=mnist data.root=~/data

Trains with the parameters of params.yaml on the training images of nine digits, and scores the test
images of all ten. AUROC is the probability that an image of the digit that was left out has a
higher score than one of another digit; 0.5 is chance. The scores are

- error: the reconstruction error of the adversarial autoencoder
- typicality: how far out the code lies in the prior, see aae.priors.Prior.typicality
- both: Fisher's combination of the two, as p-values (https://doi.org/10.1007/978-1-4612-4380-9_6);
  that of an error is the share of validation images of the nine digits with no lower error
- AE error: the reconstruction error of the plain autoencoder
- PCA: the reconstruction error of a PCA of the training images, with as many components as a code
  has dimensions, and with those that hold 90 % of the variance
- forest: scikit-learn's isolation forest of the pixels (Liu et al. 2008,
  https://doi.org/10.1109/ICDM.2008.17)

Each training has one thread, and one training per core runs in parallel.
"""

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from runs import ROOT, progress_bar, set_up
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from aae.data import Images, in_memory, read_source, split_source
from aae.errors import AAEError
from aae.models import TrainedModel
from aae.params import Params
from aae.sweep.combinations import changed_params
from aae.training import adversarial_training, autoencoder_training, centre


def main() -> None:
    """Train everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--digits", nargs="+", type=int, default=list(range(10)), metavar="DIGIT",
        help="digits to leave out, one at a time; by default all",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="%(default)s"
    )
    parser.add_argument(
        "--jobs", type=int, default=torch.get_num_threads(), help="parallel trainings; %(default)s"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to params.yaml"
    )
    options = parser.parse_args()
    try:
        params = {
            seed: changed_params(ROOT / "params.yaml", [f"seed={seed}", *options.set])
            for seed in options.seeds
        }
    except AAEError as error:
        parser.error(str(error))
    start = time.monotonic()
    console = Console(width=100)
    results: dict[int, list[dict[str, float]]] = {digit: [] for digit in options.digits}
    with (
        ProcessPoolExecutor(options.jobs, get_context("spawn"), set_up) as pool,
        progress_bar(console) as progress,
    ):
        trainings = {
            pool.submit(measure, params[seed], digit): digit
            for seed in options.seeds
            for digit in options.digits
        }
        for future in progress.track(
            as_completed(trainings), len(trainings), description="trainings"
        ):
            results[trainings[future]].append(future.result())
    print(f"{len(trainings)} trainings of each model in {(time.monotonic() - start) / 60:.0f} min")
    console.print(draw(results))


def draw(results: dict[int, list[dict[str, float]]]) -> Table:
    """Return the table: a row for each digit with means over the seeds, and the mean of them."""
    names = list(next(iter(results.values()))[0])
    table = Table("left out", *names, title="AUROC, mean over the seeds")
    means = {
        digit: [statistics.mean(row[name] for row in rows) for name in names]
        for digit, rows in results.items()
    }
    for digit, values in means.items():
        table.add_row(str(digit), *(f"{value:.3f}" for value in values))
    table.add_section()
    overall = [statistics.mean(column) for column in zip(*means.values(), strict=True)]
    table.add_row("mean", *(f"{value:.3f}" for value in overall))
    return table


def measure(params: Params, left_out: int) -> dict[str, float]:
    """Train without a digit; return the AUROC of each score."""
    splits = in_memory(split_source(read_source(params.data), params.data, params.seed))
    train, validation = (without(splits[name], left_out).images for name in ("train", "validation"))
    test = splits["test"]
    assert test.labels is not None
    positive = (test.labels == left_out).numpy()

    training = autoencoder_training(params, train, validation)
    list(training.epochs())
    plain = training.averaged
    training = adversarial_training(params, train, validation, plain)
    list(training.epochs())
    centre(training.averaged, train)

    model = TrainedModel(training.averaged)
    error, typicality = (values.numpy() for values in model.score(test.images))
    usual = model.score(validation).reconstruction_error.sort().values.numpy()
    lower = np.searchsorted(usual, error)  # number of validation images with a lower error
    # Neither p-value can be smaller than what its sample resolves.
    p_error = (len(usual) - lower + 1) / (len(usual) + 1)
    both = -np.log(p_error) - np.log(np.maximum(typicality, 1e-4))
    scores = {
        "error": error,
        "typicality": -typicality,
        "both": both,
        "AE error": TrainedModel(plain).score(test.images).reconstruction_error.numpy(),
        f"PCA {params.latent_dim}": pca_error(train, test.images, params.latent_dim),
        "PCA 90 %": pca_error(train, test.images, 0.9),
        "forest": -IsolationForest(random_state=params.seed)
        .fit(flat(train))
        .score_samples(flat(test.images)),
    }
    return {name: float(roc_auc_score(positive, values)) for name, values in scores.items()}


def without(images: Images, left_out: int) -> Images:
    """Return the images that are not of a digit."""
    assert images.labels is not None
    return images[torch.nonzero(images.labels != left_out).flatten()]


def flat(images: torch.Tensor) -> NDArray[np.float32]:
    """Return the pixels [N, C·H·W] with values from 0 to 1."""
    return (images.flatten(1) / 255).numpy()


def pca_error(train: torch.Tensor, test: torch.Tensor, components: float) -> NDArray[np.float32]:
    """Return the mean squared error [N] of test images in a PCA of training images.

    Args:
        train: uint8 images [M, C, H, W].
        test: uint8 images [N, C, H, W].
        components: their number, or the share of the variance that they hold.
    """
    pca = PCA(components, svd_solver="full").fit(flat(train))
    wanted = flat(test)
    return np.square(pca.inverse_transform(pca.transform(wanted)) - wanted).mean(1)


if __name__ == "__main__":
    main()
