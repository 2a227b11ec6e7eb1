"""Are images decoded from the prior realistic, and are they copies?

Decoded prior samples are compared with test images: a decoder is a generative model as far as these
look alike.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import entropy
from torch import Tensor

from aae.data import Images
from aae.evaluation.judge import train_judge
from aae.models.networks import apply, chunk, pixels
from aae.params import EvalLatent
from aae.progress import ShowProgress, silent
from aae.seeding import stream

Array = NDArray[np.float64]

# Probability from which the judge counts as confident of a class.
CONFIDENT = 0.9
# The ball around an image reaches to this neighbour: Kynkäänniemi et al. 2019, section 3.1.
BALL_NEIGHBOUR = 3
# Gaussians in the mixture that is fitted to the codes of an autoencoder.
MIXTURE = 10
# Largest number of pixel values in memory as float64, about 500 MB, where all images would be too
# many.
MOST_VALUES = 2**26
# Widths of Parzen windows, in units of pixel values; the validation images choose one.
WINDOWS = np.geomspace(0.05, 0.5, 11)


def frechet_distance(first: Array, second: Array) -> float:
    """Return the Fréchet distance between Gaussians fitted to features [n, k] and [m, k].

    This is the Fréchet inception distance (Heusel et al. 2017, https://arxiv.org/abs/1706.08500) in
    the features of our judge: it compares our models, and cannot be compared with a published FID.
    It is squared, in units of the features.
    """
    means = ((first.mean(0) - second.mean(0)) ** 2).sum()
    covariances = np.cov(first.T), np.cov(second.T)
    # The trace of the square root of their product. POT's function returns NaN if a feature is the
    # same for all images.
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0)).sum()
    return float(means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root)


def precision_and_recall(generated: Array, real: Array) -> tuple[float, float]:
    """Return precision and recall of generated features [n, k], given real features [m, k].

    Each real image has a ball that reaches to its third neighbour; precision is the share of
    generated images in at least one of these balls. Recall is the same with the roles exchanged.
    Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991.
    """

    def share_within(points: Array, others: Array) -> float:
        radii = np.partition(cdist(others, others), BALL_NEIGHBOUR, axis=1)[:, BALL_NEIGHBOUR]
        return float((cdist(points, others) <= radii).any(axis=1).mean())

    return share_within(generated, real), share_within(real, generated)


def parzen_log_likelihoods(centres: Array, images: Array, validation: Array) -> Array:
    """Return the log-likelihood [n] of images [n, p] under Parzen windows, in nats.

    The density is the mean of Gaussians around the ``centres`` [m, p]; their width is the one of
    :data:`WINDOWS` under which the validation images are most likely. This is the measure of
    Makhzani et al. 2015, table 1. It is unreliable in many dimensions: it may prefer centres of
    clusters to images, and it grows with the number of centres (Theis et al. 2016,
    https://arxiv.org/abs/1511.01844).
    """
    pixel_count = centres.shape[1]

    def log_likelihoods(squared: Array, width: float) -> Array:
        windows = logsumexp(-squared / (2 * width**2), axis=1) - np.log(len(centres))
        return windows - pixel_count / 2 * np.log(2 * np.pi * width**2)

    fit = cdist(validation, centres, "sqeuclidean")
    width = max(WINDOWS, key=lambda w: log_likelihoods(fit, w).mean())
    return log_likelihoods(cdist(images, centres, "sqeuclidean"), width)


def nearest_images(images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index [n] of the nearest other image, and its root mean squared difference [n].

    Args:
        images: images [n, C, H, W] from 0 to 1.
        others: uint8 images [m, C, H, W].
    """
    from sklearn.metrics import pairwise_distances_argmin_min

    size = images[0].numel()
    parts = torch.arange(len(others)).split(max(1, MOST_VALUES // size))
    found = [
        pairwise_distances_argmin_min(_flat(images), _flat(pixels(others[part]))) for part in parts
    ]
    distances, nearest_part = torch.from_numpy(np.stack([d for _, d in found])).min(0)
    indices = torch.stack([part[nearest] for part, (nearest, _) in zip(parts, found, strict=True)])
    return indices[nearest_part, torch.arange(len(images))], distances / size**0.5


def mixture_samples(codes: Tensor, count: int, seed: int) -> Tensor:
    """Fit a mixture of ten Gaussians to codes [n, d], and return samples of it [count, d].

    This is the ex-post density estimation of Ghosh et al. 2020, https://arxiv.org/abs/1903.12436,
    section 4: it makes a generative model of an autoencoder that knows no prior.
    """
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    points = codes.double().numpy()
    # scikit-learn's own value, 1e-6, is meant for points with a variance of about 1.
    smallest = 1e-6 * (points.var(axis=0).max() or 1.0)
    mixture = GaussianMixture(MIXTURE, random_state=seed % 2**32, reg_covar=smallest)
    # The order in which threads sum would change the last digits.
    with threadpool_limits(1):
        drawn, _ = mixture.fit(points).sample(count)
    # scikit-learn returns the samples component by component, and some measures use the first ones.
    order = torch.randperm(count, generator=stream(seed, "order of the mixture's samples"))
    return torch.from_numpy(drawn).float()[order]


class GenerationTest:
    """Measures the images that decoders decode from prior samples or other random codes.

    Args:
        splits: images by split: train, validation, test; with labels if they have any.
        classes: number of classes; 0 without labels.
        settings: the section ``eval_latent`` of params.yaml.
        seed: the seed of params.yaml.
        progress: shows the progress of the judge's training.

    Attributes:
        judge: the classifier of classes, or, without labels, of rotations.
        real: the measures of training images in place of generated ones, and ``judge_accuracy``,
            the share of test images, or of their rotations, that the judge gets right.
    """

    def __init__(
        self,
        splits: Mapping[str, Images],
        classes: int,
        settings: EvalLatent,
        seed: int,
        progress: ShowProgress = silent,
    ) -> None:
        self.judge = train_judge(splits["train"], classes, settings.judge_steps, seed, progress)
        self.train, test = splits["train"].images, splits["test"].images
        order = stream(seed, "images that stand for all")

        def some(images: Tensor, count: int) -> Tensor:
            return images[torch.randperm(len(images), generator=order)[:count]]

        self.few, self.labelled = settings.subset, classes > 0
        self.test = some(test, len(test))
        self.validation = _flat(pixels(some(splits["validation"].images, self.few)))
        self.features = self._features(self.test)
        # Training images stand for perfect generated images; the test images serve as reference.
        self.real = self._measure(pixels(some(self.train, len(test)))) | self._judge(self.test)
        own = pixels(self.test[: self.few])
        self.real["nearest_training_distance"] = self._nearest_training_distance(own)
        self.real["judge_accuracy"] = self.judge.accuracy(splits["test"])

    def __call__(self, images: Tensor) -> dict[str, float]:
        """Measure the images that a decoder decodes from random codes.

        Args:
            images: images [n, C, H, W] from 0 to 1, decoded from as many samples of the prior, or
                of another distribution, as there are test images.

        Returns:
            generated_frechet: see :func:`frechet_distance`.
            generated_precision, generated_recall: see :func:`precision_and_recall`.
            generated_confidence: share of images that the judge assigns to a class with a
                probability of 0.9 or more.
            generated_entropy: entropy of the classes that the judge predicts, in nats: ln 10 if
                ten classes are equally frequent, 0 if there is only one. Without labels, these two
                are missing.
            parzen_log_likelihood: mean over test images, see :func:`parzen_log_likelihoods`.
            nearest_training_distance: median root mean squared difference to the nearest training
                image, in pixel values from 0 to 1. That of copies is far below that of test images.
        """
        return {
            **self._measure(images),
            **self._judge(images),
            "nearest_training_distance": self._nearest_training_distance(images),
        }

    def of_reconstructions(self, images: Tensor) -> dict[str, float]:
        """Measure reconstructions [n, C, H, W]; decoded random codes can hardly be better.

        Returns:
            reconstructed_frechet, reconstructed_confidence (only with labels): the measures above.
                Reconstructions are compared with their own originals: perfect ones have a Fréchet
                distance of 0, whereas perfect samples have that of training images, see ``real``.
        """
        found = {"reconstructed_frechet": frechet_distance(self._features(images), self.features)}
        if self.labelled:
            found["reconstructed_confidence"] = self._judge(images)["generated_confidence"]
        return found

    def _measure(self, images: Tensor) -> dict[str, float]:
        features = self._features(images)
        precision, recall = precision_and_recall(features[: self.few], self.features[: self.few])
        centres, test = _flat(images[: self.few]), _flat(pixels(self.test[: self.few]))
        return {
            "generated_frechet": frechet_distance(features, self.features),
            "generated_precision": precision,
            "generated_recall": recall,
            "parzen_log_likelihood": float(
                parzen_log_likelihoods(centres, test, self.validation).mean()
            ),
        }

    def _judge(self, images: Tensor) -> dict[str, float]:
        if not self.labelled:
            return {}
        probabilities, found = self.judge.probabilities(images).max(1)
        return {
            "generated_confidence": (probabilities >= CONFIDENT).double().mean().item(),
            "generated_entropy": float(entropy(torch.bincount(found).numpy())),
        }

    def _nearest_training_distance(self, images: Tensor) -> float:
        _, distances = nearest_images(images[: self.few], self.train)
        return distances.median().item()

    def _features(self, images: Tensor) -> Array:
        size = chunk(images.shape[1:])
        features = apply(self.judge.features, torch.device("cpu"), images, size=size)
        return features.double().numpy()


def _flat(images: Tensor) -> Array:
    return images.flatten(1).double().numpy()
