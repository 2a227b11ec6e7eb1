"""Small parts of tests: parameters with changes, images, priors, trainings."""

import copy
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from ruamel.yaml import YAML

from aae.data import SPLITS, Images, KnownLabels
from aae.models import Architecture, Model
from aae.params import Data, Params, Posterior, Precision
from aae.priors import Prior, chosen_prior, make_distribution
from aae.training import Training
from aae.training.batches import Batches
from aae.training.phases import adversarial_phases, autoencoder_phases

ROOT = Path(__file__).parent.parent
# The discard port: nothing listens there, so the refusal is immediate.
NOWHERE = "http://127.0.0.1:9"

# Tests must not depend on the user's git settings, such as signing or another repository.
for name in [name for name in os.environ if name.startswith("GIT_")]:
    del os.environ[name]
os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

# The architecture of networks for the digits below.
SIZES = {"image_shape": (1, 4, 4), "latent_dim": 2, "hidden": (32,), "discriminator_hidden": (32,)}

# A model of these digits with all that a default training has: noise, and units of the prior.
STOCHASTIC = SIZES | {
    "prior": {"name": "gamma", "distribution": "Gamma", "concentration": 2.0, "rate": 1.0},
    "units": "gaussian",
    "posterior": Posterior(kind="gaussian", std=0.25, min_std=0.0),
}
# Changes that turn augmentation off.
UNCHANGED = {f"augment.{key}": 0.0 for key in ("shift", "rotate", "zoom", "shear", "flip")}

# The networks of the tests are too small for several cores.
torch.set_num_threads(1)
# Each prior, with the equivalent distribution of SciPy.
PRIORS = [
    ("Normal", {"loc": 1.0, "scale": 5.0}, scipy.stats.norm(1, 5)),
    ("Uniform", {"low": -5.0, "high": 5.0}, scipy.stats.uniform(-5, 10)),
    ("Gamma", {"concentration": 2.0, "rate": 0.5}, scipy.stats.gamma(2, scale=2)),
    ("Laplace", {"loc": 0.0, "scale": 2.0}, scipy.stats.laplace(0, 2)),
    ("Exponential", {"rate": 0.5}, scipy.stats.expon(scale=2)),
    ("Gumbel", {"loc": 1.0, "scale": 2.0}, scipy.stats.gumbel_r(1, 2)),
    ("Weibull", {"scale": 2.0, "concentration": 1.5}, scipy.stats.weibull_min(1.5, scale=2)),
    ("Beta", {"concentration1": 0.5, "concentration0": 0.5}, scipy.stats.beta(0.5, 0.5)),
    ("StudentT", {"df": 5.0}, scipy.stats.t(5)),
    ("Cauchy", {"loc": 3.0, "scale": 1.0}, scipy.stats.cauchy(3, 1)),
]
PRIOR_NAMES = [name for name, _, _ in PRIORS]
# Dimensions of the codes in tests of figures.
DIMENSIONS = [1, 2, 8, 16]
# The keys that users rely on.
CONTRACT = {
    "reconstruction_mse", "sliced_wasserstein", "match_ratio", "energy_distance", "mmd2",
    "ks_statistic", "c2st_accuracy", "prior_coverage", "knn_accuracy", "generated_frechet",
    "generated_confidence", "floor", "p_value", "follows_prior",
}  # fmt: skip
# The measures that only models with categories have.
OF_CATEGORIES = {
    "class_match_ratio", "classes_following", "classification_error", "cluster_error",
    "cluster_nmi", "cluster_ari", "categories_used", "asked_class_accuracy",
}  # fmt: skip


def make_prior(name: str, arguments: dict, latent_dim: int = 2) -> Prior:
    """Make the prior of a distribution by its name."""
    return Prior(make_distribution(name, arguments), latent_dim)


def write_params(path: Path, changes: dict) -> Path:
    """Write the project's params.yaml with changes by dotted name; None deletes a key."""
    yaml = YAML()
    values = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, value in changes.items():
        *sections, key = name.split(".")
        section = values
        for part in sections:
            section = section[part]
        if value is None:
            del section[key]
        else:
            section[key] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)
    return path


def make_digits(count: int) -> torch.Tensor:
    """Make uint8 images [count, 1, 4, 4]; each of three classes has another bright corner."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(60, (count, 1, 4, 4), generator=generator)
    for k, (row, column) in enumerate(((0, 0), (0, 2), (2, 0))):
        images[k::3, :, row : row + 2, column : column + 2] += 180
    return images.to(torch.uint8)


def data_settings(source: str, root: Path | str = "unused", **changes: Any) -> Data:
    """The section ``data`` of params.yaml for a source."""
    values = {"size": None, "channels": None, "test_share": 0.2, "validation_share": 0.1}
    return Data.model_validate({"source": source, "root": str(root), **values, **changes})


def make_splits(shape: tuple[int, int, int], classes: int | None) -> dict[str, Images]:
    """Make images of any shape [C, H, W] in three splits; None: without labels.

    Every class has another pattern, which no rotation leaves as it is.
    """
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(200, (classes or 4, *shape), generator=generator)
    patterns[:, :, : shape[1] // 2] //= 4  # dark above, bright below
    # Two test images of each class, and enough of all for the measures.
    labels = torch.arange(max(20, 2 * len(patterns))) % len(patterns)
    splits = {}
    for name in SPLITS:
        noise = torch.randint(56, (len(labels), *shape), generator=generator)
        images = (patterns[labels] + noise).to(torch.uint8)
        splits[name] = Images(images, labels.to(torch.uint8) if classes else None)
    return splits


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array in the IDX format of MNIST, http://yann.lecun.com/exdb/mnist/."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def training_run(
    stage: str, prior: str, seed: int, params: Mapping, training: str | None = None
) -> AbstractContextManager:
    """Record a training; by default a new one."""
    from aae.tracking import run  # takes seconds, so only tests that need it import it

    return run.training_run(stage, prior, seed, params, training or str(uuid.uuid4()))


def make_training(
    stage: str,
    model: Model,
    params: Params,
    images: torch.Tensor,
    validation_images: torch.Tensor,
    precision: Precision = "float32",
    known: KnownLabels | None = None,
) -> Training:
    """Make the training of a model, which starts with its weights of now."""
    if stage == "train_ae":
        batches = Batches(images, validation_images, model, params.augment, params.seed)
        phases = autoencoder_phases(model, params.train_ae)
        return Training(model, phases, batches, params.train_ae, precision)
    batches = Batches(
        images, validation_images, model, params.augment, params.seed, chosen_prior(params),
        params.train_aae.discriminator_steps, known,
    )  # fmt: skip
    phases = adversarial_phases(model, params.train_aae, params.labels)
    return Training(model, phases, batches, params.train_aae, precision)


def weights(training: Training) -> dict[str, bytes]:
    """The bytes of the averaged weights, which are the result of a training."""
    averaged = training.averaged.state_dict()
    return {name: value.numpy().tobytes() for name, value in averaged.items()}


def check_same_bytes_also_after_a_kill(make: Callable[[], Training], step: int) -> None:
    """Check that a training has the same result each time, also if it resumes from a step."""
    whole, again, killed = make(), make(), make()
    list(whole.epochs())
    list(again.epochs())
    assert weights(whole) == weights(again)
    states = []

    def keep() -> None:
        if killed.step == step:
            states.append(copy.deepcopy(killed.state_dict()))

    list(killed.epochs(keep))
    resumed = make()
    resumed.load_state_dict(states[0])
    list(resumed.epochs())
    assert weights(resumed) == weights(whole)


def all_axes(figure: Any) -> list:
    """The panels of a figure that are not empty."""
    return [axes for axes in figure.axes if axes.axison]


def learnt_model(images: torch.Tensor, **changes: Any) -> Model:
    """Make a model of uint8 images that can reconstruct them, with a Gaussian prior."""
    prior = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0}
    sizes = SIZES | {"prior": prior, "image_shape": tuple(images.shape[1:])} | changes
    model, inputs = Model(Architecture(**sizes), seed=0), images / 255
    optimiser = torch.optim.Adam([*model.encoder.parameters(), *model.decoder.parameters()], 0.01)
    for _ in range(200):
        loss = (model.decoder(model.encoder(inputs)) - inputs).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model
