"""Straight paths between the codes of two images."""

from itertools import combinations

import torch
from torch import Tensor

# Number of points of a path at which the distance to the nearest code is measured.
POINTS = 50


def straight_path(codes: Tensor, first: int, last: int, steps: int) -> Tensor:
    """Return codes [steps, d] at equal distances on the straight path between two codes."""
    return codes[first] + torch.linspace(0, 1, steps)[:, None] * (codes[last] - codes[first])


def typical_images(codes: Tensor, labels: Tensor) -> list[int]:
    """Return, for each class, the index of the code that is nearest to the mean of the class.

    Args:
        codes: codes [n, d].
        labels: classes [n].
    """
    indices = []
    for label in labels.unique():
        own = torch.nonzero(labels == label).flatten()
        distances = (codes[own] - codes[own].mean(0)).norm(dim=1)
        indices.append(int(own[distances.argmin()]))
    return indices


def path_through_widest_gap(codes: Tensor, candidates: list[int]) -> tuple[int, int]:
    """Return the two codes between which the straight path leads furthest from all codes.

    Args:
        codes: codes [n, d].
        candidates: indices of the codes that may be the ends of the path.
    """

    def width(pair: tuple[int, int]) -> float:
        path = straight_path(codes, *pair, POINTS)
        return torch.cdist(path, codes).amin(1).max().item()

    return max(combinations(candidates, 2), key=width)
