"""The positions of images in figures of images."""

import numpy as np
import pytest
import torch
from support import DIMENSIONS, all_axes, make_prior

from aae.models import Architecture, Model
from aae.report import sheets
from aae.seeding import stream


def test_reconstructions_are_below_their_originals():
    images = torch.rand(3, 1, 4, 4, generator=stream(0, "images"))
    figure = sheets.draw_reconstructions(images, {"ae": images / 2, "aae": images / 4}, "abc")
    panels = all_axes(figure)
    assert [text.get_text() for text in panels[0].get_xticklabels()] == list("abc")
    for panel, factor in zip(panels, (1, 2, 4), strict=True):
        for shown, image in zip(images_in(panel, 3), images, strict=True):
            np.testing.assert_allclose(shown, image[0] / factor)


@pytest.mark.parametrize("latent_dim", DIMENSIONS)
def test_decoded_prior_shows_the_image_of_every_quantile_or_sample(latent_dim):
    prior = make_prior("Gamma", {"concentration": 2.0, "rate": 1.0}, latent_dim)
    architecture = Architecture(image_shape=(1, 3, 5), latent_dim=latent_dim, hidden=(8,))
    model = Model(architecture, seed=0)
    (panel,) = all_axes(sheets.draw_decoded_prior({"aae": model}, prior))
    sheet = np.asarray(panel.get_images()[0].get_array())
    grid = sheets.GRID
    assert sheet.shape == (3 * grid, 5 * grid)
    if latent_dim == 2:
        # Dimension 1 grows to the right, dimension 2 upwards.
        q = prior.quantiles((torch.arange(grid) + 0.5) / grid)[:, 0]
        bottom_right = model.decode(torch.stack([q[-1], q[0]])[None])[0, 0]
        np.testing.assert_allclose(sheet[-3:, -5:], bottom_right, atol=1e-6)
    elif latent_dim == 1:
        q = prior.quantiles((torch.arange(grid**2) + 0.5) / grid**2)
        np.testing.assert_allclose(sheet[3:6, :5], model.decode(q[grid][None])[0, 0], atol=1e-6)
    else:
        assert len(np.unique(sheet[::3, ::5])) > grid


def test_rows_have_titles_and_what_is_below_each_image():
    images = torch.rand(3, 1, 4, 10, generator=stream(0, "images"))
    rows = {"First row": images, "Second": images / 2}
    first, second = all_axes(sheets.draw_rows(rows, {"Second": ["90%", "80%", "70%"]}))
    assert (first.get_ylabel(), second.get_ylabel()) == ("First\nrow", "Second")
    assert not first.get_xticklabels()
    assert [text.get_text() for text in second.get_xticklabels()] == ["90%", "80%", "70%"]
    # A tick is below the middle of its image.
    for tick, shown, image in zip(second.get_xticks(), images_in(second, 3), images, strict=True):
        np.testing.assert_allclose(shown, image[0] / 2)
        sheet = np.asarray(second.get_images()[0].get_array())
        middle = sheet[:, int(tick - 4.5) : int(tick + 5.5)]
        np.testing.assert_allclose(middle, image[0] / 2)


def test_images_of_a_row_are_apart():
    """The space between them is white: 1 in colour, 0 in grey images, which are black on white."""
    for channels, image, white in ((1, 1.0, 0.0), (3, 0.0, 1.0)):
        images = torch.full((2, channels, 10, 20), image)
        (panel,) = all_axes(sheets.draw_rows({"Images": images}))
        sheet = np.asarray(panel.get_images()[0].get_array())
        assert sheet.shape[:2] == (10, 48)
        assert (sheet[:, 22:26] == white).all()
        assert (sheet[:, 2:22] == image).all()


def images_in(panel, count: int) -> list[np.ndarray]:
    """The images in a row, without their margins."""
    sheet = np.asarray(panel.get_images()[0].get_array())
    own = [np.flatnonzero(part.any(0)) for part in np.split(sheet, count, axis=1)]
    parts = zip(np.split(sheet, count, axis=1), own, strict=True)
    return [part[:, columns[0] : columns[-1] + 1] for part, columns in parts]


def test_ticks_are_at_the_edges_of_a_grid_of_images_that_are_not_square():
    prior = make_prior("Normal", {"loc": 0.0, "scale": 1.0}, 2)
    model = Model(Architecture(image_shape=(3, 4, 6), latent_dim=2, hidden=(8,)), seed=0)
    (panel,) = all_axes(sheets.draw_decoded_prior({"aae": model}, prior))
    assert np.asarray(panel.get_images()[0].get_array()).shape == (60, 90, 3)
    assert panel.get_xticks().tolist() == [0, 45, 90]
    assert panel.get_yticks().tolist() == [0, 30, 60]


def test_rows_of_high_images_are_higher_and_rows_of_wide_ones_lower():
    heights = [
        sheets.draw_rows({"Images": torch.ones(4, 1, *size)}).get_size_inches()[1]
        for size in ((8, 128), (28, 28), (128, 96), (128, 8))
    ]
    assert heights[1] == 1.0
    assert heights[0] < heights[1] < heights[2] < heights[3]
    assert heights[0] >= 0.5, "a title of three lines must fit"
    assert heights[-1] <= 2
