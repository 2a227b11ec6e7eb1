"""The figures, drawn with matplotlib.

One look throughout: the prior is black, the autoencoder's codes are orange, the adversarial
autoencoder's are blue, and every class keeps its colour.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from aae.evaluation import latent_histogram, visible_range
from aae.files import replacing
from aae.networks import Decoder, apply
from aae.priors import Prior
from aae.seeding import stream

COLOURS = {"ae": "#d95f02", "aae": "#1f78b4", "prior": "black"}
TITLES = {"ae": "Autoencoder", "aae": "Adversarial autoencoder"}
CLASS_COLOURS = mpl.colormaps["tab10"]
DPI = 110
# Panels of a histogram beyond these add no information that one can take in.
MAX_PANELS = 16
# Dots that a plane of codes can hold before they hide each other.
MAX_DOTS = 2000
# Points on each axis of the grid of prior quantiles.
GRID = 15


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, the same bytes for the same figure."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def to_array(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as RGB pixels [H, W, 3]."""
    figure.set_dpi(DPI)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3].copy()  # type: ignore[attr-defined]


def _figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    # Without pyplot there is no state between two figures, and no window.
    figure = Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def draw_latent_histograms(codes: dict[str, Tensor], prior: Prior) -> Figure:
    """Draw the codes' histogram against the prior's density, a panel for each dimension.

    Args:
        codes: codes [n, d] by model, "ae" or "aae".
        prior: the prior.
    """
    dimensions = min(prior.latent_dim, MAX_PANELS)
    columns = min(dimensions, 4)
    rows = -(-dimensions // columns)
    width, height = max(6.5, 3.2 * columns), 2.5 * rows * len(codes)
    # Margins by hand: matplotlib's layout engines take most of the time of a figure, and this one
    # is drawn again and again during a training.
    figure = _figure(width, height, layout=None)
    figure.subplots_adjust(
        left=0.6 / width, right=1 - 0.15 / width, bottom=0.5 / height, top=1 - 0.3 / height,
        wspace=0.25, hspace=0.4,
    )  # fmt: skip
    panels = figure.subplots(rows * len(codes), columns, squeeze=False)
    blocks = np.split(panels, len(codes))
    for block, (name, values) in zip(blocks, codes.items(), strict=True):
        bins = latent_histogram(values[:, :dimensions], prior)
        for panel, (dimension, own) in zip(block.flat, bins.groupby("dimension"), strict=False):
            _draw_histogram(panel, own, COLOURS[name])
            _draw_ends(panel, prior, int(dimension) - 1)
            panel.set_xlabel(f"code, dimension {dimension}")
        for unused in block.flat[dimensions:]:
            unused.set_axis_off()
        block[0, 0].set_title(TITLES[name], loc="left")
        block[0, 0].legend(fontsize="small")
        for panel in block[:, 0]:
            panel.set_ylabel("density")
    return figure


def _draw_histogram(axes: Axes, bins: pd.DataFrame, colour: str) -> None:
    edges = [*bins["low"], bins["high"].iloc[-1]]
    axes.stairs(bins["codes"], edges, fill=True, color=colour, alpha=0.6, label="codes")
    centres = (bins["low"] + bins["high"]) / 2
    axes.plot(centres, bins["prior"], color=COLOURS["prior"], label="prior")


def _draw_ends(axes: Axes, prior: Prior, dimension: int) -> None:
    """Mark where the support of the prior ends, if it does."""
    for end in prior.support:
        if end[dimension].isfinite():
            axes.axvline(
                end[dimension].item(), color=COLOURS["prior"], linewidth=0.8, linestyle=":"
            )


def draw_codes_by_class(
    codes: dict[str, Tensor], labels: Tensor, class_names: Sequence[str], prior: Prior
) -> Figure:
    """Draw the codes in the plane, coloured by class, over samples of the prior.

    One-dimensional codes get a line for each class; of more than two dimensions, the plane of the
    two leading principal components is shown.

    Args:
        codes: codes [n, d] by model.
        labels: classes [n].
        class_names: names of the classes.
        prior: the prior.
    """
    figure = _figure(11, 5)
    panels = figure.subplots(1, len(codes), squeeze=False)[0]
    prior_samples = prior.sample(MAX_DOTS, stream(0, "prior samples for figures"))
    dots = labels[:MAX_DOTS]
    for axes, (name, values) in zip(panels, codes.items(), strict=True):
        plane, background = values[:MAX_DOTS].numpy(), prior_samples.numpy()
        if prior.latent_dim == 1:
            # Each class on its own line, the prior on the one below.
            plane = np.column_stack([plane, dots.numpy() + _jitter(len(plane))])
            background = np.column_stack([background, _jitter(len(background)) - 1])
            axes.set(xlabel="code", ylabel="class", yticks=range(-1, len(class_names)))
            axes.set_yticklabels(["prior", *class_names])
        elif prior.latent_dim == 2:
            axes.set(xlabel="code, dimension 1", ylabel="code, dimension 2", aspect="equal")
            low, high = visible_range(values, prior)
            margin = 0.05 * (high - low)
            limits = torch.stack([low - margin, high + margin], dim=1).tolist()
            axes.set(xlim=limits[0], ylim=limits[1])
        else:
            from sklearn.decomposition import PCA  # takes a second to load, rarely needed

            components = PCA(2, svd_solver="full").fit(values.numpy())
            plane, background = components.transform(plane), components.transform(background)
            axes.set(xlabel="first component", ylabel="second component", aspect="equal")
        axes.scatter(*background.T, s=3, color=COLOURS["prior"], alpha=0.15, linewidths=0)
        for label, class_name in enumerate(class_names):
            own = plane[(dots == label).numpy()]
            axes.scatter(*own.T, s=6, color=CLASS_COLOURS(label % 10), label=class_name)
        axes.set_title(TITLES[name])
        axes.set_anchor("N")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", title="class", markerscale=2)
    return figure


def _jitter(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(-0.3, 0.3, count)


def draw_losses(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw the losses by epoch: reconstruction of every model, then discriminator and generator.

    Args:
        histories: the history of each model, as its training wrote it.
    """
    figure = _figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    for name, history in histories.items():
        _draw_loss(left, history, "reconstruction_loss", COLOURS[name], TITLES[name])
    left.set(xlabel="epoch", ylabel="mean squared error per pixel", title="Reconstruction")
    history = histories["aae"]
    equilibria = {"discriminator": 2 * np.log(2), "generator": np.log(2)}
    for (name, value), colour in zip(equilibria.items(), ("#7570b3", "#1b9e77"), strict=True):
        right.axhline(value, color="grey", linewidth=0.8, linestyle=":")
        _draw_loss(right, history, f"{name}_loss", colour, name.capitalize())
    right.set(xlabel="epoch", ylabel="cross-entropy in nats", title="Regularisation")
    right.plot([], [], color="grey", linewidth=0.8, linestyle=":", label="equilibrium")
    for axes in (left, right):
        axes.legend(fontsize="small")
    return figure


def _draw_loss(axes: Axes, history: pd.DataFrame, name: str, colour: str, label: str) -> None:
    axes.plot(history["epoch"], history[name], color=colour, label=label)
    validation = history[f"validation_{name}"]
    axes.plot(
        history["epoch"], validation, color=colour, linestyle="--", label=f"{label}, validation"
    )


def draw_reconstructions(
    originals: Tensor, reconstructions: dict[str, Tensor], class_names: Sequence[str]
) -> Figure:
    """Draw images in the first row, and below them what each model makes of their codes.

    Args:
        originals: images [k, C, H, W] from 0 to 1.
        reconstructions: images of the same shape by model.
        class_names: name of the class of each image.
    """
    rows = {"Original": originals} | {TITLES[name]: x for name, x in reconstructions.items()}
    figure = _figure(0.9 * len(originals) + 1.6, 1.0 * len(rows) + 0.4)
    panels = figure.subplots(len(rows), len(originals), squeeze=False)
    for line, (title, images) in zip(panels, rows.items(), strict=True):
        line[0].set_ylabel(title.replace(" ", "\n"), rotation=0, ha="right", va="center")
        for axes, image in zip(line, images, strict=True):
            _show(axes, image)
    for axes, class_name in zip(panels[0], class_names, strict=True):
        axes.set_title(class_name, fontsize="small")
    return figure


def draw_decoded_prior(decoders: dict[str, Decoder], prior: Prior) -> Figure:
    """Draw what each decoder makes of the prior.

    In two dimensions on a grid of the prior's quantiles (:meth:`aae.priors.Prior.grid`), from the
    lowest at the bottom left; in one along its quantiles, line by line; in more of samples of the
    prior, the same for each model.

    Args:
        decoders: decoder by model.
        prior: the prior.
    """
    if prior.latent_dim <= 2:
        codes = prior.grid(GRID)
    else:
        codes = prior.sample(GRID**2, stream(0, "decoded prior samples for figures"))
    figure = _figure(11, 5.8)
    panels = figure.subplots(1, len(decoders), squeeze=False)[0]
    for axes, (name, decoder) in zip(panels, decoders.items(), strict=True):
        images = apply(decoder, codes).unflatten(0, (GRID, GRID))  # [i, j, C, H, W]
        if prior.latent_dim == 2:
            images = images.transpose(0, 1).flip(0)  # dimension 1 to the right, 2 upwards
        _show(axes, images.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3))
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


def _show(axes: Axes, image: Tensor) -> None:
    """Show an image [C, H, W] from 0 to 1, black on white where it has one channel."""
    channels_last = image.permute(1, 2, 0)
    if channels_last.shape[-1] == 1:
        channels_last = channels_last.squeeze(-1)
    axes.imshow(channels_last.numpy(), cmap="Greys", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
