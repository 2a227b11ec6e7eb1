"""Compares the measures of categories with results that are known from how the models are made."""

import pytest
import torch
from sklearn.metrics import confusion_matrix
from support import OF_CATEGORIES, make_prior, make_splits
from torch import Tensor

from aae.data import Images
from aae.evaluation.categories import (
    asked_class_accuracy,
    classes_of_clusters,
    contingency,
    measure_categories,
    measure_parts,
)
from aae.evaluation.evaluation import Evaluation
from aae.evaluation.measures import MEASURES
from aae.models import Architecture, Model
from aae.models.categories import Categories
from aae.params import EvalLatent
from aae.priors import Prior
from aae.seeding import stream

SETTINGS = EvalLatent(projections=20, references=2, draws=19, subset=60, judge_steps=60)
RING = {"components": 3, "radius": 5.0, "radial_std": 1.25, "tangential_std": 0.4}


def make_model(use: str, count: int = 3) -> Model:
    """Make a model with random weights; images are as those of the fixture ``splits``."""
    architecture = Architecture(
        image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), discriminator_hidden=(8,),
        categories=Categories(use=use, count=count),
    )  # fmt: skip
    return Model(architecture, seed=0)


class Finds:
    """Stands for a model whose probabilities of categories are given image by image.

    The first pixel of an image is the row of the table.
    """

    def __init__(self, use: str, probabilities: Tensor) -> None:
        self.architecture = make_model(use, probabilities.shape[1]).architecture
        self.probabilities = probabilities

    def classify(self, images: Tensor) -> Tensor:
        return self.probabilities[images.flatten(1)[:, 0].long()]


def numbered(rows: list[int], labels: list[int] | None) -> Images:
    images = torch.tensor(rows, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    return Images(images, None if labels is None else torch.tensor(labels, dtype=torch.uint8))


def test_the_classification_error_is_the_share_of_wrong_most_probable_classes():
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]])
    model = Finds("semi-supervised", probabilities)
    # The rows' most probable classes are 0, 2 and 0.
    test = numbered([0, 1, 2, 2, 1], [0, 2, 0, 1, 1])
    found = measure_categories(model, test, numbered([0], [0]))
    assert found == {"categories_used": 2.0, "classification_error": pytest.approx(2 / 5)}


def test_a_cluster_stands_for_the_class_of_its_most_probable_validation_image():
    probabilities = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.3, 0.7]])
    assert classes_of_clusters(probabilities, torch.tensor([5, 7, 9])).tolist() == [7, 9]
    # Also a cluster that is nowhere the most probable one has a best image.
    alone = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    assert classes_of_clusters(alone, torch.tensor([1, 0])).tolist() == [1, 0]


def test_the_cluster_error_follows_the_validation_images_and_not_the_majority():
    """Two clusters; in the second, one validation image is more probable than three others."""
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    validation = numbered([0, 1, 1, 1, 2], [0, 1, 1, 1, 2])
    test = numbered([0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 1, 2])
    found = measure_categories(Finds("clusters", probabilities), test, validation)
    # The second cluster stands for class 2, so the three images of class 1 are wrong.
    assert found["cluster_error"] == pytest.approx(3 / 6)
    assert found["categories_used"] == 2
    assert 0 < found["cluster_ari"] < found["cluster_nmi"] < 1


def test_clusters_that_are_the_classes_in_another_order_have_no_error():
    probabilities = torch.eye(3)[[2, 0, 1]]
    images = numbered([0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2])
    found = measure_categories(Finds("clusters", probabilities), images, images)
    assert found == {
        "categories_used": 3.0, "cluster_error": 0.0, "cluster_nmi": pytest.approx(1.0),
        "cluster_ari": pytest.approx(1.0),
    }  # fmt: skip


def test_without_labels_clusters_can_only_be_counted():
    images = numbered([0, 1, 0], None)
    found = measure_categories(Finds("clusters", torch.eye(4)), images, images)
    assert found == {"categories_used": 2.0}


def test_contingency_counts_pairs():
    labels, found = torch.tensor([0, 1, 1, 2, 2, 2]), torch.tensor([0, 1, 0, 2, 2, 1])
    expected = confusion_matrix(labels, found)
    assert contingency(labels.to(torch.uint8), found, (3, 3)).tolist() == expected.tolist()
    assert contingency(labels, found, (3, 5)).sum() == 6


def test_the_judge_finds_the_class_that_was_asked_for(splits):
    """A decoder that decodes an image of the class, and one that decodes the next class."""
    prior = make_prior("Normal", {"loc": 0.0, "scale": 1.0})
    evaluation = Evaluation(splits, "abc", prior, SETTINGS, seed=0)
    test = splits["test"]
    judge, images, labels = evaluation.generation.judge, test.images / 255, test.labels.long()
    assert asked_class_accuracy(judge, images, labels) > 0.9
    assert asked_class_accuracy(judge, images, (labels + 1) % 3) < 0.1


@pytest.mark.parametrize("name", ["GaussianRing", "SwissRoll"])
def test_codes_that_are_samples_of_the_parts_follow_them_and_permuted_ones_do_not(name):
    arguments = RING if name == "GaussianRing" else {"turns": 1.5, "radius": 10.0, "noise": 0.5}
    prior: Prior = make_prior(name, arguments)
    settings = SETTINGS.model_copy(update={"draws": 39})
    labels = torch.arange(300) % 3
    codes = prior.sample_parts(labels, 3, stream(1, "codes"))
    found = measure_parts(codes, labels, prior, 3, settings, seed=0)
    assert found["classes_following"] == 3
    assert 0.5 < found["class_match_ratio"] < 2
    permuted = measure_parts(codes, (labels + 1) % 3, prior, 3, settings, seed=0)
    assert permuted["classes_following"] == 0
    assert permuted["class_match_ratio"] > 5
    assert permuted["by_class"].keys() == {"0", "1", "2"}
    one = codes.clone()
    one[labels == 1] = one[labels == 2][torch.arange(100)]
    one = measure_parts(one, labels, prior, 3, settings, seed=0)
    assert [x["follows_prior"] for x in one["by_class"].values()] == [True, False, True]
    assert one["classes_following"] == 2
    assert one["by_class"]["1"]["p_value"] == 1 / 40, "the smallest with 39 draws"


def test_a_class_with_too_few_images_is_left_out():
    prior, labels = make_prior("GaussianRing", RING), torch.tensor([0] * 20 + [1] * 5 + [2] * 6)
    codes = prior.sample_parts(labels, 3, stream(0, "codes"))
    assert measure_parts(codes, labels, prior, 3, SETTINGS, seed=0)["by_class"].keys() == {"0", "2"}
    assert measure_parts(codes[20:25], labels[20:25], prior, 3, SETTINGS, seed=0) == {}


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("prior", {"class_match_ratio", "classes_following"}),
        ("decoder", {"asked_class_accuracy"}),
        ("semi-supervised", {"asked_class_accuracy", "classification_error", "categories_used"}),
        ("clusters", {"cluster_error", "cluster_nmi", "cluster_ari", "categories_used"}),
    ],
)
def test_a_model_has_the_measures_of_its_categories_and_no_others(splits, use, expected):
    evaluation = Evaluation(splits, "abc", make_prior("GaussianRing", RING), SETTINGS, seed=0)
    model = make_model(use)
    found = evaluation(model)
    assert found.keys() & OF_CATEGORIES == expected
    assert ("by_class" in found) == (use == "prior")
    assert [key for key in MEASURES if key in found] == [key for key in found if key in MEASURES]
    assert found == evaluation(model), "the same to the last digit"
    # Images that are decoded from a mixture need categories, too.
    assert evaluation.rival(model).keys() == evaluation.real.keys() - {"judge_accuracy"}


def test_reconstructions_are_decoded_with_their_own_labels(splits):
    """A decoder whose images are bright or dark by the class alone."""
    model = make_model("decoder")
    last = model.decoder.layers[-2]
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
        model.decoder.layers[0].weight[0, 2:] = torch.tensor([0.0, 0.0, 1.0])
        last.weight[:, 0] = 100.0
        last.bias.fill_(-50.0)
    images = torch.zeros_like(splits["test"].images)
    images[splits["test"].labels == 2] = 255
    bright = splits | {"test": Images(images, splits["test"].labels)}
    prior = make_prior("Normal", {"loc": 0.0, "scale": 1.0})
    found = Evaluation(bright, "abc", prior, SETTINGS, seed=0)(model)
    assert found["reconstruction_mse"] < 1e-6


def test_clusters_of_images_without_labels_can_be_evaluated():
    splits = make_splits((1, 4, 4), None)
    prior = make_prior("Normal", {"loc": 0.0, "scale": 1.0})
    found = Evaluation(splits, "", prior, SETTINGS, seed=0)(make_model("clusters", 5))
    assert found.keys() & OF_CATEGORIES == {"categories_used"}
