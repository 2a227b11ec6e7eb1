"""Figures of codes, prior and losses, drawn with matplotlib.

All figures use the same colours: the prior is black, and in a plane has contours; every model and
every class has a separate colour.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.colors
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from torch import Tensor

from aae.evaluation.histograms import latent_histogram
from aae.priors import Prior
from aae.report.plane import Plane, PlaneDensity, plane_density
from aae.report.titles import COLOURS, MAX_CLASSES, TITLES, short, spread
from aae.seeding import stream

PRIOR_COLOUR = "black"
# People with colour vision deficiencies can tell these colours apart: https://arxiv.org/abs/2107.02270
CLASS_COLOURS = [mpl.colors.to_hex(colour) for colour in mpl.color_sequences["petroff10"]]
# A dollar sign in the name of a class must not start a formula.
mpl.rcParams["text.parse_math"] = False
DPI = 110
# Nobody can read more panels of histograms than these.
MAX_PANELS = 16
MAX_TRAINING_DIMENSIONS = 4
# Side of a cell of a table in inches, and of a table with many cells, which then have no numbers.
LARGEST_CELL, MOST_INCHES = 0.38, 12.0
# Nobody can read more names at a side of a table than these.
MOST_NAMES = 30
# More dots than these would hide each other in a plane of codes.
MAX_DOTS = 2000
# The losses at the equilibrium, where the discriminator cannot tell codes from prior samples and
# guesses. The discriminator's loss is the sum of two cross-entropies.
EQUILIBRIA = {
    "discriminator_loss": 2 * np.log(2), "generator_loss": np.log(2),
    "category_discriminator_loss": 2 * np.log(2), "category_generator_loss": np.log(2),
}  # fmt: skip
LOSS_COLOURS = ("#7570b3", "#1b9e77", "#e7298a", "#66a61e", "#a6761d")


def class_colours(count: int) -> list[str]:
    """Return a colour for each of some classes, or one colour if there are no classes.

    More than ten colours can no longer be told apart: classes that are near to each other in order
    then have similar colours.
    """
    if count <= len(CLASS_COLOURS):
        return CLASS_COLOURS[: max(1, count)]
    return [mpl.colors.to_hex(mpl.colormaps["turbo"](k / (count - 1))) for k in range(count)]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG; the same figure gives the same bytes."""
    with warnings.catch_warnings():
        # matplotlib's font lacks most of the world's characters, and draws boxes instead.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, dpi=DPI)


def to_array(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as RGB pixels [H, W, 3]."""
    figure.set_dpi(DPI)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3].copy()  # type: ignore[attr-defined]


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """Return an empty figure of a size in inches."""
    # pyplot would share state between figures and might open windows.
    figure = Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def draw_latent_histograms(codes: dict[str, Tensor], prior: Prior) -> Figure:
    """Draw histograms of the codes and the density of the prior, one panel for each dimension.

    Args:
        codes: codes [n, d] by model.
        prior: the prior.
    """
    dimensions = min(prior.latent_dim, MAX_PANELS)
    columns = min(dimensions, 4)
    rows = -(-dimensions // columns)
    width, height = max(6.5, 3.2 * columns), 2.5 * rows * len(codes)
    # The margins are set by hand: matplotlib's layout engines would take most of the time, and a
    # training draws this figure many times.
    figure = new_figure(width, height, layout=None)
    figure.subplots_adjust(
        left=0.6 / width, right=1 - 0.15 / width, bottom=0.5 / height, top=1 - 0.3 / height,
        wspace=0.25, hspace=0.4,
    )  # fmt: skip
    panels = figure.subplots(rows * len(codes), columns, squeeze=False)
    blocks = np.split(panels, len(codes))
    for block, (name, values) in zip(blocks, codes.items(), strict=True):
        bins = latent_histogram(values[:, :dimensions], prior)
        for panel, (dimension, own) in zip(block.flat, bins.groupby("dimension"), strict=False):
            _draw_histogram(panel, own, prior, COLOURS[name])
            panel.set_xlabel(f"code, dimension {dimension}")
        for unused in block.flat[dimensions:]:
            unused.set_axis_off()
        block[0, 0].set_title(TITLES[name], loc="left")
        block[0, 0].legend(fontsize="small")
        for panel in block[:, 0]:
            panel.set_ylabel("density")
    return figure


def draw_training_histograms(histograms: pd.DataFrame, prior: Prior) -> Figure:
    """Draw histograms of the codes after some epochs of a training.

    Args:
        histograms: bins of :func:`aae.evaluation.histograms.latent_histogram`, with their "epoch".
        prior: the prior.
    """
    epochs = histograms["epoch"].unique()
    shown = histograms[histograms["dimension"] <= MAX_TRAINING_DIMENSIONS]
    dimensions = shown["dimension"].unique()
    figure = new_figure(3.2 * len(dimensions) + 0.6, 1.2 * len(epochs) + 0.6)
    panels = figure.subplots(len(epochs), len(dimensions), squeeze=False, sharex="col")
    for line, epoch in zip(panels, epochs, strict=True):
        line[0].set_ylabel(f"epoch {epoch}")
        for axes, dimension in zip(line, dimensions, strict=True):
            own = shown[(shown["epoch"] == epoch) & (shown["dimension"] == dimension)]
            _draw_histogram(axes, own, prior, COLOURS["aae"])
            axes.set_yticks([])
    for axes, dimension in zip(panels[-1], dimensions, strict=True):
        axes.set_xlabel(f"code, dimension {dimension}")
    panels[0, 0].legend(fontsize="small")
    return figure


def _draw_histogram(
    axes: Axes, bins: pd.DataFrame, prior: Prior, colour: str, label: str = "codes"
) -> None:
    """Draw one dimension: a histogram, the density of the prior, and the ends of its support."""
    edges = [*bins["low"], bins["high"].iloc[-1]]
    axes.stairs(bins["codes"], edges, fill=True, color=colour, alpha=0.6, label=label)
    centres = (bins["low"] + bins["high"]) / 2
    axes.plot(centres, bins["prior"], color=PRIOR_COLOUR, label="prior")
    for ends in prior.support:
        end = ends[bins["dimension"].iloc[0] - 1].item()
        if math.isfinite(end):
            axes.axvline(end, color=PRIOR_COLOUR, linewidth=0.8, linestyle=":")


def draw_codes_by_class(
    codes: dict[str, Tensor],
    labels: Tensor | None,
    class_names: Sequence[str],
    prior: Prior | None,
) -> Figure:
    """Draw the codes in the plane, coloured by class, with contours of the prior.

    One-dimensional codes are drawn with one line for each class. For more than two dimensions see
    :class:`aae.report.plane.Plane`. The legend names at most :data:`aae.report.titles.MAX_CLASSES`
    classes.

    Args:
        codes: codes [n, d] by model.
        labels: classes [n]; None without labels, when all codes have one colour.
        class_names: names of the classes; empty without labels.
        prior: the prior; None for a figure without it.
    """
    figure = new_figure(5.5 * len(codes), 5)
    panels = figure.subplots(1, len(codes), squeeze=False)[0]
    colours = class_colours(len(class_names))
    dots = torch.zeros(MAX_DOTS) if labels is None else labels
    named = spread(range(len(class_names)), MAX_CLASSES)
    names = [short(class_names[label]) for label in named]
    for axes, (name, values) in zip(panels, codes.items(), strict=True):
        plane = Plane(values)
        drawn = plane.coordinates(values[:MAX_DOTS]).numpy()
        if values.shape[1] == 1:
            # Each class has a separate line; the prior is on the line below them.
            lines = dots[: len(drawn)].numpy() + _jitter(len(drawn))
            drawn = np.column_stack([drawn, lines])
            axes.set(xlabel="code", ylabel="class" if names else "", yticks=[-1, *named])
            axes.set_yticklabels(["prior" if prior else "", *names])
        else:
            axes.set(xlabel=plane.names[0], ylabel=plane.names[1])
        handles = [
            axes.scatter(*drawn[(dots[: len(drawn)] == label).numpy()].T, s=6, color=colour)
            for label, colour in enumerate(colours)
        ]
        if prior:
            _show_prior(axes, values, plane, prior)
        axes.set_title(TITLES[name])
    if names:
        shown = [handles[label] for label in named]
        figure.legend(shown, names, loc="outside right center", title="class", markerscale=2)
    return figure


def draw_codes_by_part(
    codes: Tensor, labels: Tensor, class_names: Sequence[str], prior: Prior
) -> Figure:
    """Draw codes over the parts of the prior that belong to their classes, in the same colours.

    A shaded area encloses 95 % of the part of a class: Makhzani et al. 2015, figure 3.

    Args:
        codes: codes [n, 2].
        labels: classes [n].
        class_names: names of the classes.
        prior: a prior that has a part for each class.
    """
    figure = new_figure(7, 5.5)
    axes, plane, count = figure.subplots(), Plane(codes), len(class_names)
    low, high = plane.limits(codes, prior)
    drawn, handles = plane.coordinates(codes[:MAX_DOTS]), []
    for label, colour in enumerate(class_colours(count)):
        part = plane_density(prior.part(label, count), plane, low, high)
        for level in part.levels[:1]:
            axes.contourf(
                part.x, part.y, part.density, [level, np.inf], colors=colour, alpha=0.25, zorder=0
            )
        x, y = drawn[labels[: len(drawn)] == label].T.numpy()
        handles.append(axes.scatter(x, y, s=6, color=colour))
    axes.set(
        xlabel=plane.names[0], ylabel=plane.names[1], aspect="equal",
        xlim=(low[0].item(), high[0].item()), ylim=(low[1].item(), high[1].item()),
    )  # fmt: skip
    named = spread(range(count), MAX_CLASSES)
    names = [short(class_names[label]) for label in named]
    shown = [handles[label] for label in named]
    figure.legend(shown, names, loc="outside right center", title="class", markerscale=2)
    return figure


def _show_prior(axes: Axes, codes: Tensor, plane: Plane, prior: Prior) -> None:
    low, high = plane.limits(codes, prior)
    axes.set_xlim(low[0].item(), high[0].item())
    if prior.latent_dim == 1:
        samples = prior.quantiles(torch.linspace(0.005, 0.995, 400))[:, 0].numpy()
        axes.scatter(samples, _jitter(len(samples)) - 1, s=3, color=PRIOR_COLOUR, alpha=0.4)
        return
    axes.set_ylim(low[1].item(), high[1].item())
    _draw_contours(axes, plane_density(prior, plane, low, high))


def draw_prior(prior: Prior) -> Figure:
    """Draw prior samples and the density: a line in one dimension, contours in a plane.

    If the prior has more than two independent dimensions, the figure shows two of them.
    """
    figure = new_figure(5.5, 4.5)
    axes = figure.subplots()
    if prior.univariate and prior.latent_dim > 2:
        prior = Prior(prior.distribution, 2)
    samples = prior.sample(MAX_DOTS, stream(0, "prior samples for figures"))
    if prior.latent_dim == 1:
        _draw_histogram(axes, latent_histogram(samples, prior), prior, "grey", "samples")
        axes.set(xlabel="code", ylabel="density")
        axes.legend()
    else:
        plane = Plane(samples)
        x, y = plane.coordinates(samples).T.numpy()
        axes.scatter(x, y, s=3, color="grey", linewidths=0)
        _show_prior(axes, samples, plane, prior)
        axes.set(xlabel=plane.names[0], ylabel=plane.names[1], aspect="equal")
    return figure


def _draw_contours(axes: Axes, density: PlaneDensity) -> ContourSet:
    return axes.contour(
        density.x, density.y, density.density, density.levels,
        colors=PRIOR_COLOUR, linewidths=0.9, alpha=0.8,
    )  # fmt: skip


def contour_lines(density: PlaneDensity) -> list[NDArray[np.float64]]:
    """Return the contours of a density as lines, each of which is an array of points [k, 2]."""
    contours = _draw_contours(new_figure(1, 1).subplots(), density)
    lines = (path.to_polygons(closed_only=False) for path in contours.get_paths())
    return [np.asarray(line) for of_level in lines for line in of_level]


def _jitter(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(-0.3, 0.3, count)


def draw_class_shares(
    shares: dict[str, Tensor], real: Tensor, class_names: Sequence[str]
) -> Figure:
    """Draw the share of each class among generated images as bars, and among real ones as lines.

    Of more than :data:`aae.report.titles.MAX_CLASSES` classes, the figure shows those that are most
    frequent among real images.

    Args:
        shares: shares [k] of the classes among the images of each model.
        real: shares [k] among real images.
        class_names: names of the classes.
    """
    if len(class_names) > MAX_CLASSES:
        frequent = real.argsort(descending=True, stable=True)[:MAX_CLASSES].sort().values
        shares, real = {name: values[frequent] for name, values in shares.items()}, real[frequent]
        class_names = [class_names[label] for label in frequent]
    class_names = [short(name) for name in class_names]
    figure = new_figure(max(7.0, 0.9 * len(class_names)), 3.2)
    axes = figure.subplots()
    places, width = np.arange(len(class_names)), 0.8 / len(shares)
    for k, (name, values) in enumerate(shares.items()):
        left = places - 0.4 + (k + 0.5) * width
        axes.bar(left, values.numpy(), width, color=COLOURS[name], label=TITLES[name])
    axes.hlines(
        real.numpy(), places - 0.45, places + 0.45, color=PRIOR_COLOUR, linewidth=1.2,
        label="Test images",
    )  # fmt: skip
    narrow = max(len(name) for name in class_names) > 8
    axes.set_xticks(places, class_names, fontsize="small" if narrow else None)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel="class", ylabel="share of the images")
    axes.legend(fontsize="small")
    return figure


def draw_contingency(
    counts: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], xlabel: str
) -> Figure:
    """Draw how many images of each class are in each category; shades are shares of the class.

    Args:
        counts: counts [r, c].
        rows: names of the classes.
        columns: names of the categories.
        xlabel: what the categories are.
    """
    side = min(LARGEST_CELL, MOST_INCHES / max(counts.shape))
    height, width = (max(3.0, side * count + 1.2) for count in counts.shape)
    figure = new_figure(width + 0.6, height)
    axes = figure.subplots()
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if side == LARGEST_CELL:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, f"{counts[row, column]}", color=colour, fontsize="x-small",
                ha="center", va="center",
            )  # fmt: skip
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        named = spread(range(len(names)), MOST_NAMES)
        axis.set_ticks(named, [short(names[k]) for k in named])
    if max(map(len, columns)) > 3:
        axes.tick_params(axis="x", rotation=90)
    axes.set(xlabel=xlabel, ylabel="class")
    return figure


def draw_losses(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw the losses per epoch: reconstruction losses on the left, all others on the right.

    Args:
        histories: the history of each model's training.
    """
    figure = new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    colours = itertools.cycle(LOSS_COLOURS)
    for model, history in histories.items():
        for name in history.columns:
            if name == "reconstruction_loss":
                _draw_loss(left, history, name, COLOURS[model], TITLES[model])
            elif name.endswith("_loss") and not name.startswith("validation_"):
                colour, title = next(colours), name.removesuffix("_loss").replace("_", " ")
                if name in EQUILIBRIA:
                    right.axhline(EQUILIBRIA[name], color=colour, linewidth=0.8, linestyle=":")
                _draw_loss(right, history, name, colour, title.capitalize())
    left.set(xlabel="epoch", ylabel="mean squared error per pixel", title="Reconstruction")
    right.set(xlabel="epoch", ylabel="cross-entropy in nats", title="Regularisation")
    right.plot([], [], color="grey", linewidth=0.8, linestyle=":", label="Equilibrium")
    for axes in (left, right):
        axes.legend(fontsize="small")
    return figure


def _draw_loss(axes: Axes, history: pd.DataFrame, name: str, colour: str, label: str) -> None:
    epochs, validation = history["epoch"], f"validation_{name}"
    # A single point would draw no line.
    style: dict[str, Any] = {"color": colour, "marker": "o" if len(epochs) == 1 else None}
    axes.plot(epochs, history[name], label=label, **style)
    if validation in history:  # with few labels, no validation image has one
        axes.plot(
            epochs, history[validation], linestyle="--", label=f"{label}, validation", **style
        )
    axes.locator_params(axis="x", integer=True)
