"""Checks the figures of categories by the data of their artists."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from support import all_axes, make_prior, make_splits

from aae.data import Images
from aae.evaluation.generation import GenerationTest
from aae.evaluation.histograms import latent_histogram
from aae.models import Architecture, Model
from aae.models.categories import Categories
from aae.params import EvalLatent
from aae.priors import Prior
from aae.report.categories import MEMBERS, STYLES, draw_categories, in_each, members
from aae.report.figures import CLASS_COLOURS, draw_codes_by_part, draw_contingency, draw_losses
from aae.report.gallery import draw_all
from aae.report.sheets import draw_grid
from aae.seeding import stream

SETTINGS = EvalLatent(projections=20, references=2, draws=19, subset=60, judge_steps=2)
RING = {"components": 3, "radius": 5.0, "radial_std": 1.25, "tangential_std": 0.4}
NAMES = ["none", "one", "two"]


def make_model(use: str, count: int = 3, places: bool = False, channels: int = 1) -> Model:
    names = tuple(NAMES) if use not in ("none", "clusters") else ()
    architecture = Architecture(
        image_shape=(channels, 4, 4), latent_dim=2, hidden=(8,), discriminator_hidden=(8,),
        categories=Categories(use=use, count=count, places=places, names=names),
    )  # fmt: skip
    return Model(architecture, seed=0)


def draw(use: str, splits: dict[str, Images], prior: Prior, **changes: int) -> dict:
    model = make_model(use, **changes)
    names = NAMES if splits["test"].labels is not None else []
    return draw_categories("aae", model, model.encode(splits["test"].images), splits, names, prior)


@pytest.mark.parametrize(
    ("use", "changes", "expected"),
    [
        ("none", {"count": 0}, []),
        ("prior", {}, ["codes_by_part"]),
        ("decoder", {}, ["styles"]),
        ("semi-supervised", {}, ["styles", "contingency"]),
        ("semi-supervised", {"places": True}, ["styles", "placed_codes", "contingency"]),
        ("clusters", {"count": 40}, ["styles", "clusters", "contingency"]),
        ("clusters", {"places": True}, ["styles", "clusters", "placed_codes", "contingency"]),
    ],
)
def test_a_model_has_the_figures_of_its_categories_and_no_others(splits, use, changes, expected):
    figures = draw(use, splits, make_prior("GaussianRing", RING), **changes)
    assert list(figures) == expected
    for figure in figures.values():
        assert (figure.get_size_inches() < 20).all()
        assert all_axes(figure)


def test_without_labels_clusters_have_no_table_of_classes():
    splits = make_splits((1, 4, 4), None)
    prior = make_prior("Normal", {"loc": 0.0, "scale": 1.0})
    figures = draw("clusters", splits, prior, count=5, places=True)
    assert list(figures) == ["styles", "clusters", "placed_codes"]
    assert not figures["placed_codes"].legends


def test_a_row_is_one_style_and_a_column_one_category():
    model = make_model("decoder")
    codes = torch.randn(4, 2, generator=stream(0, "codes"))
    images = in_each(model, codes, [2, 0])
    assert images.shape == (4, 2, 1, 4, 4)
    for column, label in enumerate((2, 0)):
        expected = model.decode(codes, torch.full((4,), label))
        torch.testing.assert_close(images[:, column], expected)


def test_styles_are_prior_samples_in_every_class(splits):
    prior = make_prior("Normal", {"loc": 0.0, "scale": 1.0})
    (panel,) = all_axes(draw("decoder", splits, prior)["styles"])
    sheet = np.asarray(panel.get_images()[0].get_array())
    assert sheet.shape == (4 * STYLES, 4 * 3)
    code = prior.sample(STYLES, stream(0, "styles"))[7:8]
    expected = make_model("decoder").decode(code, torch.tensor([1]))[0, 0]
    np.testing.assert_allclose(sheet[28:32, 4:8], expected, atol=1e-6)
    assert [text.get_text() for text in panel.get_xticklabels()] == NAMES
    assert panel.get_xticks().tolist() == [1.5, 5.5, 9.5], "below the middle of each image"


class Finds:
    """Stands for an encoder that finds the categories of images in the order of a table."""

    def __init__(self, probabilities: torch.Tensor) -> None:
        self.probabilities = probabilities

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        return self.probabilities[: len(images)]


@pytest.mark.parametrize(("channels", "white"), [(1, 0.0), (3, 1.0)])
def test_below_a_head_are_the_most_probable_images_of_the_cluster_alone(channels, white):
    probabilities = torch.tensor([[0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.45, 0.55, 0.0]])
    images = torch.arange(10, 40, 10).to(torch.uint8)[:, None, None, None]
    images = images.expand(3, channels, 2, 2)
    found = members(Finds(probabilities), images, [0, 1, 2])
    assert found.shape == (MEMBERS, 3, channels, 2, 2)
    shades = found[:, :, 0, 0, 0] * 255
    assert shades[:2, 0].tolist() == pytest.approx([20, 10]), "the most probable first"
    assert shades[0, 1].item() == pytest.approx(30)
    for rest in (shades[2:, 0], shades[1:, 1], shades[:, 2]):
        assert (rest == white * 255).all()


def test_images_of_a_grid_have_their_places_and_names():
    images = torch.rand(2, 3, 3, 4, 6, generator=stream(0, "images"))
    long = ["short", "a name that is too long", "x"]
    (panel,) = all_axes(draw_grid(images, ["head", ""], long, "cluster"))
    sheet = np.asarray(panel.get_images()[0].get_array())
    assert sheet.shape == (8, 18, 3)
    np.testing.assert_allclose(sheet[4:, 12:], images[1, 2].permute(1, 2, 0))
    assert [text.get_text() for text in panel.get_yticklabels()] == ["head", ""]
    assert len(panel.get_xticklabels()[1].get_text()) <= 12
    assert panel.get_xlabel() == "cluster"


def test_codes_by_part_show_each_class_in_the_colour_of_its_part():
    prior, labels = make_prior("GaussianRing", RING), torch.arange(300) % 3
    codes = prior.sample_parts(labels, 3, stream(0, "codes"))
    figure = draw_codes_by_part(codes, labels, NAMES, prior)
    (panel,), (legend,) = all_axes(figure), figure.legends
    areas, dots = panel.collections[::2], panel.collections[1::2]
    assert len(areas) == len(dots) == 3
    for label, (area, own) in enumerate(zip(areas, dots, strict=True)):
        colours = {to_hex(part.get_facecolor()[0]) for part in (area, own)}
        assert colours == {CLASS_COLOURS[label]}
        np.testing.assert_allclose(own.get_offsets(), codes[labels == label], atol=1e-5)
        samples = prior.part(label, 3).sample(2000, stream(1, "samples")).numpy()
        inside = sum(path.contains_points(samples) for path in area.get_paths())
        assert inside.mean() == pytest.approx(0.95, abs=0.03)
    assert [text.get_text() for text in legend.get_texts()] == NAMES


def test_a_table_shows_counts_and_shades_shares():
    counts = np.array([[9, 1, 0], [0, 0, 20]])
    (panel,) = all_axes(draw_contingency(counts, ["a", "b"], ["0", "1", "2"], "cluster"))
    shown = np.asarray(panel.get_images()[0].get_array())
    np.testing.assert_allclose(shown, [[0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])
    texts = {text.get_position(): text.get_text() for text in panel.texts}
    assert texts == {(0, 0): "9", (1, 0): "1", (2, 1): "20"}
    assert [text.get_text() for text in panel.get_yticklabels()] == ["a", "b"]


def test_a_table_of_many_classes_has_no_numbers():
    names = [str(k) for k in range(200)]
    figure = draw_contingency(np.ones((200, 200), dtype=np.int64), names, names, "class")
    (panel,) = all_axes(figure)
    assert not panel.texts
    assert len(panel.get_xticks()) == 30
    assert (figure.get_size_inches() < 20).all()


def test_clusters_of_a_class_are_beside_each_other_and_empty_ones_last(splits, monkeypatch):
    """Clusters 3 and 1 are for the first class, 0 is for the others, and 2 is empty."""
    model = make_model("clusters", count=4)
    test = splits["test"]
    found = torch.where(test.labels == 0, torch.where(torch.arange(20) < 10, 3, 1), 0)
    probabilities = torch.eye(4)[found]
    monkeypatch.setattr(model, "classify", lambda images: probabilities[: len(images)])
    prior = make_prior("Normal", {"loc": 0.0, "scale": 1.0})
    codes = model.encode(test.images)
    figures = draw_categories("aae", model, codes, splits, NAMES, prior)
    (panel,) = all_axes(figures["contingency"])
    assert [text.get_text() for text in panel.get_xticklabels()] == ["1", "3", "0", "2"]


def test_placed_codes_are_the_sums_of_style_and_place():
    model = make_model("clusters", places=True)
    with torch.no_grad():
        model.decoder.places.weight.copy_(torch.tensor([[10.0, 0.0, -10.0], [0.0, 5.0, 0.0]]))
    codes, numbers = torch.zeros(3, 2), torch.eye(3)
    assert model.placed(codes, numbers).tolist() == [[10, 0], [0, 5], [-10, 0]]
    style = torch.tensor([[1.0, 2.0]])
    assert model.placed(style, torch.tensor([[0.5, 0.5, 0.0]])).tolist() == [[6, 4.5]]


@pytest.mark.parametrize("use", ["prior", "decoder", "semi-supervised", "clusters"])
def test_all_figures_of_a_model_with_categories_are_drawn(splits, use):
    prior = make_prior("GaussianRing", RING)
    plain = Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,))
    models = {"ae": Model(plain, seed=1), "aae": make_model(use)}
    test = splits["test"]
    codes = {name: model.encode(test.images) for name, model in models.items()}
    losses = {"reconstruction_loss": [1.0], "validation_reconstruction_loss": [1.0]}
    history = pd.DataFrame({"epoch": [1], **losses})
    figures = draw_all(
        models, codes, codes, splits, NAMES, prior, dict.fromkeys(models, history),
        latent_histogram(codes["aae"], prior).assign(epoch=0),
        GenerationTest(splits, 3, SETTINGS, seed=0),
    )  # fmt: skip
    assert figures.keys() >= {"decoded_prior", "samples", "generated_classes"}
    # The last row are reconstructions with the categories of the images themselves.
    shown = np.asarray(all_axes(figures["reconstructions"])[-1].get_images()[0].get_array())
    own = models["aae"].labels_of(test.images, test.labels)
    all_images = models["aae"].decode(codes["aae"], own)[:, 0].numpy()
    for tile in np.split(shown, 3, axis=1):
        assert min(np.abs(tile[:, 1:5] - image).max() for image in all_images) < 1e-5


def test_a_loss_without_validation_images_is_drawn_alone():
    columns = ["reconstruction_loss", "validation_reconstruction_loss", "classification_loss"]
    history = pd.DataFrame({"epoch": [1, 2], **{name: [2.0, 1.0] for name in columns}})
    _, right = all_axes(draw_losses({"aae": history}))
    labels = [line.get_label() for line in right.lines if not line.get_label().startswith("_")]
    assert labels == ["Classification", "Equilibrium"]
