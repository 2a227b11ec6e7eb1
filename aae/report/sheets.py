"""Figures of images: originals, reconstructions and decoded prior samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from aae.models import Model
from aae.priors import Prior
from aae.report.figures import Figure, new_figure
from aae.report.titles import TITLES
from aae.seeding import stream

# Number of points on each axis of the grid of prior quantiles.
GRID = 15
# The width of an image, divided by this, is the margin on either side of it.
MARGIN = 10


def draw_reconstructions(
    originals: Tensor, reconstructions: Mapping[str, Tensor], class_names: Sequence[str]
) -> Figure:
    """Draw images in the first row, and the reconstructions by each model below them.

    Args:
        originals: images [k, C, H, W] from 0 to 1.
        reconstructions: images of the same shape by model.
        class_names: name of the class of each image.
    """
    rows = {"Original": originals} | {TITLES[name]: x for name, x in reconstructions.items()}
    return draw_rows(rows, {"Original": class_names})


def draw_rows(
    rows: Mapping[str, Tensor], captions: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """Draw rows of images, each with a title.

    Args:
        rows: images [k, C, H, W] from 0 to 1 by title.
        captions: captions below the images of a row, by its title.
    """
    count = len(next(iter(rows.values())))
    height = len(rows) + 0.2 * len(captions or ())
    figure = new_figure(0.9 * count + 1.6, height)
    # One panel for a whole row, because panels take most of the time of a figure.
    panels = figure.subplots(len(rows), squeeze=False)[:, 0]
    for axes, (title, images) in zip(panels, rows.items(), strict=True):
        margin = images.shape[-1] // MARGIN
        width = images.shape[-1] + 2 * margin
        padded = F.pad(images, (margin, margin))
        show_image(axes, padded.permute(1, 2, 0, 3).flatten(2))
        axes.set_ylabel(title.replace(" ", "\n"), rotation=0, ha="right", va="center")
        if captions and title in captions:
            centres = [width * (k + 0.5) - 0.5 for k in range(count)]
            axes.set_xticks(centres, captions[title], fontsize="small")
            axes.tick_params(length=0)
    return figure


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
        images = model.decode(codes).unflatten(0, (GRID, GRID))  # [i, j, C, H, W]
        if prior.latent_dim == 2:
            images = images.transpose(0, 1).flip(0)  # dimension 1 to the right, 2 upwards
        show_image(axes, images.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3))
        axes.set_title(TITLES[name])
        if prior.latent_dim == 2:
            axes.set(xlabel="quantile, dimension 1", ylabel="quantile, dimension 2")
            edge = GRID * images.shape[-1]
            ticks, names = [0, edge / 2, edge], ["0", "½", "1"]
            axes.set_xticks(ticks, names)
            axes.set_yticks(ticks, names[::-1])
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
