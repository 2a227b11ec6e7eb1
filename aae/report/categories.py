"""The figures of what a model knows of categories: classes of labelled images, or clusters."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from aae.data import Images
from aae.evaluation.categories import contingency
from aae.models import Model
from aae.models.networks import pixels
from aae.priors import Prior
from aae.report.figures import (
    Figure,
    draw_codes_by_class,
    draw_codes_by_part,
    draw_contingency,
)
from aae.report.sheets import MOST_COLUMNS, draw_grid
from aae.report.titles import category_word, spread
from aae.seeding import stream

# Number of styles that are decoded in every category, and of images below the head of a cluster.
STYLES, MEMBERS = 10, 8


def draw_categories(
    name: str,
    model: Model,
    codes: Tensor,
    splits: Mapping[str, Images],
    class_names: Sequence[str],
    prior: Prior,
) -> dict[str, Figure]:
    """Draw what a model knows of categories; return the figures by name, none without categories.

    Args:
        name: name of the model.
        model: the model.
        codes: codes [n, d] of the test images.
        splits: images by split, with labels if they have any.
        class_names: names of the classes; empty without labels.
        prior: the prior.

    Returns:
        codes_by_part: codes over the part of the prior that belongs to their class, if the
            discriminator is told the classes; Makhzani et al. 2015, figure 3.
        styles: the same prior samples decoded in every category, if the decoder takes one; figure 5
            there.
        clusters: the head of each cluster, which is the mean style decoded in it, and its most
            probable validation images; figure 8 there.
        placed_codes: sums of style and place, if clusters or classes have places; figure 9 there.
        contingency: how many test images of each class the encoder puts into each category.
    """
    categories, labels = model.architecture.categories, splits["test"].labels
    names, word = categories.titles, category_word(categories)
    shown = spread(range(categories.count), MOST_COLUMNS)
    columns = [names[number] for number in shown]
    figures = {}
    if categories.to_discriminator and labels is not None:
        figures["codes_by_part"] = draw_codes_by_part(codes, labels, class_names, prior)
    if categories.to_decoder:
        samples = prior.sample(STYLES, stream(0, "styles"))
        rows = [str(row + 1) for row in range(STYLES)]
        figures["styles"] = draw_grid(in_each(model, samples, shown), rows, columns, word)
    if not categories.from_encoder:
        return figures
    probabilities = model.classify(splits["test"].images)
    if not categories.are_classes:
        heads = in_each(model, prior.mean[None], shown)
        images = torch.cat([heads, members(model, splits["validation"].images, shown)])
        figures["clusters"] = draw_grid(images, ["head", *[""] * MEMBERS], columns, word)
    if categories.places:
        placed = model.placed(codes, probabilities)
        figures["placed_codes"] = draw_codes_by_class({name: placed}, labels, class_names, None)
    if labels is not None:
        shape = len(class_names), categories.count
        counts = contingency(labels, probabilities.argmax(1), shape)
        order = list(range(categories.count))
        if not categories.are_classes:  # clusters of one class beside each other, empty ones last
            best = np.where(counts.any(0), counts.argmax(0), len(class_names))
            order = best.argsort(kind="stable").tolist()
        figures["contingency"] = draw_contingency(
            counts[:, order], class_names, [names[number] for number in order], word
        )
    return figures


def in_each(model: Model, codes: Tensor, categories: Sequence[int]) -> Tensor:
    """Return the images [n, k, C, H, W] that a model decodes from codes [n, d] in k categories."""
    pairs = torch.cartesian_prod(torch.arange(len(codes)), torch.tensor(categories))
    images = model.decode(codes[pairs[:, 0]], pairs[:, 1])
    return images.unflatten(0, (len(codes), len(categories)))


def members(model: Model, images: Tensor, categories: Sequence[int]) -> Tensor:
    """Return the most probable images [MEMBERS, k, C, H, W] of k categories, the best first.

    An image belongs to its most probable category alone; what is missing of a category is white.
    """
    probabilities, found = model.classify(images).max(1)
    white = 0.0 if images.shape[1] == 1 else 1.0  # images of one channel are drawn black on white
    shown = torch.full((MEMBERS, len(categories), *images.shape[1:]), white)
    for column, number in enumerate(categories):
        own = (found == number).nonzero().squeeze(1)
        best = own[probabilities[own].argsort(descending=True, stable=True)][:MEMBERS]
        shown[: len(best), column] = pixels(images[best])
    return shown
