"""The parts of a prior: components of a mixture, stretches of a spiral."""

import math

import pytest
import torch
from support import make_prior

RING = {"components": 10, "radius": 5.0, "radial_std": 1.25, "tangential_std": 0.4}
ROLL = {"turns": 1.5, "radius": 10.0, "noise": 0.0}
COUNT = 4000


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_part_of_the_ring_is_one_of_its_gaussians():
    prior = make_prior("GaussianRing", RING)
    for number in range(10):
        samples = prior.part(number, 10).sample(COUNT, draw())
        angle = 2 * math.pi * number / 10
        turned = samples @ torch.tensor(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        )
        # Five standard errors of the mean and of the standard deviation
        error = 5 * torch.tensor([1.25, 0.4]) / COUNT**0.5
        assert ((turned.mean(0) - torch.tensor([5.0, 0.0])).abs() < error).all()
        assert ((turned.std(0) - torch.tensor([1.25, 0.4])).abs() < error).all()


def test_a_part_of_the_roll_is_a_stretch_of_it():
    prior = make_prior("SwissRoll", ROLL)
    for number in range(4):
        radius = prior.part(number, 4).sample(COUNT, draw()).norm(dim=1)
        share = (radius / 10).square()  # of the length, which grows with the square of the radius
        assert number / 4 - 1e-4 < share.min()
        assert share.max() < (number + 1) / 4 + 1e-4
        assert (share.mean() - (number + 0.5) / 4).abs() < 5 * 0.25 / (12 * COUNT) ** 0.5


@pytest.mark.parametrize(("name", "arguments"), [("GaussianRing", RING), ("SwissRoll", ROLL)])
def test_samples_of_given_parts_are_those_of_each_part_in_turn(name, arguments):
    prior = make_prior(name, arguments)
    numbers = torch.arange(COUNT) % 5
    samples = prior.sample_parts(numbers, 5, draw())
    assert torch.equal(samples, prior.sample_parts(numbers, 5, draw()))
    for number in range(5):
        found, part = samples[numbers == number], prior.part(number, 5)
        error = 5 * part.scale / len(found) ** 0.5
        assert ((found.mean(0) - part.mean).abs() < error).all()


@pytest.mark.parametrize(("name", "arguments"), [("GaussianRing", RING), ("SwissRoll", ROLL)])
def test_a_sample_of_no_part_is_one_of_the_whole_prior(name, arguments):
    prior = make_prior(name, arguments)
    samples = prior.sample_parts(torch.full((COUNT,), -1), 5, draw())
    assert ((samples.mean(0) - prior.mean).abs() < 5 * prior.scale / COUNT**0.5).all()
    assert ((samples.std(0) / prior.scale - 1).abs() < 0.1).all()


@pytest.mark.parametrize(
    ("name", "arguments", "counts"),
    [
        ("GaussianRing", RING, {1: True, 2: True, 10: True, 3: False, 20: False}),
        ("SwissRoll", ROLL, {1: True, 7: True}),
        ("Normal", {"loc": 0.0, "scale": 1.0}, {1: False, 10: False}),
    ],
)
def test_which_priors_have_parts_of_equal_mass(name, arguments, counts):
    prior = make_prior(name, arguments)
    assert {count: prior.parts(count) for count in counts} == counts
