"""Distances between two sets of points: codes and prior samples."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

# The ball around a prior sample reaches to this neighbour: Naeem et al. 2020, section 4.1.
BALL_NEIGHBOUR = 5
# Folds of the classifier's cross-validation.
FOLDS = 5


class Sample:
    """A set of points [n, d], with intermediate results that several distances share.

    Args:
        points: the points, in random order.
        directions: unit vectors [d, k].
        few: number of points to use if the cost grows with the square of their number.
        bandwidth: bandwidth of the kernel, see :func:`kernel_sum`.
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
        """Distances [m, m] between the few."""
        return cdist(self.few, self.few)

    def distances_to(self, other: "Sample") -> Array:
        """Return the distances [m, m] from each of the few to each of another sample's few."""
        if other not in self._distances:
            self._distances[other] = cdist(self.few, other.few)
        return self._distances[other]

    @cached_property
    def spread(self) -> float:
        """Mean distance between two points, drawn with replacement."""
        return float(self.own_distances.mean())

    @cached_property
    def similarity(self) -> float:
        """Mean kernel between two different points."""
        count = len(self.few)
        # A point's kernel with itself is 1.
        return (kernel_sum(self.own_distances, self.bandwidth) - count) / (count * (count - 1))

    @cached_property
    def radii(self) -> Array:
        """Distance [m] from each of the few to its fifth neighbour, see :data:`BALL_NEIGHBOUR`."""
        return np.partition(self.own_distances, BALL_NEIGHBOUR, axis=1)[:, BALL_NEIGHBOUR]


def sliced_wasserstein(codes: Sample, reference: Sample) -> float:
    """Return the sliced 2-Wasserstein distance between samples of the same size.

    It is in units of the codes: the root mean square, over the directions, of the 2-Wasserstein
    distances between the projected samples, each of which is the distance between the sorted
    values. Bonneel et al. 2015, https://doi.org/10.1007/s10851-014-0506-3.
    """
    return float(np.sqrt(np.mean((codes.projected - reference.projected) ** 2)))


def energy_distance(codes: Sample, reference: Sample) -> float:
    """Return the energy distance 2 E|x − y| − E|x − x'| − E|y − y'|, in units of the codes.

    It is zero if and only if the distributions are equal. Székely and Rizzo 2013,
    https://doi.org/10.1016/j.jspi.2013.03.018. SciPy's function of this name, for one dimension,
    returns the square root.
    """
    between = float(codes.distances_to(reference).mean())
    return 2 * between - codes.spread - reference.spread


def mmd2(codes: Sample, reference: Sample) -> float:
    """Return the unbiased squared maximum mean discrepancy, which has no unit.

    For equal distributions it scatters around zero and may be negative. Gretton et al. 2012,
    equation 3, https://jmlr.org/papers/v13/gretton12a.html. The kernel of :func:`kernel_sum` is
    characteristic.
    """
    distances = codes.distances_to(reference)
    between = kernel_sum(distances, codes.bandwidth) / distances.size
    return codes.similarity + reference.similarity - 2 * between


def kernel_sum(distances: Array, bandwidth: float) -> float:
    """Return the sum of the kernel over all distances; it is the mean of three Gaussian kernels.

    Their standard deviations are 1, 1/2 and 1/4 times the bandwidth, which is the median distance
    between two prior samples. The narrow kernels find holes and modes that the wide one misses.
    """
    total = 0.0
    # Parts that fit into the CPU's cache are twice as fast, and torch does not split them further.
    for part in torch.from_numpy(distances).flatten().split(2**15):
        # The limit avoids powers that are denormal numbers, which are slow.
        wide = part.square().mul_(-0.5 / bandwidth**2).clamp_(min=-44).exp_()
        middle = wide.square().square_()  # half the standard deviation means the fourth power
        narrow = middle.square().square_()
        # NumPy, unlike torch, sums in the same order for any number of threads.
        total += float(narrow.add_(middle).add_(wide).numpy().sum())
    return total / 3


def largest_ks_statistic(codes: Array, reference: Array) -> float:
    """Return the largest two-sample Kolmogorov-Smirnov statistic of several pairs, from 0 to 1.

    The statistic of a pair is the largest distance between its two empirical distribution
    functions.

    Args:
        codes: sorted values [k, n].
        reference: sorted values [k, m] to compare them with, row by row.
    """
    n, m = codes.shape[1], reference.shape[1]
    largest = 0
    for pair in np.concatenate([codes, reference], axis=1):
        order = np.argsort(pair, kind="stable")  # a stable sort is fast for two sorted parts
        # The difference of the two functions after each value, times n·m, to stay exact.
        difference = np.where(order < n, m, -n).cumsum()
        ordered = pair[order]
        last_of_equals = np.append(ordered[1:] > ordered[:-1], True)
        largest = max(largest, int(np.abs(difference[last_of_equals]).max()))
    return largest / (n * m)


def c2st_accuracy(codes: Array, reference: Array) -> float:
    """Return a classifier's accuracy on codes [n, d] against prior samples [m, d]; 0.5 is guessing.

    This is the classifier two-sample test of Lopez-Paz and Oquab 2017,
    https://arxiv.org/abs/1610.06545, with cross-validated nearest neighbours: as many as the square
    root of the number of examples.
    """
    from sklearn.model_selection import StratifiedKFold

    examples = np.concatenate([codes, reference])
    labels = np.repeat([0, 1], [len(codes), len(reference)])
    neighbours = range(1, 1 + max(1, int(len(examples) ** 0.5)))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    # SciPy's tree, because the checks of scikit-learn's classifier take longer than the search.
    accuracies = [
        np.mean((labels[train][nearest].mean(axis=1) > 0.5) == labels[test])
        for train, test in folds.split(examples, labels)
        # A balanced tree crashes the process if many points are at 0 and denormal numbers are
        # flushed to 0, as they are in a stage.
        for tree in [KDTree(examples[train], balanced_tree=False)]
        for nearest in [tree.query(examples[test], neighbours)[1]]
    ]
    return float(np.mean(accuracies))


def coverage_and_density(distances: Array, radii: Array) -> tuple[float, float]:
    """Return how well other points cover real ones: coverage and density.

    Each real point has a ball that reaches to its fifth neighbour. Coverage, from 0 to 1, is the
    share of balls that contain one of the other points. Density is the mean number of balls that
    contain one of the other points, divided by five: 1 on average for points of the same
    distribution. Naeem et al. 2020, equations 3 and 4, https://arxiv.org/abs/2002.09797.

    Args:
        distances: distances [n, m] from each of the other points to each real point.
        radii: radii [m] of the balls around the real points.
    """
    inside = distances <= radii
    density = inside.sum() / (BALL_NEIGHBOUR * len(distances))
    return float(inside.any(axis=0).mean()), float(density)
