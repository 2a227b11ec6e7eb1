"""All figures and the explorer's data for images of any shape, with many classes, few or none."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from support import all_axes, make_splits

from aae.data import Images
from aae.data.splits import FEWEST
from aae.evaluation.generation import GenerationTest
from aae.evaluation.histograms import latent_histogram
from aae.models import Architecture, Model
from aae.models.categories import Categories
from aae.params import EvalLatent
from aae.priors import Prior, make_distribution
from aae.report.explorer import explorer_data
from aae.report.figures import Figure, draw_class_shares, draw_codes_by_class, save_figure
from aae.report.gallery import draw_all
from aae.report.titles import MAX_CLASSES, MAX_NAME

SETTINGS = EvalLatent(projections=20, references=2, draws=19, subset=60, judge_steps=2)
# The page's limit, which leaves room for the figures.
LIMIT = 5_000_000
# They begin alike; a dollar sign could start a formula, and an underscore hides a name in a legend.
NAMES = [f"{'_' * (k % 2)}images/of/the/class/of/$x_{{{k}}}$ and more 字 {k}" for k in range(100)]
NAMES[2] = "$^$ 2"  # an error, as a formula


def make_models(shape: tuple[int, ...], latent_dim: int = 2) -> dict[str, Model]:
    architecture = Architecture(image_shape=shape, latent_dim=latent_dim, hidden=(8,))
    return {name: Model(architecture, seed=k) for k, name in enumerate(("ae", "aae"))}


def draw(splits: dict[str, Images], names: list[str], latent_dim: int = 2) -> dict[str, Figure]:
    prior = Prior(make_distribution("Normal", {"loc": 0.0, "scale": 1.0}), latent_dim)
    models = make_models(tuple(splits["test"].images.shape[1:]), latent_dim)
    codes = {name: model.encode(splits["test"].images) for name, model in models.items()}
    losses = {"reconstruction_loss": [1.0], "validation_reconstruction_loss": [1.0]}
    history = pd.DataFrame({"epoch": [1], **losses})
    generation = GenerationTest(splits, len(names), SETTINGS, seed=0)
    return draw_all(
        models, codes, codes, splits, names, prior, dict.fromkeys(models, history),
        latent_histogram(codes["aae"], prior).assign(epoch=0), generation,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "classes"),
    [((1, 8, 8), None), ((3, 8, 12), None), ((3, 8, 8), 2), ((1, 24, 8), 12), ((3, 8, 12), 100)],
)
def test_all_figures_are_drawn_and_none_is_huge(shape, classes, tmp_path):
    splits = make_splits(shape, classes)
    figures = draw(splits, NAMES[: classes or 0])
    assert ("generated_classes" in figures) == bool(classes)
    for figure in figures.values():
        assert (figure.get_size_inches() < 20).all()
    for name in ("codes_by_class", "reconstructions"):
        save_figure(figures[name], tmp_path / "figure.png")
    originals = all_axes(figures["reconstructions"])[0]
    shown = np.asarray(originals.get_images()[0].get_array())
    assert shown.ndim == (2 if shape[0] == 1 else 3)
    assert len(shown) == shape[1]
    names = [text.get_text() for text in originals.get_xticklabels()]
    assert len(names) == (min(classes, 12) if classes else 0)
    assert len(set(names)) == len(names)
    assert all(len(name) <= MAX_NAME for name in names)
    rows = [panel.get_ylabel() for panel in all_axes(figures["interpolations"])]
    assert len(rows) == (1 if classes == 2 else 4)
    assert all(row.startswith("Path") != bool(classes) for row in rows)


def test_the_fewest_images_can_be_drawn():
    splits = make_splits((1, 8, 8), None)
    few = {name: part[: FEWEST[name]] for name, part in splits.items()}
    assert len(all_axes(draw(few, [])["interpolations"])) == 3


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_codes_without_labels_have_one_colour_and_no_legend(latent_dim):
    figures = draw(make_splits((3, 8, 12), None), [], latent_dim)
    figure = figures["codes_by_class"]
    assert not figure.legends
    for panel in all_axes(figure):
        dots, *_ = panel.collections
        assert len(dots.get_offsets()) == 20
        assert len(dots.get_facecolor()) == 1
        assert "class" not in panel.get_ylabel()


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_the_legend_names_some_of_many_classes_in_their_colours(latent_dim):
    labels = torch.arange(200) % 100
    codes = torch.randn(200, latent_dim, generator=torch.Generator().manual_seed(0))
    figure = draw_codes_by_class({"ae": codes}, labels, NAMES[:100], None)
    (panel,), (legend,) = all_axes(figure), figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert len(set(names)) == MAX_CLASSES
    colours = [tuple(dots.get_facecolor()[0]) for dots in panel.collections]
    assert len(set(colours)) > 90
    for name, handle in zip(names, legend.legend_handles, strict=True):
        label = int(name.split(" ")[-1].split("…")[-1])
        assert tuple(handle.get_facecolor()[0]) == colours[label]
    if latent_dim == 1:
        assert len(panel.get_yticks()) == MAX_CLASSES + 1


def test_of_many_classes_the_most_frequent_have_bars():
    real = torch.linspace(0, 1, 100)
    (panel,) = all_axes(draw_class_shares({"ae": real / 2}, real, [str(k) for k in range(100)]))
    names = [label.get_text() for label in panel.get_xticklabels()]
    assert names == [str(k) for k in range(80, 100)]
    heights = [bar.get_height() for bar in panel.containers[0]]
    np.testing.assert_allclose(heights, real[80:] / 2)


@pytest.mark.parametrize("clusters", [0, 10, 30, 200])
@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 48, 48)])
def test_the_explorer_of_many_clusters_stays_small(shape, latent_dim, clusters):
    data = explore_noise(shape, clusters, latent_dim)
    assert len(json.dumps(data)) < LIMIT
    choices = data["models"]["aae"].get("choices", [])
    assert len(choices) == min(clusters, 30)
    assert "choices" not in data["models"]["ae"]


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 48, 48), (1, 128, 96)])
def test_the_explorer_stays_small_whatever_the_images(shape):
    data = explore_noise(shape)
    assert len(json.dumps(data)) < LIMIT
    assert max(data["image_size"][:2]) == 48
    assert data["image_size"][2:] == ([3] if shape[0] == 3 else [])
    assert data["class_names"] == data["labels"] == []
    assert len(data["colours"]) == 1


def explore_noise(shape: tuple[int, int, int], clusters: int = 0, latent_dim: int = 2) -> dict:
    """Return the explorer's data for noise, which is what compresses worst."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (500, *shape), generator=generator).to(torch.uint8)
    models = make_models(shape, latent_dim)
    if clusters:
        categories = Categories(use="clusters", count=clusters)
        own = models["ae"].architecture.model_copy(update={"categories": categories})
        models["aae"] = Model(own, seed=1)
    for model in models.values():
        with torch.no_grad():  # makes the decoded images noise, too
            model.decoder.layers[-2].bias.normal_(0, 2, generator=generator)
    codes = {name: model.encode(images) for name, model in models.items()}
    prior = Prior(make_distribution("Normal", {"loc": 0.0, "scale": 1.0}), latent_dim)
    return explorer_data(models, codes, Images(images, None), (), prior)
