"""Which labels a training may see."""

from collections.abc import Callable

import pytest
import torch

from aae.data import Images, KnownLabels, known_labels
from aae.errors import ParameterError

IMAGES = Images(torch.zeros(60, 1, 2, 2, dtype=torch.uint8), torch.arange(60) % 3)


@pytest.fixture
def known(make_params) -> Callable[..., KnownLabels | None]:
    """Return the known labels of images of three classes, with changed parameters."""

    def find(
        count: int | None, use: str = "semi-supervised", images: Images = IMAGES, **changes: object
    ) -> KnownLabels | None:
        changes |= {"labels.use": use} | ({"labels.count": count} if count else {})
        params = make_params(changes)
        return known_labels(images, IMAGES, "abc", params)

    return find


def test_without_a_number_all_labels_are_known(known):
    assert torch.equal(known(None).train, IMAGES.labels)
    assert torch.equal(known(None).validation, IMAGES.labels)


def test_a_number_of_labels_is_equally_many_of_each_class(known):
    few = known(9)
    chosen = few.train >= 0
    assert few.train[chosen].bincount().tolist() == [3, 3, 3]
    assert torch.equal(few.train[chosen], IMAGES.labels[chosen])
    assert (few.validation == -1).all()
    assert torch.equal(known(9).train, few.train)
    assert not torch.equal(known(9, seed=1).train, few.train)


@pytest.mark.parametrize("use", ["none", "clusters"])
def test_these_need_no_labels(known, use):
    assert known(None, use, Images(IMAGES.images, None)) is None


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "1 is not a multiple of the 3 classes; 3 would do"),
        (7, "7 is not a multiple of the 3 classes; 6 or 9 would do"),
        (63, "63 labels, equally many of each class; there are at most 60"),
    ],
)
def test_other_numbers_are_refused(known, count, message):
    with pytest.raises(ParameterError, match=rf"^labels\.count: {message}"):
        known(count)


@pytest.mark.parametrize("use", ["prior", "decoder", "semi-supervised"])
def test_images_without_labels_are_refused(known, use):
    prior = "swiss_roll" if use == "prior" else "gaussian"
    with pytest.raises(ParameterError, match=rf"^labels\.use: '{use}' needs images with labels"):
        known(None, use, Images(IMAGES.images, None), prior=prior)


def test_each_class_needs_a_part_of_the_prior(known):
    assert known(None, "prior", prior="swiss_roll") is not None
    with pytest.raises(ParameterError, match=r"^labels\.use: .* with 3 parts, one for each class"):
        known(None, "prior", prior="gaussian_mixture")
    with pytest.raises(ParameterError, match=r"labels\.use: 'prior' needs .*Normal"):
        known(None, "prior", prior="gaussian")
