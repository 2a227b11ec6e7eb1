import math

import pytest
import torch

from aae.data.augmentation import mirrored, random_transforms, scaled, transform
from aae.params import Augment

OFF = {"shift": 0.0, "rotate": 0.0, "zoom": 0.0, "shear": 0.0, "flip": 0.0}


def settings(**changes) -> Augment:
    return Augment(**(OFF | {"target": "original", "regularisation": 1.0} | changes))


def maps(count: int = 2000, shape=(1, 20, 20), **changes) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return random_transforms(count, shape, settings(**changes), generator)


def dot(row: float, column: float, size: int = 41) -> torch.Tensor:
    """An image with a soft dot, whose centre of mass is at a place relative to the middle."""
    at = torch.arange(size) - size // 2
    squared = (at[:, None] - row) ** 2 + (at[None, :] - column) ** 2
    return torch.exp(-squared / 8)[None, None]


def place(image: torch.Tensor) -> tuple[float, float]:
    """Centre of mass of an image [C, H, W], relative to the middle: row and column."""
    at = torch.arange(image.shape[-1]) - image.shape[-1] // 2
    mass = image[0] / image.sum()
    return (mass.sum(1) @ at.float()).item(), (mass.sum(0) @ at.float()).item()


def test_nothing_happens_if_everything_is_off():
    images = torch.rand(5, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    found = transform(images, maps(5, (3, 9, 7)))
    torch.testing.assert_close(found, images, atol=1e-5, rtol=0)
    assert not settings().changes_images
    assert settings(rotate=1.0).changes_images


def test_a_shift_is_in_pixels_up_to_its_limit_in_both_directions():
    found = transform(dot(0, 0).expand(200, -1, -1, -1), maps(200, (1, 41, 41), shift=3.0))
    places = torch.tensor([place(image) for image in found])
    assert places.abs().max() <= 3.01
    assert (places.amax(0) > 2.8).all()
    assert (places.amin(0) < -2.8).all()


def test_a_rotation_is_in_degrees():
    found = transform(dot(0, 12).expand(200, -1, -1, -1), maps(200, (1, 41, 41), rotate=30.0))
    angles = torch.tensor([math.degrees(math.atan2(*place(image))) for image in found])
    assert angles.abs().max() <= 30.5
    assert angles.max() > 28
    assert angles.min() < -28
    radii = torch.tensor([math.hypot(*place(image)) for image in found])
    torch.testing.assert_close(radii, torch.full((200,), 12.0), atol=0.2, rtol=0)


def test_a_zoom_is_a_share_of_the_size():
    found = transform(dot(0, 10).expand(200, -1, -1, -1), maps(200, (1, 41, 41), zoom=0.2))
    columns = torch.tensor([place(image)[1] for image in found])
    assert columns.max() == pytest.approx(12, abs=0.2)
    assert columns.min() == pytest.approx(8, abs=0.2)


def test_a_shear_moves_rows_against_each_other():
    found = transform(dot(10, 0).expand(200, -1, -1, -1), maps(200, (1, 41, 41), shear=0.3))
    places = torch.tensor([place(image) for image in found])
    torch.testing.assert_close(places[:, 0], torch.full((200,), 10.0), atol=0.1, rtol=0)
    assert places[:, 1].abs().max() == pytest.approx(3, abs=0.2)


def test_the_share_of_flipped_images_is_that_of_the_settings():
    found = transform(dot(0, 5).expand(2000, -1, -1, -1), maps(2000, (1, 41, 41), flip=0.25))
    flipped = sum(place(image)[1] < 0 for image in found)
    # Four standard deviations of the binomial distribution
    assert abs(flipped - 500) < 4 * math.sqrt(2000 * 0.25 * 0.75)


def test_the_original_of_a_flipped_image_is_flipped_and_nothing_else():
    image = dot(3, 5).expand(200, -1, -1, -1)
    drawn = maps(200, (1, 41, 41), flip=0.5, shift=1.0, rotate=10.0, zoom=0.1, shear=0.1)
    originals = mirrored(image, drawn)
    places = [tuple(map(round, place(one))) for one in originals]
    assert set(places) == {(3, 5), (3, -5)}
    moved = [place(one)[1] < 0 for one in transform(image, drawn)]
    assert [column < 0 for _, column in places] == moved


@pytest.mark.parametrize("shape", [(1, 28, 112), (1, 112, 28), (1, 28, 28)])
def test_no_turn_or_shear_looks_like_a_flip(shape):
    image = torch.arange(3.0).expand(2000, 1, 1, 3)
    large = {"rotate": 180.0, "zoom": 0.9, "shear": 0.9}
    turned, plain = maps(2000, shape, flip=0.5, **large), maps(2000, shape, flip=0.5)
    assert torch.equal(mirrored(image, turned), mirrored(image, plain))


def test_a_shear_is_in_pixels_whatever_the_shape():
    tall = torch.zeros(1, 1, 61, 41)
    tall[:, :, 10:51] = dot(10, 0)
    drawn = maps(200, (1, 61, 41), shear=0.3)
    square = transform(dot(10, 0).expand(200, -1, -1, -1), maps(200, (1, 41, 41), shear=0.3))
    found = transform(tall.expand(200, -1, -1, -1), drawn)[:, :, 10:51]
    torch.testing.assert_close(found, square, atol=0.01, rtol=0)


def test_a_rectangle_turns_without_distortion():
    tall = torch.zeros(1, 1, 61, 41)
    tall[:, :, 10:51] = dot(15, 0)
    (turned,) = transform(tall, maps(1, (1, 61, 41), rotate=30.0))
    rows, columns = torch.arange(61) - 30.0, torch.arange(41) - 20.0
    mass = turned[0] / turned.sum()
    at = math.hypot((mass.sum(1) @ rows).item(), (mass.sum(0) @ columns).item())
    assert at == pytest.approx(15, abs=0.3)


def test_a_limit_of_zero_changes_nothing_for_the_others():
    one, other = maps(shift=1.0), maps(shift=1.0, rotate=10.0)
    assert torch.equal(one[:, :, 2], other[:, :, 2])


def test_a_factor_multiplies_all_limits_but_the_share_of_flips():
    half = scaled(settings(shift=2.0, rotate=10.0, zoom=0.1, shear=0.2, flip=0.5), 0.5)
    assert half == settings(shift=1.0, rotate=5.0, zoom=0.05, shear=0.1, flip=0.5)
