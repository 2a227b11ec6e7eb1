"""The data of the page's latent explorer, computed in advance, since its script has no decoder.

Each model has a grid of decoded images over the plane of its codes; the script interpolates between
them. Positions are shares of the plane's width and height, from the bottom left.

A decoder that takes categories has such a grid for each of them, with fewer images; they follow one
another on the same sheet.

Colour images and large ones would make the page too large. They are shrunk, there are fewer of
them, and their sheets are compressed with losses.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from aae.data import Images
from aae.models import Model
from aae.models.categories import Categories
from aae.models.networks import pixels
from aae.priors import Prior
from aae.report.figures import class_colours, contour_lines
from aae.report.plane import Plane, plane_density
from aae.report.titles import TITLES, category_word, spread
from aae.seeding import stream

# Decoded images along each side of a plane, and along a line of one-dimensional codes.
GRID, LINE = 40, 400
# Decoded images of all categories together, as a multiple of those of a decoder without them; the
# largest number of categories that can be chosen; the fewest images along a side of their planes.
EXTRA, MOST_CATEGORIES, SHORTEST = 1.5, 30, 4
# Number of test images that are shown as dots.
DOTS = 500
# Number of grey levels of the images, small enough to keep the page small.
LEVELS = 32
# Number of images in a row of a sheet.
COLUMNS = 25
# Grey images of at most this many pixels are shown as they are.
SMALL = 32 * 32
# Largest height or width in pixels of all other images.
LARGEST = 48
# Qualities, from 0 to 95, of their sheets in the format JPEG. The second and third are for noise,
# of which an image would otherwise take more than these bytes on average.
QUALITIES = (75, 50, 25)
MOST_BYTES = 2000


@dataclass(frozen=True)
class Format:
    """How images are shown.

    Attributes:
        grid: decoded images along each side of a plane.
        line: decoded images along a line of one-dimensional codes.
        dots: number of test images.
        size: height and width of the images in pixels.
        lossless: whether sheets are PNG files with :data:`LEVELS` levels, or JPEG files.
    """

    grid: int
    line: int
    dots: int
    size: tuple[int, int]
    lossless: bool

    def for_each_of(self, categories: int) -> "Format":
        """Return a format with fewer decoded images, of which each of some categories has a set."""
        share = EXTRA / categories
        side = max(SHORTEST, int(self.grid * share**0.5))
        return replace(self, grid=side, line=max(SHORTEST**2, int(self.line * share)))


def choose_format(image_shape: Sequence[int]) -> Format:
    """Return the format for images of a shape: channels, height, width."""
    channels, height, width = image_shape
    if channels == 1 and height * width <= SMALL:
        return Format(GRID, LINE, DOTS, (height, width), lossless=True)
    scale = min(1.0, LARGEST / max(height, width))
    size = (max(1, round(scale * height)), max(1, round(scale * width)))
    return Format(GRID // 2, LINE // 2, DOTS // 2, size, lossless=False)


def explorer_data(
    models: Mapping[str, Model],
    codes: Mapping[str, Tensor],
    test: Images,
    class_names: Sequence[str],
    prior: Prior,
) -> dict:
    """Return the data of the explorer as JSON values.

    Args:
        models: the models.
        codes: codes of the test images by model.
        test: the test images.
        class_names: names of the classes; empty without labels.
        prior: the prior.

    Returns:
        ``image_size`` is height, width and, for colour images, 3. Without labels, ``class_names``
        and ``labels`` are empty, and ``colours`` has one colour for all dots. A model whose decoder
        takes categories also has what :func:`_choices` returns.
    """
    channels = test.images.shape[1]
    style = choose_format(test.images.shape[1:])
    chosen = torch.randperm(len(test), generator=stream(0, "dots of the explorer"))
    chosen = chosen[: style.dots].sort().values
    shown = test[chosen]
    return {
        "image_size": [*style.size] if channels == 1 else [*style.size, channels],
        "columns": COLUMNS,
        "class_names": list(class_names),
        "colours": class_colours(len(class_names)),
        "labels": [] if shown.labels is None else shown.labels.tolist(),
        "originals": _sheet(pixels(shown.images), COLUMNS, style),
        "models": {
            name: _explore(model, codes[name], chosen, test, prior, style) | {"title": TITLES[name]}
            for name, model in models.items()
        },
    }


def _explore(
    model: Model,
    codes: Tensor,
    chosen: Tensor,
    test: Images,
    prior: Prior,
    style: Format,
) -> dict:
    """Return the plane of the codes [n, d] of test images, of which the chosen [k] have dots."""
    plane, dots, shown = Plane(codes), codes[chosen], test[chosen]
    low, high = plane.limits(codes, prior)
    positions = (plane.coordinates(dots) - low) / (high - low)
    categories = model.architecture.categories
    own = model.labels_of(shown.images, shown.labels)
    offered = spread(range(categories.to_decoder), MOST_CATEGORIES)
    if offered:
        style = style.for_each_of(len(offered))
    if prior.latent_dim == 1:
        steps = torch.linspace(0, 1, style.line)[:, None]
        # Each class has a separate line; the density of the prior is a curve.
        rows = torch.zeros(len(dots), 1) if shown.labels is None else shown.labels[:, None]
        lines = (rows + 0.5) / (int(rows.max()) + 1)
        positions = torch.cat([positions, lines], dim=1)
        edges = low + (high - low) * (torch.arange(style.line + 1) - 0.5) / (style.line - 1)
        heights = prior.bin_densities(edges, 0)
        # The density of a prior that is narrower than a step may be 0 at all steps.
        highest = heights.max().clamp(min=1e-30)
        curves = [torch.stack([steps[:, 0], 0.95 * heights / highest], dim=1)]
        grid = [style.line, 1]
    else:
        side = torch.linspace(0, 1, style.grid)
        steps = torch.cartesian_prod(side, side).flip(1)  # row by row, from the bottom
        density = plane_density(prior, plane, low, high)
        curves = [
            (torch.from_numpy(line).float() - low) / (high - low) for line in contour_lines(density)
        ]
        grid = [style.grid, style.grid]
    places = plane.codes(low + (high - low) * steps)
    decoded = model.decode(
        places.repeat(max(1, len(offered)), 1),
        torch.tensor(offered).repeat_interleave(len(places)) if offered else None,
    )
    return {
        "names": plane.names,
        "low": _rounded(low),
        "high": _rounded(high),
        "grid": grid,
        "decoded": _sheet(decoded, COLUMNS if prior.latent_dim == 1 else style.grid, style),
        "dots": _rounded(positions),
        "curves": [_rounded(curve) for curve in curves],
        "reconstructions": _sheet(model.decode(dots, own), COLUMNS, style),
        **({} if own is None else _choices(own, offered, categories)),
    }


def _choices(probabilities: Tensor, offered: list[int], categories: Categories) -> dict:
    """Return what can be chosen beside a position, for a decoder that takes categories.

    Args:
        probabilities: probabilities [k, K] of the categories of the images that have dots.
        offered: the categories that can be chosen.
        categories: what the categories are.

    Returns:
        ``choice``: whether it is a class or a cluster; ``choices``: the names; ``chosen``: for each
        of the images, the index of its own category among these, or None if it is not offered.
    """
    names, own = categories.titles, probabilities.argmax(1).tolist()
    return {
        "choice": category_word(categories),
        "choices": [names[number] for number in offered],
        "chosen": [offered.index(number) if number in offered else None for number in own],
    }


def _sheet(images: Tensor, columns: int, style: Format) -> str:
    """Return the data URL of one picture with images [N, C, H, W] from 0 to 1, row by row."""
    if images.shape[2:] != style.size:
        images = F.interpolate(images, style.size, mode="area")
    missing = -len(images) % columns
    padded = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
    if style.lossless:
        padded = (padded * (LEVELS - 1)).round() / (LEVELS - 1)
    sheet = (padded * 255).round().to(torch.uint8).unflatten(0, (-1, columns))
    pixel_rows = sheet.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # [H·rows, W·columns, C]
    file = io.BytesIO()
    picture = Image.fromarray(pixel_rows.squeeze(-1).numpy())
    if style.lossless:
        picture.save(file, "PNG", optimize=True)
    else:
        for quality in QUALITIES:
            file = io.BytesIO()
            # Without subsampling, the colours of an image do not run into its neighbours.
            picture.save(file, "JPEG", quality=quality, subsampling=0)
            if len(file.getvalue()) <= MOST_BYTES * len(images):
                break
    kind = "png" if style.lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _rounded(values: Tensor) -> list:
    # Four digits after the decimal point resolve less than a pixel, and keep the page small.
    return (values.double() * 1e4).round().div(1e4).tolist()
