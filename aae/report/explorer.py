"""The data of the page's latent explorer, computed in advance, since its script has no decoder.

Each model has a grid of decoded images over the plane of its codes; the script interpolates between
them. Positions are shares of the plane's width and height, from the bottom left.
"""

import base64
import io
from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from aae.data import Images
from aae.models import Model
from aae.models.networks import pixels
from aae.priors import Prior
from aae.report.figures import CLASS_COLOURS, contour_lines
from aae.report.plane import Plane, plane_density
from aae.report.titles import TITLES
from aae.seeding import stream

# Decoded images along each side of a plane, and along a line of one-dimensional codes.
GRID, LINE = 40, 400
# Number of test images that are shown as dots.
DOTS = 500
# Number of grey levels of the images, small enough to keep the page small.
LEVELS = 32
# Number of images in a row of a sheet.
COLUMNS = 25


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
        class_names: names of the classes.
        prior: the prior.
    """
    chosen = torch.randperm(len(test), generator=stream(0, "dots of the explorer"))
    chosen = chosen[:DOTS].sort().values
    shown = test[chosen]
    return {
        "image_size": list(test.images.shape[2:]),
        "columns": COLUMNS,
        "class_names": list(class_names),
        "colours": [CLASS_COLOURS[k % 10] for k in range(len(class_names))],
        "labels": shown.labels.tolist(),
        "originals": _sheet(pixels(shown.images), COLUMNS),
        "models": {
            name: _explore(model, codes[name], codes[name][chosen], shown.labels, prior)
            | {"title": TITLES[name]}
            for name, model in models.items()
        },
    }


def _explore(model: Model, codes: Tensor, shown: Tensor, labels: Tensor, prior: Prior) -> dict:
    plane = Plane(codes)
    low, high = plane.limits(codes, prior)
    positions = (plane.coordinates(shown) - low) / (high - low)
    if prior.latent_dim == 1:
        steps = torch.linspace(0, 1, LINE)[:, None]
        # Each class has a separate line; the density of the prior is a curve.
        lines = (labels[:, None] + 0.5) / (int(labels.max()) + 1)
        positions = torch.cat([positions, lines], dim=1)
        edges = low + (high - low) * (torch.arange(LINE + 1) - 0.5) / (LINE - 1)
        heights = prior.bin_densities(edges, 0)
        # The density of a prior that is narrower than a step may be 0 at all steps.
        highest = heights.max().clamp(min=1e-30)
        curves = [torch.stack([steps[:, 0], 0.95 * heights / highest], dim=1)]
        grid = [LINE, 1]
    else:
        side = torch.linspace(0, 1, GRID)
        steps = torch.cartesian_prod(side, side).flip(1)  # row by row, from the bottom
        density = plane_density(prior, plane, low, high)
        curves = [
            (torch.from_numpy(line).float() - low) / (high - low) for line in contour_lines(density)
        ]
        grid = [GRID, GRID]
    decoded = model.decode(plane.codes(low + (high - low) * steps))
    return {
        "names": plane.names,
        "low": _rounded(low),
        "high": _rounded(high),
        "grid": grid,
        "decoded": _sheet(decoded, COLUMNS if prior.latent_dim == 1 else GRID),
        "dots": _rounded(positions),
        "curves": [_rounded(curve) for curve in curves],
        "reconstructions": _sheet(model.decode(shown), COLUMNS),
    }


def _sheet(images: Tensor, columns: int) -> str:
    """Return the data URL of one PNG with images [N, C, H, W] from 0 to 1, row by row."""
    missing = -len(images) % columns
    padded = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
    levels = (padded * (LEVELS - 1)).round() / (LEVELS - 1) * 255
    sheet = levels.round().to(torch.uint8).unflatten(0, (-1, columns))
    pixel_rows = sheet.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # [H·rows, W·columns, C]
    file = io.BytesIO()
    Image.fromarray(pixel_rows.squeeze(-1).numpy()).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _rounded(values: Tensor) -> list:
    # Four digits after the decimal point resolve less than a pixel, and keep the page small.
    return (values.double() * 1e4).round().div(1e4).tolist()
