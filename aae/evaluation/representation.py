"""Do codes keep what the images show? scikit-learn's classifiers of codes measure it."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# Neighbours that vote on the class of a code.
VOTES = 10


def measure_representation(
    train_codes: Tensor,
    train_labels: Tensor | None,
    codes: Tensor,
    labels: Tensor | None,
    few: int,
) -> dict[str, float]:
    """Measure how well the codes separate the classes; without labels there is nothing to measure.

    Args:
        train_codes: codes of training images [m, d].
        train_labels: their classes [m]; None without labels.
        codes: codes of test images [n, d].
        labels: their classes [n]; None without labels.
        few: number of codes from which the silhouette is computed; more if these lack two codes of
            a class.

    Returns:
        Nothing without labels, else
        knn_accuracy: share of test codes whose ten nearest training codes vote for their class.
        probe_accuracy: accuracy of a linear classifier (logistic regression), trained on training
            codes. Alain and Bengio 2016, https://arxiv.org/abs/1610.01644
        silhouette: how much nearer a code is to the codes of its own class than to those of the
            nearest other class, from -1 to 1. Rousseeuw 1987,
            https://doi.org/10.1016/0377-0427(87)90125-7
    """
    if train_labels is None or labels is None:
        return {}

    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learnt, x, y = (train_codes.numpy(), train_labels.numpy()), codes.numpy(), labels.numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    some = _some_of_each_class(labels, few)
    return {
        "knn_accuracy": float(KNeighborsClassifier(VOTES).fit(*learnt).score(x, y)),
        "probe_accuracy": float(probe.fit(*learnt).score(x, y)),
        "silhouette": float(silhouette_score(x[some], y[some])),
    }


def _some_of_each_class(labels: Tensor, few: int) -> NDArray[np.int64]:
    """Return indices of ``few`` random codes, and of at least two codes of each class [n].

    The silhouette is undefined if all codes are of one class, or each of another.
    """
    if len(labels) <= few:
        return np.arange(len(labels))
    order = np.random.RandomState(0).permutation(len(labels))
    shuffled = labels.numpy()[order]
    first = [np.flatnonzero(shuffled == label)[:2] for label in np.unique(shuffled)]
    return order[np.union1d(np.arange(few), np.concatenate(first))]
