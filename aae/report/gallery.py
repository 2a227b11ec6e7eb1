"""All figures of an evaluation, in the order in which the page tells its story."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from aae.data.data import Images
from aae.report.figures import (
    TITLES,
    Figure,
    draw_codes_by_class,
    draw_latent_histograms,
    draw_losses,
    draw_prior,
    draw_training_histograms,
)
from aae.evaluation.generation import GenerationTest, nearest_images
from aae.report.interpolation import path_through_widest_gap, straight_path, typical_images
from aae.models.networks import Model, apply, pixels
from aae.priors.prior import Prior
from aae.seeding import stream
from aae.report.sheets import draw_decoded_prior, draw_reconstructions, draw_rows

# Images along a path between two codes.
STEPS = 11
# Paths of the figure of interpolations, and samples next to their nearest training images.
PATHS = 4
SAMPLES = 12


def draw_all(
    models: Mapping[str, Model],
    codes: dict[str, Tensor],
    splits: Mapping[str, Images],
    class_names: Sequence[str],
    prior: Prior,
    histories: dict[str, pd.DataFrame],
    histograms: pd.DataFrame,
    generation: GenerationTest,
) -> dict[str, Figure]:
    """Draw every figure, by name.

    Args:
        models: the two models, "ae" and "aae".
        codes: codes of the test images by model.
        splits: labelled images by split.
        class_names: names of the classes.
        prior: the prior.
        histories: history of each training.
        histograms: latent histograms of some epochs of the adversarial training.
        generation: holds the judge.
    """
    test = splits["test"]
    typical = typical_images(codes["ae"], test.labels)
    images = pixels(test.images[torch.tensor(typical)])
    reconstructions = {
        name: apply(model.decoder, apply(model.encoder, images)) for name, model in models.items()
    }
    decoders = {name: model.decoder for name, model in models.items()}
    return {
        "autoencoder_codes": draw_codes_by_class(
            {"ae": codes["ae"]}, test.labels, class_names, None
        ),
        "gap": _draw_gap(models, codes, typical, generation),
        "prior": draw_prior(prior),
        "losses": draw_losses(histories),
        "training_histograms": draw_training_histograms(histograms, prior),
        "latent_histogram": draw_latent_histograms(codes, prior),
        "codes_by_class": draw_codes_by_class(codes, test.labels, class_names, prior),
        "decoded_prior": draw_decoded_prior(decoders, prior),
        "reconstructions": draw_reconstructions(images, reconstructions, class_names),
        "interpolations": _draw_interpolations(models["aae"], codes["aae"], typical, class_names),
        "samples": _draw_samples(models["aae"], prior, splits["train"]),
    }


def _draw_gap(
    models: Mapping[str, Model],
    codes: Mapping[str, Tensor],
    candidates: list[int],
    generation: GenerationTest,
) -> Figure:
    """Draw the path through the widest gap of the autoencoder, and between the same two images
    that of the adversarial one, with the probability that the judge gives its favourite class."""
    ends = path_through_widest_gap(codes["ae"], candidates)
    rows = {
        TITLES[name]: apply(model.decoder, straight_path(codes[name], *ends, STEPS))
        for name, model in models.items()
    }
    sure = {title: generation.judge.probabilities(row).max(1).values for title, row in rows.items()}
    captions = {title: [f"{share:.0%}" for share in sure[title].tolist()] for title in rows}
    return draw_rows(rows, captions)


def _draw_interpolations(
    model: Model, codes: Tensor, typical: list[int], class_names: Sequence[str]
) -> Figure:
    """Draw paths between typical images of successive classes."""
    rows = {}
    for first in range(0, min(2 * PATHS, len(typical) - 1), 2):
        path = straight_path(codes, typical[first], typical[first + 1], STEPS)
        rows[f"{class_names[first]} to {class_names[first + 1]}"] = apply(model.decoder, path)
    return draw_rows(rows)


def _draw_samples(model: Model, prior: Prior, train: Images) -> Figure:
    """Draw images decoded from samples of the prior, and below each its nearest training image."""
    samples = prior.sample(SAMPLES, stream(0, "samples next to training images"))
    generated = apply(model.decoder, samples)
    nearest, _ = nearest_images(generated, train.images)
    return draw_rows(
        {"Decoded sample": generated, "Nearest training image": pixels(train.images[nearest])}
    )
