import numpy as np
import pytest
import scipy.stats
import torch

from aae.priors import Prior, make_distribution
from aae.report.plane import ENCLOSED, Plane, plane_density
from aae.seeding import stream


def test_a_prior_narrower_than_a_cell_has_no_contours():
    prior = Prior(make_distribution("MultivariateNormal", {
        "loc": [0.0, 0.0], "covariance_matrix": [[1e-8, 0.0], [0.0, 1e-8]]
    }), 2)  # fmt: skip
    low, high = torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0])
    found = plane_density(prior, Plane(torch.zeros(2, 2)), low, high)
    assert found.levels == []
    assert np.isfinite(found.density).all()


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_a_plane_leads_from_codes_to_coordinates_and_back(latent_dim):
    generator = stream(0, "codes")
    codes = torch.randn(300, latent_dim, generator=generator) * torch.arange(1, latent_dim + 1) + 3
    plane = Plane(codes)
    coordinates = plane.coordinates(codes)
    assert coordinates.shape == (300, min(latent_dim, 2))
    assert len(plane.names) == min(latent_dim, 2)
    torch.testing.assert_close(plane.coordinates(plane.codes(coordinates)), coordinates)
    if latent_dim <= 2:
        torch.testing.assert_close(coordinates, codes)
    else:
        # The two directions of largest variance, the largest first.
        variances = torch.linalg.eigvalsh(codes.T.cov()).flip(0)[:2]
        torch.testing.assert_close(coordinates.var(0), variances)
        torch.testing.assert_close(coordinates.mean(0), torch.zeros(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "arguments", "latent_dim"),
    [
        ("Normal", {"loc": 1.0, "scale": 2.0}, 2),
        ("Uniform", {"low": -5.0, "high": 5.0}, 2),
        ("Beta", {"concentration1": 0.5, "concentration0": 0.5}, 2),
        ("SwissRoll", {"turns": 1.5, "radius": 10.0, "noise": 0.5}, 2),
        ("StudentT", {"df": 1.5}, 2),
        ("Gamma", {"concentration": 2.0, "rate": 1.0}, 8),
    ],
)
def test_contours_enclose_the_shares_of_the_prior_that_they_are_named_after(
    name, arguments, latent_dim
):
    prior = Prior(make_distribution(name, arguments), latent_dim)
    codes = prior.sample(100_000, stream(0, "codes"))
    plane = Plane(codes)
    low, high = plane.limits(codes, prior)
    density = plane_density(prior, plane, low, high)
    cells = (plane.coordinates(codes) - low) / (high - low) * len(density.x)
    cells = cells[((cells >= 0) & (cells < len(density.x))).all(1)]
    column, row = cells.int().T.numpy()
    shares = [
        (density.density[row, column] >= level).sum() / len(codes) for level in density.levels
    ]
    # The noise of 100,000 samples is at most 0.002; the rest is due to the coarse cells.
    if name == "Uniform":  # flat: only its edge is a contour, which crosses some cells
        assert shares == [pytest.approx(1, abs=0.03)]
    else:
        assert shares == pytest.approx(sorted(ENCLOSED, reverse=True), abs=0.01)


def test_the_density_in_the_plane_of_two_independent_dimensions_is_their_product():
    prior = Prior(make_distribution("Normal", {"loc": 1.0, "scale": 2.0}), 2)
    plane = Plane(prior.sample(100, stream(0, "codes")))
    found = plane_density(prior, plane, torch.tensor([-4.0, -3.0]), torch.tensor([5.0, 6.0]))
    normal = scipy.stats.norm(1, 2)
    expected = normal.pdf(found.y)[:, None] * normal.pdf(found.x)[None, :]
    np.testing.assert_allclose(found.density, expected, rtol=1e-2)
