"""What a figure shows is checked in the data of its artists, for codes of 1 to 16 dimensions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from aae import figures
from aae.distributions import make_distribution
from aae.networks import Architecture, Model, apply
from aae.priors import Prior
from aae.seeding import stream

DIMENSIONS = [1, 2, 8, 16]
NAMES = [str(k) for k in range(10)]


def make_prior(latent_dim: int) -> Prior:
    return Prior(make_distribution("Gamma", {"concentration": 2.0, "rate": 1.0}), latent_dim)


def make_codes(prior: Prior) -> dict[str, torch.Tensor]:
    codes = prior.sample(200, stream(0, "codes"))
    return {"ae": codes * 10, "aae": codes}


def all_axes(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.axison]


@pytest.mark.parametrize("latent_dim", DIMENSIONS)
def test_histograms_have_a_panel_a_dimension_with_the_prior_drawn_in(latent_dim):
    prior = make_prior(latent_dim)
    figure = figures.draw_latent_histograms(make_codes(prior), prior)
    panels = all_axes(figure)
    assert len(panels) == 2 * latent_dim
    for panel in panels:
        line, end = panel.lines
        assert end.get_xdata() == [0, 0]  # where the support of the gamma distribution begins
        points, density = line.get_data()
        expected = np.where(points > 0, points * np.exp(-points), 0)
        np.testing.assert_allclose(density, expected, atol=1e-5)
        assert panel.get_xlabel().startswith("code, dimension")
    labels = [panel.get_xlabel() for panel in panels]
    assert labels == [f"code, dimension {k + 1}" for k in range(latent_dim)] * 2


@pytest.mark.parametrize("latent_dim", DIMENSIONS)
def test_codes_by_class_show_every_code_in_the_colour_of_its_class(latent_dim):
    prior = make_prior(latent_dim)
    codes = make_codes(prior)
    labels = torch.arange(200) % 10
    figure = figures.draw_codes_by_class(codes, labels, NAMES, prior)
    for panel, values in zip(all_axes(figure), codes.values(), strict=True):
        background, *classes = panel.collections
        assert len(background.get_offsets()) == figures.MAX_DOTS
        assert len(classes) == 10
        colours = {tuple(dots.get_facecolor()[0]) for dots in classes}
        assert len(colours) == 10
        for label, dots in enumerate(classes):
            offsets = np.asarray(dots.get_offsets())
            own = values[labels == label].numpy()
            assert len(offsets) == 20
            if latent_dim == 1:
                np.testing.assert_allclose(offsets[:, 0], own[:, 0])
                assert (np.abs(offsets[:, 1] - label) <= 0.3).all()
            elif latent_dim == 2:
                np.testing.assert_allclose(offsets, own)
        assert panel.get_xlabel()
        assert panel.get_ylabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == NAMES


def test_losses_are_drawn_by_epoch_with_the_equilibria():
    epochs = range(1, 6)
    names = ("reconstruction", "discriminator", "generator")
    columns = {f"{name}_loss": [k / 10 for k in epochs] for name in names}
    columns |= {f"validation_{name}": [2 * x for x in v] for name, v in columns.items()}
    history = pd.DataFrame({"epoch": epochs, **columns})
    left, right = all_axes(figures.draw_losses({"ae": history, "aae": history}))
    assert len(left.lines) == 4
    np.testing.assert_allclose(left.lines[0].get_ydata(), history["reconstruction_loss"])
    dotted = [line.get_ydata() for line in right.lines if line.get_linestyle() == ":"]
    levels = [values[0] for values in dotted if len(values)]
    assert levels == pytest.approx([1.3863, 0.6931], abs=1e-4)
    for panel in (left, right):
        assert panel.get_xlabel() == "epoch"
        assert panel.get_ylabel()


def test_reconstructions_are_below_their_originals():
    images = torch.rand(3, 1, 4, 4, generator=stream(0, "images"))
    figure = figures.draw_reconstructions(images, {"ae": images / 2, "aae": images / 4}, "abc")
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
    (panel,) = all_axes(figures.draw_decoded_prior({"aae": decoder}, prior))
    sheet = np.asarray(panel.get_images()[0].get_array())
    grid = figures.GRID
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


def test_a_saved_figure_is_the_same_to_the_byte(tmp_path: Path):
    prior = make_prior(2)
    for name in ("a.png", "b.png"):
        figure = figures.draw_latent_histograms(make_codes(prior), prior)
        figures.save_figure(figure, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    pixels = figures.to_array(figures.draw_latent_histograms(make_codes(prior), prior))
    np.testing.assert_allclose(imread(tmp_path / "a.png")[..., :3] * 255, pixels, atol=1)
