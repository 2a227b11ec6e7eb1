"""Estimate the log-likelihood of MNIST's test images as table 1 of the paper does.

    .venv/bin/python benchmarks/parzen.py --root FOLDER

Trains both models on MNIST with the parameters of params.yaml, but with eight dimensions and a
Gaussian prior, as in the paper; decodes 10,000 prior samples; and puts a Gaussian window around
each of these images. The validation images choose the width of the windows. Prints the mean
log-likelihood of the 10,000 test images in nats, with its standard error; and, for comparison, that
of windows around 10,000 training images. Makhzani et al. 2015, https://arxiv.org/abs/1511.05644,
table 1, has 340 ± 2. The measure prefers blurred images and grows
with the number of samples (Theis et al. 2016, https://arxiv.org/abs/1511.01844), so it compares
models only under this same protocol.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aae.pipeline.stage import set_arithmetic
from aae.data import Images, in_memory, read_source, split_source
from aae.errors import AAEError
from aae.evaluation.generation import parzen_log_likelihoods
from aae.models import Model
from aae.models.networks import pixels
from aae.params import Params
from aae.priors import chosen_prior
from aae.progress import show_epochs
from aae.seeding import stream
from aae.sweep.combinations import changed_params
from aae.training import Training, adversarial_training, autoencoder_training, centre

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = 10_000


def main() -> None:
    """Train, and print the log-likelihood for both models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT / "data" / "raw", metavar="FOLDER",
        help="folder with MNIST/raw/, to which MNIST is downloaded if it is not there; %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE",
        help="other changes to params.yaml than 20 epochs of each training",
    )  # fmt: skip
    options = parser.parse_args()
    set_arithmetic()
    wanted = [
        "data.source=mnist", "latent_dim=8", "prior=gaussian", "train_ae.epochs=20",
        "train_aae.epochs=20", *options.set,
    ]  # fmt: skip
    try:
        params = changed_params(ROOT / "params.yaml", wanted)
        data = params.data.model_copy(update={"root": str(options.root)})
        splits = in_memory(split_source(read_source(data), data, params.seed))
    except AAEError as error:
        parser.error(str(error))
    train, validation = splits["train"].images, splits["validation"].images
    some = torch.randperm(len(train), generator=stream(params.seed, "training images"))[:SAMPLES]
    print(f"training images: {log_likelihood(pixels(train[some]), splits, params)}", flush=True)
    ae = trained(autoencoder_training(params, train, validation), "autoencoder")
    aae = trained(adversarial_training(params, train, validation, ae), "adversarial autoencoder")
    centre(aae, train)
    codes = chosen_prior(params).sample(SAMPLES, stream(params.seed, "prior samples to decode"))
    for name, model in (("autoencoder", ae), ("adversarial autoencoder", aae)):
        print(f"{name}: {log_likelihood(model.decode(codes), splits, params)}", flush=True)


def trained(training: Training, name: str) -> Model:
    """Carry out a training; return its result."""
    list(show_epochs(training.epochs(), training.settings.epochs, name))
    return training.averaged


def log_likelihood(centres: Tensor, splits: dict[str, Images], params: Params) -> str:
    """Return the mean log-likelihood of the test images, with its standard error.

    Args:
        centres: images [n, C, H, W] from 0 to 1, around which the windows are.
        splits: the images.
        params: the parameters.
    """
    flat, test, validation = (
        images.flatten(1).double().numpy()
        for images in (
            centres,
            pixels(splits["test"].images),
            pixels(splits["validation"].images[: params.eval_latent.subset]),
        )
    )
    found = parzen_log_likelihoods(flat, test, validation)
    return f"{found.mean():.0f} ± {found.std() / np.sqrt(len(found)):.0f} nats"


if __name__ == "__main__":
    main()
