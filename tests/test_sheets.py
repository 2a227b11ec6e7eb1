"""Which image stands where in the figures made of images."""

import numpy as np
import pytest
import torch
from test_figures import DIMENSIONS, all_axes, make_prior

from aae import sheets
from aae.networks import Architecture, Model, apply
from aae.seeding import stream


def test_reconstructions_are_below_their_originals():
    images = torch.rand(3, 1, 4, 4, generator=stream(0, "images"))
    figure = sheets.draw_reconstructions(images, {"ae": images / 2, "aae": images / 4}, "abc")
    panels = all_axes(figure)
    assert len(panels) == 9
    for row, factor in enumerate((1, 2, 4)):
        for column in range(3):
            (shown,) = panels[3 * row + column].get_images()
            np.testing.assert_allclose(shown.get_array(), images[column, 0] / factor)


@pytest.mark.parametrize("latent_dim", DIMENSIONS)
def test_decoded_prior_shows_the_image_of_every_quantile_or_sample(latent_dim):
    prior = make_prior(latent_dim)
    architecture = Architecture(image_shape=(1, 3, 5), latent_dim=latent_dim, hidden=(8,))
    decoder = Model(architecture, seed=0).decoder
    (panel,) = all_axes(sheets.draw_decoded_prior({"aae": decoder}, prior))
    sheet = np.asarray(panel.get_images()[0].get_array())
    grid = sheets.GRID
    assert sheet.shape == (3 * grid, 5 * grid)
    if latent_dim == 2:
        # Dimension 1 grows to the right, dimension 2 upwards.
        q = prior.quantiles((torch.arange(grid) + 0.5) / grid)[:, 0]
        bottom_right = apply(decoder, torch.stack([q[-1], q[0]])[None])[0, 0]
        np.testing.assert_allclose(sheet[-3:, -5:], bottom_right, atol=1e-6)
    elif latent_dim == 1:
        q = prior.quantiles((torch.arange(grid**2) + 0.5) / grid**2)
        np.testing.assert_allclose(sheet[3:6, :5], apply(decoder, q[grid][None])[0, 0], atol=1e-6)
    else:
        assert len(np.unique(sheet[::3, ::5])) > grid


def test_rows_have_titles_and_what_is_below_each_image():
    images = torch.rand(3, 1, 4, 4, generator=stream(0, "images"))
    rows = {"First row": images, "Second": images / 2}
    panels = all_axes(sheets.draw_rows(rows, "abc", {"Second": ["90%", "80%", "70%"]}))
    assert [panel.get_title() for panel in panels[:3]] == ["a", "b", "c"]
    assert [panel.get_ylabel() for panel in panels[::3]] == ["First\nrow", "Second"]
    assert [panel.get_xlabel() for panel in panels[3:]] == ["90%", "80%", "70%"]
