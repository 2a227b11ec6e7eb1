"""The page's explorer: its data, and its behaviour in a real browser.

The browser is an installed Chromium. It opens a page of two small models, which the pipeline's
functions write to a file. Any request that the browser sends is an error.
"""

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from page_example import FIGURES, METRICS, PROVENANCE, UNLABELLED_METRICS
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from aae.data import Images
from aae.models import Architecture, Model
from aae.models.categories import Categories
from aae.priors import Prior
from aae.priors.distributions import make_distribution
from aae.report.explorer import GRID, LEVELS, LINE, explorer_data
from aae.report.page import render
from aae.report.plane import Plane
from aae.seeding import stream

NAMES = ["none", "one", "two"]
# Half a grey level.
ROUNDING = 0.5 / (LEVELS - 1) + 1 / 255


class Example:
    """Two small models of the same images, and the data of their explorer.

    The images are grey noise with labels, or smooth colours without. The second model may have
    three categories.
    """

    def __init__(self, latent_dim: int, labelled: bool = True, use: str = "none") -> None:
        self.labelled = labelled
        self.prior = Prior(make_distribution("Normal", {"loc": 0.0, "scale": 5.0}), latent_dim)
        generator = stream(0, "images")
        images = torch.randint(256, (60, 1, 28, 28), generator=generator).to(torch.uint8)
        labels = (torch.arange(60) % 3).to(torch.uint8)
        if not labelled:
            colours = torch.rand(60, 3, 2, 2, generator=generator)
            images = (F.interpolate(colours, (40, 60), mode="bilinear") * 255).to(torch.uint8)
        self.test = Images(images, labels if labelled else None)
        shape = tuple(images.shape[1:])
        architecture = Architecture(image_shape=shape, latent_dim=latent_dim, hidden=(16,))
        self.models = {"ae": Model(architecture, seed=1), "aae": Model(architecture, seed=2)}
        if use != "none":
            names = () if use == "clusters" else tuple(NAMES)
            categories = Categories(use=use, count=3, names=names)
            own = architecture.model_copy(update={"categories": categories})
            self.models["aae"] = Model(own, seed=2)
        for model in self.models.values():  # makes codes as wide as the prior, and images different
            last, first = model.encoder.layers[-1], model.decoder.layers[0]
            with torch.no_grad():
                last.weight *= 60
                last.bias *= 60
                first.weight *= 2
                first.weight[:, latent_dim:] *= 4  # those of categories
        self.codes = {k: model.encode(images) for k, model in self.models.items()}
        names = NAMES if labelled else ()
        self.data = explorer_data(self.models, self.codes, self.test, names, self.prior)

    def decoded(self, name: str, position: list[float], category: int | None = None) -> np.ndarray:
        """The image [28, 28] that a model decodes from a position in the plane of its codes."""
        found = self.data["models"][name]
        low, high = torch.tensor(found["low"]), torch.tensor(found["high"])
        place = low + (high - low) * torch.tensor(position[: len(low)])
        code = Plane(self.codes[name]).codes(place[None])
        label = None if category is None else torch.tensor([category])
        return self.models[name].decode(code, label)[0, 0].numpy()


def read_sheet(address: str, columns: int) -> np.ndarray:
    """The images [N, 28, 28] from 0 to 1 of a sheet."""
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    sheet = np.asarray(Image.open(io.BytesIO(content))) / 255
    return np.concatenate([np.split(row, columns, 1) for row in np.split(sheet, len(sheet) // 28)])


@pytest.fixture(scope="module")
def example() -> Example:
    return Example(2)


@pytest.mark.parametrize("latent_dim", [1, 2, 8])
def test_the_grid_holds_what_the_decoder_makes_of_the_plane(latent_dim):
    example = Example(latent_dim)
    found = example.data["models"]["aae"]
    assert len(found["names"]) == len(found["low"]) == min(latent_dim, 2)
    columns, rows = found["grid"]
    assert (columns, rows) == ((LINE, 1) if latent_dim == 1 else (GRID, GRID))
    sheet = read_sheet(found["decoded"], 25 if latent_dim == 1 else GRID)
    for i, j in ((0, 0), (7, 0), (3, rows - 1), (columns - 1, rows // 2)):
        position = [i / (columns - 1), j / max(1, rows - 1)]
        expected = example.decoded("aae", position)
        np.testing.assert_allclose(sheet[j * columns + i], expected, atol=ROUNDING)


def test_dots_are_codes_and_sheets_their_images(example):
    assert example.data["labels"] == example.test.labels.tolist()
    originals = read_sheet(example.data["originals"], 25)
    expected = example.test.images[:, 0].numpy() / 255
    np.testing.assert_allclose(originals[:60], expected, atol=ROUNDING)
    for name, model in example.models.items():
        found = example.data["models"][name]
        low, high = np.array(found["low"]), np.array(found["high"])
        np.testing.assert_allclose(
            low + (high - low) * np.array(found["dots"]), example.codes[name], atol=0.01
        )
        reconstructions = read_sheet(found["reconstructions"], 25)
        expected = model.decode(example.codes[name])[:, 0]
        np.testing.assert_allclose(reconstructions[:60], expected, atol=ROUNDING)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_each_category_of_a_decoder_has_a_grid_of_its_own(latent_dim):
    example = Example(latent_dim, use="decoder")
    found = example.data["models"]["aae"]
    assert found["choices"] == NAMES
    assert found["choice"] == "class"
    assert "choices" not in example.data["models"]["ae"]
    columns, rows = found["grid"]
    sheet = read_sheet(found["decoded"], 25 if latent_dim == 1 else columns)
    for category in range(3):
        for i, j in ((0, 0), (7, rows - 1), (columns - 1, rows // 2)):
            position = [i / (columns - 1), j / max(1, rows - 1)]
            index = category * columns * rows + j * columns + i
            expected = example.decoded("aae", position, category)
            np.testing.assert_allclose(sheet[index], expected, atol=ROUNDING)


@pytest.mark.parametrize("use", ["decoder", "semi-supervised", "clusters"])
def test_a_dot_has_its_own_category_and_the_reconstruction_of_it(use):
    example = Example(2, use=use)
    model, found = example.models["aae"], example.data["models"]["aae"]
    labels = example.test.labels
    if use != "decoder":
        labels = model.classify(example.test.images)
        assert len(set(found["chosen"])) > 1
    own = labels.argmax(1) if labels.ndim == 2 else labels
    assert found["chosen"] == own.tolist()
    assert found["choices"] == (["0", "1", "2"] if use == "clusters" else NAMES)
    expected = model.decode(example.codes["aae"], labels)[:, 0]
    reconstructions = read_sheet(found["reconstructions"], 25)[:60]
    np.testing.assert_allclose(reconstructions, expected, atol=ROUNDING)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-quic"]
        started = playwright.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


@pytest.fixture
def open_page(browser, make_params, tmp_path) -> Iterator:
    problems: list[str] = []
    context = browser.new_context(viewport={"width": 1200, "height": 900}, has_touch=True)

    png = io.BytesIO()
    Image.new("L", (1200, 400)).save(png, "png")

    def open_page(example: Example) -> Page:
        figures, metrics = dict.fromkeys(FIGURES, png.getvalue()), METRICS
        if not example.labelled:
            metrics = UNLABELLED_METRICS
            del figures["generated_classes"]
        params = make_params({"latent_dim": example.prior.latent_dim})
        html = render(metrics, PROVENANCE, figures, example.data, params, "c" * 64)
        path: Path = tmp_path / "report.html"
        path.write_text(html, encoding="utf-8")
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: (
                problems.append(request.url)
                if not request.url.startswith(("data:", path.as_uri()))
                else None
            ),
        )
        page.goto(path.as_uri())
        page.wait_for_selector("#explorer[data-ready]", state="attached")
        return page

    yield open_page
    context.close()
    assert problems == []


def shown(page: Page, selector: str) -> np.ndarray:
    """The image [28, 28] on a canvas, where 1 is black, as for the decoder."""
    address = page.locator(selector).evaluate("canvas => canvas.toDataURL()")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert (pixels[..., 3] == 255).all(), "nothing is drawn"
    return 1 - pixels[..., 0] / 255


def position(page: Page, name: str) -> list[float]:
    sliders = page.locator(f"#explore-{name} input")
    return [float(sliders.nth(k).input_value()) for k in range(sliders.count())]


def check_decoded(page: Page, example: Example, name: str) -> None:
    """Check that the image is decoded from the sliders' position, interpolated on the grid."""
    expected = example.decoded(name, position(page, name))
    # Sliders have steps of 0.005; the images of these decoders change slowly.
    np.testing.assert_allclose(shown(page, f"#explore-{name} .decoded"), expected, atol=0.06)


def test_the_pointer_decodes_where_it_is(open_page, example):
    page = open_page(example)
    for name in ("ae", "aae"):
        plane = page.locator(f"#explore-{name} svg")
        plane.scroll_into_view_if_needed()
        box = plane.bounding_box()
        before = shown(page, f"#explore-{name} .decoded")
        for share in ([0.2, 0.7], [0.9, 0.1]):
            x, y = box["x"] + share[0] * box["width"], box["y"] + (1 - share[1]) * box["height"]
            page.mouse.move(x, y)
            assert position(page, name) == pytest.approx(share, abs=0.006)
            check_decoded(page, example, name)
        assert np.abs(shown(page, f"#explore-{name} .decoded") - before).max() > 0.1
        low, high = (np.array(example.data["models"][name][end]) for end in ("low", "high"))
        code = low + (high - low) * [0.9, 0.1]
        text = page.locator(f"#explore-{name} output").inner_text()
        found = [float(value) for value in text.strip("()").split(",")]
        assert found == pytest.approx(code, abs=0.01 * (high - low).max())


def test_a_finger_decodes_where_it_is(open_page, example):
    page = open_page(example)
    plane = page.locator("#explore-aae svg")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    near = page.locator("#picked").is_visible()  # a tap on a dot moves to the dot
    assert position(page, "aae") == pytest.approx([0.25, 0.5], abs=0.04 if near else 0.006)
    check_decoded(page, example, "aae")


@pytest.mark.parametrize("name", ["ae", "aae"])
def test_arrow_keys_move_and_stop_at_the_edge(open_page, example, name):
    page = open_page(example)
    page.locator(f"#explore-{name} svg").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert position(page, name) == pytest.approx([0.51, 0.41], abs=0.006)
    check_decoded(page, example, name)
    for _ in range(8):
        page.keyboard.press("Shift+ArrowRight")
    assert position(page, name)[0] == 1
    check_decoded(page, example, name)


def test_sliders_can_be_used_by_keyboard(open_page, example):
    page = open_page(example)
    slider = page.locator("#explore-ae input").nth(1)
    slider.focus()
    page.keyboard.press("Home")
    assert position(page, "ae") == [0.5, 0.0]
    check_decoded(page, example, "ae")
    assert slider.get_attribute("aria-valuetext")


def check_picked(page: Page, example: Example, index: int) -> None:
    assert page.locator("#picked .class").inner_text() == NAMES[index % 3]
    original = example.test.images[index, 0].numpy() / 255
    np.testing.assert_allclose(shown(page, "#picked .original"), original, atol=ROUNDING)
    for name, model in example.models.items():
        expected = model.decode(example.codes[name][index : index + 1])[0, 0]
        np.testing.assert_allclose(shown(page, f"#picked .{name}"), expected, atol=ROUNDING)
        dots = example.data["models"][name]["dots"]
        assert position(page, name) == pytest.approx(dots[index], abs=0.006)


def test_a_click_on_a_dot_shows_the_image_and_both_reconstructions(open_page, example):
    page = open_page(example)
    assert not page.locator("#picked").is_visible()
    dots = np.array(example.data["models"]["ae"]["dots"])
    # The dot that is furthest from all others, so that the click is unambiguous.
    distances = np.linalg.norm(dots[:, None] - dots[None], axis=2) + 9 * np.eye(len(dots))
    inside = (np.abs(dots - 0.5) < 0.45).all(1)
    index = int((distances.min(1) * inside).argmax())
    page.locator("#explore-ae .dot").nth(index).click()
    check_picked(page, example, index)


def test_enter_picks_the_nearest_dot(open_page, example):
    page = open_page(example)
    page.locator("#explore-aae svg").focus()
    page.keyboard.press("Enter")
    dots = np.array(example.data["models"]["aae"]["dots"])
    check_picked(page, example, int(np.linalg.norm(dots - 0.5, axis=1).argmin()))


def test_a_class_can_be_shown_alone(open_page, example):
    page = open_page(example)
    button = page.locator("#classes button").nth(1)
    faint = page.locator("#explore-ae .dot.faint")
    button.focus()
    page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    assert faint.count() == 40
    titles = page.locator("#explore-ae .dot:not(.faint) title").all_text_contents()
    assert titles == ["one"] * 20
    page.locator("#explore-ae svg").focus()
    page.keyboard.press("Enter")
    assert page.locator("#picked .class").text_content() == "one"
    button.click()
    assert faint.count() == 0


def test_the_class_that_is_decoded_can_be_chosen_by_keyboard(open_page):
    example = Example(2, use="decoder")
    page = open_page(example)
    assert page.locator("#explore-ae select").count() == 0
    choice = page.locator("#explore-aae label select")
    images = [shown(page, "#explore-aae .decoded")]
    for category, key in enumerate((None, "ArrowDown", "ArrowDown")):
        if key:
            choice.focus()
            page.keyboard.press(key)
            images.append(shown(page, "#explore-aae .decoded"))
        assert choice.locator("option:checked").inner_text() == NAMES[category]
        expected = example.decoded("aae", position(page, "aae"), category)
        # The grid of each class is coarser than that of a decoder without classes.
        assert np.abs(images[-1] - expected).mean() < 0.03
        others = [x for x in range(3) if x != category]
        for other in others:
            wrong = example.decoded("aae", position(page, "aae"), other)
            assert np.abs(images[-1] - wrong).mean() > 0.03
    page.locator("#explore-aae svg").focus()
    page.keyboard.press("Enter")  # a dot has its own class
    dots = np.array(example.data["models"]["aae"]["dots"])
    index = int(np.linalg.norm(dots - 0.5, axis=1).argmin())
    assert choice.locator("option:checked").inner_text() == NAMES[index % 3]
    own = example.models["aae"].decode(
        example.codes["aae"][index : index + 1], example.test.labels[index : index + 1]
    )
    np.testing.assert_allclose(shown(page, "#picked .aae"), own[0, 0], atol=ROUNDING)


@pytest.mark.parametrize("latent_dim", [1, 8])
def test_other_dimensions_can_be_explored_too(open_page, latent_dim):
    example = Example(latent_dim)
    page = open_page(example)
    sliders = page.locator("#explore-aae input")
    assert sliders.count() == min(latent_dim, 2)
    before = shown(page, "#explore-aae .decoded")
    page.locator("#explore-aae svg").focus()
    page.keyboard.press("Shift+ArrowRight")
    assert np.abs(shown(page, "#explore-aae .decoded") - before).max() > 0.01
    if latent_dim == 1:
        check_decoded(page, example, "aae")
        cross = page.locator("#explore-aae .cross")
        before_up = cross.get_attribute("d")
        page.keyboard.press("ArrowUp")  # towards the line of another class
        assert cross.get_attribute("d") != before_up
    page.keyboard.press("Enter")
    assert page.locator("#picked").is_visible()


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_page_of_colour_images_without_labels_is_whole_and_says_nothing_of_classes(
    open_page, latent_dim
):
    example = Example(latent_dim, labelled=False)
    page = open_page(example)
    assert page.locator("#classes").count() == 0
    sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) == len(FIGURES) - 1
    assert all(sizes)
    page.locator("#explore-aae svg").focus()
    page.keyboard.press("Enter")
    dots = np.array(example.data["models"]["aae"]["dots"])
    index = int(np.linalg.norm(dots - 0.5, axis=1).argmin())
    originals = example.test.images[index : index + 1] / 255
    decoded = example.models["aae"].decode(example.codes["aae"][index : index + 1])
    # The decoded images are noise, which the sheet of compressed images shows less exactly.
    for selector, expected, error in (
        ("#picked .original", originals, 0.03),
        ("#picked .aae", decoded, 0.1),
        ("#explore-aae .decoded", decoded, 0.1),  # the explorer has moved to the code
    ):
        colours = in_colour(page, selector)
        assert colours.shape == (32, 48, 3), "shrunk to 48 pixels"
        small = F.interpolate(expected, (32, 48), mode="area")[0].permute(1, 2, 0)
        assert np.abs(colours - small.numpy()).mean() < error
    text = page.locator("body").inner_text()
    assert not re.findall(r".*\b(?:class|classes|None|nan|undefined)\b.*", text)
    assert "it has learnt to tell how far an image is rotated" in " ".join(text.split())
    found = page.locator("#explore-ae .dot").evaluate_all("dots => dots.map(x => x.outerHTML)")
    assert len(found) == 60
    assert all('fill="#' in dot and "<title" not in dot for dot in found)


def in_colour(page: Page, selector: str) -> np.ndarray:
    """The colours [H, W, 3] from 0 to 1 on a canvas."""
    address = page.locator(selector).evaluate("canvas => canvas.toDataURL()")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert (pixels[..., 3] == 255).all(), "nothing is drawn"
    return pixels[..., :3] / 255


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_is_never_wider_than_the_window(open_page, example, width):
    page = open_page(example)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_prior_that_is_narrower_than_a_step_leaves_finite_numbers():
    example = Example(1)
    spike = {"loc": [0.0137], "covariance_matrix": [[1e-10]]}
    narrow = make_distribution("MultivariateNormal", spike)
    data = explorer_data(example.models, example.codes, example.test, NAMES, Prior(narrow, 1))
    json.dumps(data, allow_nan=False)


def test_the_data_are_json(example):
    assert json.loads(json.dumps(example.data)) == example.data
