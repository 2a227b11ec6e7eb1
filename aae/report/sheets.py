"""Figures of images: originals, reconstructions and decoded prior samples."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from aae.models import Model
from aae.priors import Prior
from aae.report.figures import Figure, new_figure
from aae.report.titles import TITLES, short
from aae.seeding import stream

# Number of points on each axis of the grid of prior quantiles.
GRID = 15
# The width of an image, divided by this, is the margin on either side of it.
MARGIN = 10
# Width in inches of an image in a grid, and the largest number of columns.
COLUMN, MOST_COLUMNS = 0.55, 30
# Smallest and largest height of an image in a row as a multiple of the width that it takes.
FLATTEST, STEEPEST = 0.5, 2.0


def draw_reconstructions(
    originals: Tensor, reconstructions: Mapping[str, Tensor], names: Sequence[str]
) -> Figure:
    """Draw images in the first row, and the reconstructions by each model below them.

    Args:
        originals: images [k, C, H, W] from 0 to 1.
        reconstructions: images of the same shape by model.
        names: name of the class of each image; empty without labels.
    """
    rows = {"Original": originals} | {TITLES[name]: x for name, x in reconstructions.items()}
    return draw_rows(rows, {"Original": names} if names else None)


def draw_rows(
    rows: Mapping[str, Tensor], captions: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """Draw rows of images, each with a title.

    Args:
        rows: images [k, C, H, W] from 0 to 1 by title.
        captions: captions below the images of a row, by its title.
    """
    count, channels, *size = next(iter(rows.values())).shape
    narrowest = math.ceil(size[0] / STEEPEST)  # captions need this space below a narrow image
    margin = max(1, size[1] // MARGIN, (narrowest - size[1]) // 2)
    width = size[1] + 2 * margin
    # An inch suits a square image, which with its margins is wider than high.
    row_height = max(FLATTEST, min(1.0, 1.2 * size[0] / size[1]), 0.9 * size[0] / width)
    figure = new_figure(0.9 * count + 1.6, row_height * len(rows) + 0.2 * len(captions or ()))
    # One panel for a whole row, because panels take most of the time of a figure.
    panels = figure.subplots(len(rows), squeeze=False)[:, 0]
    for axes, (title, images) in zip(panels, rows.items(), strict=True):
        # The margins are white: 0 in images of one channel, which are drawn black on white.
        padded = F.pad(images, (margin, margin), value=0.0 if channels == 1 else 1.0)
        show_image(axes, padded.permute(1, 2, 0, 3).flatten(2))
        axes.set_ylabel(title.replace(" ", "\n"), rotation=0, ha="right", va="center")
        if captions and title in captions:
            centres = [width * (k + 0.5) - 0.5 for k in range(count)]
            axes.set_xticks(centres, captions[title], fontsize="small")
            axes.tick_params(length=0)
    return figure


def draw_grid(images: Tensor, rows: Sequence[str], columns: Sequence[str], xlabel: str) -> Figure:
    """Draw a grid of images with a column for each category.

    Args:
        images: images [r, k, C, H, W] from 0 to 1.
        rows: names of the rows.
        columns: names of the columns.
        xlabel: what the columns are.
    """
    (count, across, _, *size), names = images.shape, [short(name) for name in columns]
    steepness = max(FLATTEST, min(STEEPEST, size[0] / size[1]))
    row_height = COLUMN * steepness
    figure = new_figure(max(3.0, COLUMN * across + 1.2), max(2.0, row_height * count + 0.9))
    axes = figure.subplots()
    show_image(axes, images.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3))
    for axis, titles, side in ((axes.yaxis, rows, size[0]), (axes.xaxis, names, size[1])):
        axis.set_ticks([side * (k + 0.5) - 0.5 for k in range(len(titles))], titles)
    axes.tick_params(length=0)
    if max(map(len, names)) > 5:
        axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel(xlabel)
    return figure


def decode_samples(model: Model, samples: Tensor) -> Tensor:
    """Return the images [n, C, H, W] that a model decodes from prior samples [n, d].

    A decoder that takes categories gets samples of their prior, always the same.
    """
    return model.decode(samples, model.draw_labels(len(samples), stream(0, "labels to decode")))


def draw_decoded_prior(models: Mapping[str, Model], prior: Prior) -> Figure:
    """Draw the images that each model decodes from the prior.

    In two dimensions, the codes are a grid of the prior's quantiles
    (:meth:`aae.priors.prior.Prior.grid`), with the lowest at the bottom left. In one dimension they
    are its quantiles, row by row. In more dimensions they are prior samples, the same for each
    model.

    Args:
        models: the models.
        prior: the prior.
    """
    if prior.latent_dim <= 2:
        codes = prior.grid(GRID)
    else:
        codes = prior.sample(GRID**2, stream(0, "decoded prior samples for figures"))
    figure = new_figure(11, 5.8)
    panels = figure.subplots(1, len(models), squeeze=False)[0]
    for axes, (name, model) in zip(panels, models.items(), strict=True):
        images = decode_samples(model, codes).unflatten(0, (GRID, GRID))  # [i, j, C, H, W]
        if prior.latent_dim == 2:
            images = images.transpose(0, 1).flip(0)  # dimension 1 to the right, 2 upwards
        show_image(axes, images.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3))
        axes.set_title(TITLES[name])
        if prior.latent_dim == 2:
            axes.set(xlabel="quantile, dimension 1", ylabel="quantile, dimension 2")
            height, width = (GRID * side for side in images.shape[-2:])
            names = ["0", "½", "1"]
            axes.set_xticks([0, width / 2, width], names)
            axes.set_yticks([0, height / 2, height], names[::-1])
        elif prior.latent_dim == 1:
            axes.set(xlabel="quantiles from 0 (top left) to 1 (bottom right)")
        else:
            axes.set(xlabel="samples of the prior")
    return figure


def show_image(axes: Any, image: Tensor) -> None:
    """Show an image [C, H, W] from 0 to 1, black on white if it has one channel."""
    channels_last = image.permute(1, 2, 0)
    if channels_last.shape[-1] == 1:
        channels_last = channels_last.squeeze(-1)
    axes.imshow(channels_last.numpy(), cmap="Greys", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
