"""Do codes keep what the images show? scikit-learn's classifiers of codes measure it."""

from torch import Tensor

# Neighbours that vote on the class of a code.
VOTES = 10


def measure_representation(
    train_codes: Tensor, train_labels: Tensor, codes: Tensor, labels: Tensor, few: int
) -> dict[str, float]:
    """Measure how well the codes separate the classes.

    Args:
        train_codes: codes of training images [m, d].
        train_labels: their classes [m].
        codes: codes of test images [n, d].
        labels: their classes [n].
        few: number of codes from which the silhouette is computed.

    Returns:
        knn_accuracy: share of test codes whose ten nearest training codes vote for their class.
        probe_accuracy: accuracy of a linear classifier (logistic regression), trained on training
            codes. Alain and Bengio 2016, https://arxiv.org/abs/1610.01644
        silhouette: how much nearer a code is to the codes of its own class than to those of the
            nearest other class, from -1 to 1. Rousseeuw 1987,
            https://doi.org/10.1016/0377-0427(87)90125-7
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learnt, x, y = (train_codes.numpy(), train_labels.numpy()), codes.numpy(), labels.numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    sample_size = few if few < len(codes) else None
    return {
        "knn_accuracy": float(KNeighborsClassifier(VOTES).fit(*learnt).score(x, y)),
        "probe_accuracy": float(probe.fit(*learnt).score(x, y)),
        "silhouette": float(silhouette_score(x, y, sample_size=sample_size, random_state=0)),
    }
