"""What the categories of a model say: classes that it finds, clusters, parts of the prior.

Which of these measures a model has is a matter of :class:`aae.models.categories.Categories`.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aae.data import Images
from aae.data.splits import FEWEST
from aae.evaluation.judge import Judge
from aae.evaluation.two_sample import PriorTest
from aae.models import Model
from aae.params import EvalLatent
from aae.priors import Prior

# The tests of all classes together should take seconds: there are fewer sets of prior samples than
# for all codes, and at most so many codes of each class.
CLASS_DRAWS, CLASS_CODES = 39, 200


def measure_categories(model: Model, test: Images, validation: Images) -> dict[str, float]:
    """Measure the categories that an encoder emits.

    Args:
        model: a model with q(y|x).
        test: the test images, with labels or without.
        validation: the validation images, whose labels name clusters.

    Returns:
        categories_used: number of categories that are the most probable one of a test image.
        classification_error: share of test images whose most probable class is not theirs; Makhzani
            et al. 2015, section 5. Only for classes.
        cluster_error: the same for clusters, each of which stands for a class, see
            :func:`classes_of_clusters`. Only with labels, like the next two.
        cluster_nmi: mutual information of clusters and classes, divided by the mean of their
            entropies: 1 if they are the same, 0 if they are independent. Vinh et al. 2010, table 2,
            NMI_sum, https://www.jmlr.org/papers/v11/vinh10a.html
        cluster_ari: adjusted Rand index: the share of pairs of images that are together in both or
            in neither, moved and scaled to be 1 if clusters are classes and 0 on average by chance.
            Hubert and Arabie 1985, https://doi.org/10.1007/BF01908075
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = model.classify(test.images).argmax(1)
    measured = {"categories_used": float(len(found.unique()))}
    if test.labels is None or validation.labels is None:
        return measured
    if model.architecture.categories.are_classes:
        return measured | {"classification_error": _error(found, test.labels)}
    classes = classes_of_clusters(model.classify(validation.images), validation.labels)
    return measured | {
        "cluster_error": _error(classes[found], test.labels),
        "cluster_nmi": float(normalized_mutual_info_score(test.labels.numpy(), found.numpy())),
        "cluster_ari": float(adjusted_rand_score(test.labels.numpy(), found.numpy())),
    }


def _error(found: Tensor, labels: Tensor) -> float:
    return (found != labels).double().mean().item()


def classes_of_clusters(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the class [K] that each cluster stands for: that of its most probable image.

    This is the protocol of Makhzani et al. 2015, section 6: "for each cluster i, find the
    validation example x_n that maximizes q(y_i|x_n), and assign the label of x_n to all the points
    in the cluster i".

    Args:
        probabilities: probabilities [n, K] of the clusters of validation images.
        labels: classes [n] of these images.
    """
    return labels[probabilities.argmax(0)]


def contingency(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return how many images [R, C] have a number [n] among rows and one [n] among columns."""
    pairs = rows.long() * shape[1] + columns.long()
    return torch.bincount(pairs, minlength=shape[0] * shape[1]).view(shape).numpy()


def asked_class_accuracy(judge: Judge, images: Tensor, asked: Tensor) -> float:
    """Return the share of decoded images [n, C, H, W] of the class [n] that was asked for.

    It is the judge that decides of which class an image is.
    """
    return 1 - _error(judge.probabilities(images).argmax(1), asked)


def measure_parts(
    codes: Tensor, labels: Tensor, prior: Prior, count: int, settings: EvalLatent, seed: int
) -> dict:
    """Compare the codes of each class with its own part of the prior.

    Classes with too few images for a test are left out. Of others, the first :data:`CLASS_CODES`
    codes are tested, with :data:`CLASS_DRAWS` sets of prior samples.

    Args:
        codes: codes [n, d] of test images, samples of their posteriors.
        labels: classes [n] of these images.
        prior: the whole prior.
        count: number of classes, which is the number of parts.
        settings: the section ``eval_latent`` of params.yaml.
        seed: the seed of params.yaml.

    Returns:
        class_match_ratio: median over the classes of their match ratio.
        classes_following: number of classes whose codes follow their part of the prior.
        by_class: match_ratio, p_value and follows_prior by the number of the class, see
            :class:`aae.evaluation.two_sample.PriorTest`.
    """
    few = settings.model_copy(update={"draws": min(CLASS_DRAWS, settings.draws)})
    by_class = {}
    for number in range(count):
        own = codes[labels == number][:CLASS_CODES]
        if len(own) < FEWEST["test"]:
            continue
        found = PriorTest(prior.part(number, count), len(own), few, seed)(own)
        by_class[str(number)] = {
            "match_ratio": found["match_ratio"],
            "p_value": found["p_value"]["all"],
            "follows_prior": found["follows_prior"],
        }
    if not by_class:
        return {}
    return {
        "class_match_ratio": float(np.median([x["match_ratio"] for x in by_class.values()])),
        "classes_following": float(sum(x["follows_prior"] for x in by_class.values())),
        "by_class": by_class,
    }
