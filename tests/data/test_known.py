"""Which labels a training may see."""

import pytest
import torch

from aae.data import Images, KnownLabels, known_labels
from aae.errors import ParameterError
from aae.params import Labels

IMAGES = Images(torch.zeros(60, 1, 2, 2, dtype=torch.uint8), torch.arange(60) % 3)


def settings(use: str = "semi-supervised", count: int | None = None) -> Labels:
    return Labels.model_validate({"use": use, "count": count, "clusters": 4, "places": False})


def known(count: int | None, seed: int = 0) -> KnownLabels:
    found = known_labels(IMAGES, IMAGES, "abc", settings(count=count), seed)
    assert found is not None
    return found


def test_without_a_number_all_labels_are_known():
    assert torch.equal(known(None).train, IMAGES.labels)
    assert torch.equal(known(None).validation, IMAGES.labels)


def test_a_number_of_labels_is_equally_many_of_each_class():
    few = known(9)
    chosen = few.train >= 0
    assert few.train[chosen].bincount().tolist() == [3, 3, 3]
    assert torch.equal(few.train[chosen], IMAGES.labels[chosen])
    assert (few.validation == -1).all()
    assert torch.equal(known(9).train, few.train)
    assert not torch.equal(known(9, seed=1).train, few.train)


@pytest.mark.parametrize("use", ["none", "clusters"])
def test_these_need_no_labels(use):
    unlabelled = Images(IMAGES.images, None)
    assert known_labels(unlabelled, unlabelled, (), settings(use, count=9), 0) is None


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "1 is not a multiple of the 3 classes; 3 or 6 would do"),
        (7, "7 is not a multiple of the 3 classes; 6 or 9 would do"),
        (63, "63 labels, equally many of each class; there are at most 60"),
    ],
)
def test_other_numbers_are_refused(count, message):
    with pytest.raises(ParameterError, match=rf"^labels\.count: {message}"):
        known(count)


@pytest.mark.parametrize("use", ["prior", "decoder", "semi-supervised"])
def test_images_without_labels_are_refused(use):
    with pytest.raises(ParameterError, match=rf"^labels\.use: '{use}' needs images with labels"):
        known_labels(Images(IMAGES.images, None), IMAGES, (), settings(use), 0)
