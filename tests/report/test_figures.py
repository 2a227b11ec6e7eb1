"""Checks figures by the data of their artists, for codes of 1 to 16 dimensions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from matplotlib.colors import to_hex
from matplotlib.image import imread
from support import DIMENSIONS, ROOT, all_axes

from aae.evaluation.histograms import latent_histogram
from aae.params import load_params
from aae.priors import Prior
from aae.priors.distributions import make_distribution
from aae.report import figures
from aae.report.plane import Plane, plane_density
from aae.seeding import stream

NAMES = [str(k) for k in range(10)]


def make_prior(latent_dim: int) -> Prior:
    return Prior(make_distribution("Gamma", {"concentration": 2.0, "rate": 1.0}), latent_dim)


def make_codes(prior: Prior) -> dict[str, torch.Tensor]:
    codes = prior.sample(200, stream(0, "codes"))
    return {"ae": codes * 10, "aae": codes}


def check_densities(centres: np.ndarray, found: np.ndarray) -> None:
    """Check that the densities are the gamma prior's means in bins around the centres."""
    width = centres[1] - centres[0]
    shares = np.diff(scipy.stats.gamma(2).cdf([*(centres - width / 2), centres[-1] + width / 2]))
    np.testing.assert_allclose(found, shares / width, atol=1e-5)


@pytest.mark.parametrize("latent_dim", DIMENSIONS)
def test_histograms_have_a_panel_a_dimension_with_the_prior_drawn_in(latent_dim):
    prior = make_prior(latent_dim)
    figure = figures.draw_latent_histograms(make_codes(prior), prior)
    panels = all_axes(figure)
    assert len(panels) == 2 * latent_dim
    for panel in panels:
        line, end = panel.lines
        assert end.get_xdata() == [0, 0]  # the support of the gamma distribution begins there
        check_densities(*line.get_data())
        assert panel.get_xlabel().startswith("code, dimension")
    labels = [panel.get_xlabel() for panel in panels]
    assert labels == [f"code, dimension {k + 1}" for k in range(latent_dim)] * 2


@pytest.mark.parametrize("shows_prior", [True, False])
@pytest.mark.parametrize("latent_dim", DIMENSIONS)
def test_codes_by_class_show_every_code_in_the_colour_of_its_class(latent_dim, shows_prior):
    prior = make_prior(latent_dim)
    codes = make_codes(prior)
    labels = torch.arange(200) % 10
    figure = figures.draw_codes_by_class(codes, labels, NAMES, prior if shows_prior else None)
    for panel, values in zip(all_axes(figure), codes.values(), strict=True):
        classes, others = panel.collections[:10], panel.collections[10:]
        assert len(others) == shows_prior, "samples in one dimension, contours in the plane"
        colours = [to_hex(dots.get_facecolor()[0]) for dots in classes]
        assert colours == figures.CLASS_COLOURS
        assert len(set(colours)) == 10
        drawn = Plane(values).coordinates(values).numpy()
        for label, dots in enumerate(classes):
            offsets = np.asarray(dots.get_offsets())
            own = drawn[labels == label]
            assert len(offsets) == 20
            np.testing.assert_allclose(offsets[:, : own.shape[1]], own, atol=1e-5)
            if latent_dim == 1:
                assert (np.abs(offsets[:, 1] - label) <= 0.3).all()
        assert panel.get_xlabel()
        assert panel.get_ylabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == NAMES


@pytest.mark.parametrize("latent_dim", DIMENSIONS)
def test_the_prior_is_drawn_in_one_dimension_or_two(latent_dim):
    (panel,) = all_axes(figures.draw_prior(make_prior(latent_dim)))
    if latent_dim == 1:
        check_densities(*panel.lines[0].get_data())
    else:
        samples, contours = panel.collections
        assert len(samples.get_offsets()) == figures.MAX_DOTS
        assert len(contours.levels) == 4
    assert panel.get_xlabel()
    assert panel.get_ylabel()


def test_contour_lines_of_a_gaussian_are_circles():
    prior = Prior(make_distribution("Normal", {"loc": 1.0, "scale": 2.0}), 2)
    plane = Plane(prior.sample(100, stream(0, "codes")))
    low, high = torch.tensor([-6.0, -6.0]), torch.tensor([8.0, 8.0])
    lines = figures.contour_lines(plane_density(prior, plane, low, high))
    # A share p of a Gaussian in the plane is within sqrt(-2 ln(1 - p)) standard deviations.
    expected = [2 * np.sqrt(-2 * np.log(1 - share)) for share in (0.95, 0.75, 0.5, 0.25)]
    assert len(lines) == 4
    for line, radius in zip(lines, expected, strict=True):
        np.testing.assert_allclose(np.linalg.norm(line - 1, axis=1), radius, rtol=0.02)


def test_histograms_of_several_epochs_are_one_below_another():
    prior = make_prior(8)
    tables = [
        latent_histogram(make_codes(prior)["aae"], prior).assign(epoch=epoch) for epoch in (0, 1, 5)
    ]
    panels = all_axes(figures.draw_training_histograms(pd.concat(tables), prior))
    assert len(panels) == 3 * figures.MAX_TRAINING_DIMENSIONS
    rows = panels[:: figures.MAX_TRAINING_DIMENSIONS]
    assert [panel.get_ylabel() for panel in rows] == ["epoch 0", "epoch 1", "epoch 5"]
    assert all(panel.lines for panel in panels)


def test_losses_are_drawn_by_epoch_with_the_equilibria():
    epochs = range(1, 6)
    names = ("reconstruction", "discriminator", "generator")
    columns = {f"{name}_loss": [k / 10 for k in epochs] for name in names}
    columns |= {f"validation_{name}": [2 * x for x in v] for name, v in columns.items()}
    history = pd.DataFrame({"epoch": epochs, **columns})
    own = ["reconstruction_loss", "validation_reconstruction_loss"]
    left, right = all_axes(figures.draw_losses({"ae": history[["epoch", *own]], "aae": history}))
    assert len(left.lines) == 4
    np.testing.assert_allclose(left.lines[0].get_ydata(), history["reconstruction_loss"])
    dotted = [line.get_ydata() for line in right.lines if line.get_linestyle() == ":"]
    levels = [values[0] for values in dotted if len(values)]
    assert levels == pytest.approx([1.3863, 0.6931], abs=1e-4)
    for panel in (left, right):
        assert panel.get_xlabel() == "epoch"
        assert panel.get_ylabel()
    first = history[:1]
    left, _ = all_axes(figures.draw_losses({"ae": first[["epoch", *own]], "aae": first}))
    assert {line.get_marker() for line in left.lines} == {"o"}, "one epoch is no line"


def test_any_number_of_losses_is_drawn():
    names = ["reconstruction_loss", *(f"number_{k}_loss" for k in range(12))]
    history = pd.DataFrame({"epoch": [1, 2], **{name: [2.0, 1.0] for name in names}})
    _, right = all_axes(figures.draw_losses({"aae": history}))
    shown = {text.get_text() for text in right.get_legend().get_texts()}
    assert {f"Number {k}" for k in range(12)} <= shown


def test_a_saved_figure_is_the_same_to_the_byte(tmp_path: Path):
    prior = make_prior(2)
    for name in ("a.png", "b.png"):
        figure = figures.draw_latent_histograms(make_codes(prior), prior)
        figures.save_figure(figure, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    pixels = figures.to_array(figures.draw_latent_histograms(make_codes(prior), prior))
    np.testing.assert_allclose(imread(tmp_path / "a.png")[..., :3] * 255, pixels, atol=1)


@pytest.mark.parametrize("name", load_params(ROOT / "params.yaml").priors)
def test_every_prior_of_the_list_can_be_drawn(name):
    entry = load_params(ROOT / "params.yaml").priors[name]
    prior = Prior(make_distribution(entry.distribution, entry.arguments), 2)
    (panel,) = all_axes(figures.draw_prior(prior))
    _, contours = panel.collections
    assert any(len(path.vertices) for path in contours.get_paths())
    # The picture must contain almost all samples, and must not be much larger than their range.
    samples = prior.sample(2000, stream(1, "codes")).numpy()
    for values, limits in zip(samples.T, (panel.get_xlim(), panel.get_ylim()), strict=True):
        assert np.mean((values > limits[0]) & (values < limits[1])) > 0.97
        middle = np.quantile(values, 0.95) - np.quantile(values, 0.05)
        assert limits[1] - limits[0] < 6 * middle
    figures.to_array(
        figures.draw_codes_by_class(make_codes(prior), torch.arange(200) % 10, NAMES, prior)
    )


def test_bars_and_lines_are_the_shares_of_the_classes():
    shares = {"ae": torch.tensor([0.5, 0.3, 0.2]), "aae": torch.tensor([0.3, 0.4, 0.3])}
    real = torch.tensor([0.2, 0.2, 0.6])
    (panel,) = all_axes(figures.draw_class_shares(shares, real, "abc"))
    assert [label.get_text() for label in panel.get_xticklabels()] == list("abc")
    bars = [[bar.get_height() for bar in group] for group in panel.containers]
    np.testing.assert_allclose(bars, [values.numpy() for values in shares.values()])
    for group in panel.containers:  # above the tick of their class, and beside each other
        centres = [bar.get_x() + bar.get_width() / 2 for bar in group]
        assert np.round(centres).tolist() == [0, 1, 2]
    lines = panel.collections[0].get_segments()
    np.testing.assert_allclose([line[0][1] for line in lines], real.numpy())
