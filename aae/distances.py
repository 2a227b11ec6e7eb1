"""Distances between two samples, here of codes and of the prior."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

# Neighbours that make the ball around a sample of the prior. Naeem et al. 2020, section 4.1
NEIGHBOURS = 5
# Parts of the cross-validation of the classifier.
FOLDS = 5


class Sample:
    """Points [n, d], and what several distances need to know of them.

    Args:
        points: the points, in random order.
        directions: unit vectors [d, k].
        few: how many points stand for all where cost grows with the square of their number.
        bandwidth: of the kernel, see :func:`mmd2`.
    """

    def __init__(self, points: Array, directions: Array, few: int, bandwidth: float) -> None:
        self.points, self.directions, self.few = points, directions, points[:few]
        self.bandwidth = bandwidth
        self._distances: dict[Sample, Array] = {}

    @cached_property
    def projected(self) -> Array:
        """Projections on every direction, sorted [k, n]."""
        return np.sort((self.points @ self.directions).T)

    @cached_property
    def ordered(self) -> Array:
        """Values in every dimension, sorted [d, n]."""
        return np.sort(self.points.T)

    @cached_property
    def own_distances(self) -> Array:
        """Distances [m, m] among the few."""
        return cdist(self.few, self.few)

    def distances_to(self, other: "Sample") -> Array:
        """Distances [m, m] from each of the few to those of another sample."""
        if other not in self._distances:
            self._distances[other] = cdist(self.few, other.few)
        return self._distances[other]

    @cached_property
    def spread(self) -> float:
        """Mean distance between two points, chosen with replacement."""
        return float(self.own_distances.mean())

    @cached_property
    def similarity(self) -> float:
        """Mean kernel of two different points."""
        count = len(self.few)
        # A point's kernel with itself is 1.
        return float(
            (kernel(self.own_distances, self.bandwidth).sum() - count) / (count * (count - 1))
        )

    @cached_property
    def radii(self) -> Array:
        """Distance [m] from each of the few to its fifth neighbour, see :data:`NEIGHBOURS`."""
        return np.partition(self.own_distances, NEIGHBOURS, axis=1)[:, NEIGHBOURS]


def sliced_wasserstein(codes: Sample, reference: Sample) -> float:
    """Sliced 2-Wasserstein distance between samples of one size, in units of the codes.

    The root mean square, over the directions, of the 2-Wasserstein distances between the projected
    samples, each of which is that between the sorted values. Bonneel et al. 2015,
    https://doi.org/10.1007/s10851-014-0506-3.
    """
    return float(np.sqrt(np.mean((codes.projected - reference.projected) ** 2)))


def energy_distance(codes: Sample, reference: Sample) -> float:
    """Energy distance 2 E|x − y| − E|x − x'| − E|y − y'|, in units of the codes.

    Zero if and only if the distributions are equal. Székely and Rizzo 2013,
    https://doi.org/10.1016/j.jspi.2013.03.018; the square of what SciPy, in one dimension, calls by
    this name.
    """
    between = float(codes.distances_to(reference).mean())
    return 2 * between - codes.spread - reference.spread


def mmd2(codes: Sample, reference: Sample) -> float:
    """Squared maximum mean discrepancy, unbiased: around zero, and below it too, for equal samples.

    Gretton et al. 2012, equation 3, https://jmlr.org/papers/v13/gretton12a.html, without unit. For
    the kernel, which is characteristic, see :func:`kernel`.
    """
    between = float(kernel(codes.distances_to(reference), codes.bandwidth).mean())
    return codes.similarity + reference.similarity - 2 * between


def kernel(distances: Array, bandwidth: float) -> Array:
    """Mean of three Gaussian kernels, of standard deviations 1, 1/2 and 1/4 times the bandwidth.

    As bandwidth serves the median distance between two samples of the prior; the narrow ones see
    holes and modes that it hides.
    """
    # The limit keeps powers out of the range of numbers so small that they are slow.
    wide = np.exp(-np.minimum(0.5 * (distances / bandwidth) ** 2, 44))
    middle = (wide**2) ** 2
    return (wide + middle + (middle**2) ** 2) / 3


def largest_ks_statistic(codes: Array, reference: Array) -> float:
    """Largest two-sample Kolmogorov-Smirnov statistic of several pairs of samples, from 0 to 1.

    The largest distance between the two empirical distribution functions of a pair.

    Args:
        codes: sorted values [k, n].
        reference: sorted values [k, m] to compare them with, row by row.
    """
    count, largest = codes.shape[1], 0.0
    steps = np.arange(count + 1) / count
    for x, y in zip(codes, reference, strict=True):
        # The difference is largest at a step of x, on it or just before it.
        above = (steps[1:] - np.searchsorted(y, x, side="right") / len(y)).max()
        below = (np.searchsorted(y, x, side="left") / len(y) - steps[:-1]).max()
        largest = max(largest, float(above), float(below))
    return largest


def c2st_accuracy(codes: Array, reference: Array) -> float:
    """Accuracy of a classifier that tells codes [n, d] from prior samples [n, d]; 0.5 is guessing.

    Classifier two-sample test, Lopez-Paz and Oquab 2017, https://arxiv.org/abs/1610.06545: nearest
    neighbours, as many as the root of the number of examples, cross-validated; from scikit-learn.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    examples = np.concatenate([codes, reference])
    labels = np.repeat([0, 1], [len(codes), len(reference)])
    classifier = KNeighborsClassifier(max(1, int(len(examples) ** 0.5)))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return float(cross_val_score(classifier, examples, labels, cv=folds).mean())


def coverage_and_density(distances: Array, radii: Array) -> tuple[float, float]:
    """Coverage and density of real samples by others, Naeem et al. 2020, equations 3 and 4.

    Around each real sample lies a ball that reaches to its fifth neighbour. Coverage, from 0 to 1,
    is the share of balls with another sample in them; density is how many balls such a sample is
    in, over five: 1 on average for samples of one distribution. https://arxiv.org/abs/2002.09797

    Args:
        distances: from each of the others to each real sample [n, m].
        radii: of the balls around the real samples [m].
    """
    inside = distances <= radii
    return float(inside.any(axis=0).mean()), float(inside.sum() / (NEIGHBOURS * len(distances)))
