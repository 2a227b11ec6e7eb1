"""All figures of an evaluation, in the order of the page."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from aae.data import Images
from aae.evaluation.generation import GenerationTest, nearest_images
from aae.models import Model
from aae.models.networks import pixels
from aae.priors import Prior
from aae.report.categories import draw_categories
from aae.report.figures import (
    Figure,
    draw_class_shares,
    draw_codes_by_class,
    draw_latent_histograms,
    draw_losses,
    draw_prior,
    draw_training_histograms,
)
from aae.report.paths import straight_path, typical_images
from aae.report.sheets import (
    decode_samples,
    draw_decoded_prior,
    draw_reconstructions,
    draw_rows,
)
from aae.report.titles import short
from aae.seeding import stream

# Number of images along a path between two codes.
STEPS = 11
# Number of paths in the figure of interpolations, and of samples in the figure of samples.
PATHS = 4
SAMPLES = 12
# Number of prior samples that are decoded to count their classes.
DECODED = 2000


def draw_all(
    models: Mapping[str, Model],
    codes: dict[str, Tensor],
    posterior_samples: dict[str, Tensor],
    splits: Mapping[str, Images],
    class_names: Sequence[str],
    prior: Prior,
    histories: dict[str, pd.DataFrame],
    histograms: pd.DataFrame,
    generation: GenerationTest,
) -> dict[str, Figure]:
    """Draw all figures and return them by name.

    Without labels, there is no figure of the classes of generated images, and what the last model
    does not know of categories has no figure, see :mod:`aae.report.categories`.

    Args:
        models: the models. The first has no prior; the last is the subject of the page.
        codes: codes of the test images by model, the means of their posteriors.
        posterior_samples: one sample of each of these posteriors.
        splits: images by split, with labels if they have any.
        class_names: names of the classes; empty without labels.
        prior: the prior.
        histories: history of each training.
        histograms: latent histograms after some epochs of the last model's training.
        generation: the measures of generated images, with the judge.
    """
    test, (first, *_, last) = splits["test"], models
    typical = typical_images(codes[first], test.labels)
    shown = test[torch.tensor(typical)]
    images = pixels(shown.images)
    labels = [] if shown.labels is None else shown.labels.tolist()
    names = [short(class_names[label]) for label in labels]
    reconstructions = {
        name: model.decode(model.encode(images), model.labels_of(images, shown.labels))
        for name, model in models.items()
    }
    of_classes = {}
    if test.labels is not None:
        of_classes["generated_classes"] = _draw_generated_classes(
            models, class_names, test.labels, prior, generation
        )
    of_classes |= draw_categories(last, models[last], codes[last], splits, class_names, prior)
    return of_classes | {
        "autoencoder_codes": draw_codes_by_class(
            {first: codes[first]}, test.labels, class_names, None
        ),
        "prior": draw_prior(prior),
        "losses": draw_losses(histories),
        "training_histograms": draw_training_histograms(histograms, prior),
        "latent_histogram": draw_latent_histograms(posterior_samples, prior),
        "codes_by_class": draw_codes_by_class(codes, test.labels, class_names, prior),
        "decoded_prior": draw_decoded_prior(models, prior),
        "reconstructions": draw_reconstructions(images, reconstructions, names),
        "interpolations": _draw_interpolations(models[last], codes[last][typical], shown, names),
        "samples": _draw_samples(models[last], prior, splits["train"]),
    }


def _draw_generated_classes(
    models: Mapping[str, Model],
    class_names: Sequence[str],
    labels: Tensor,
    prior: Prior,
    generation: GenerationTest,
) -> Figure:
    """Draw how often each class is among decoded prior samples, and among the test images."""
    samples = prior.sample(DECODED, stream(0, "prior samples for classes"))

    def shares(found: Tensor) -> Tensor:
        return torch.bincount(found.int(), minlength=len(class_names)) / len(found)

    judged = {
        name: shares(generation.judge.probabilities(decode_samples(model, samples)).argmax(1))
        for name, model in models.items()
    }
    return draw_class_shares(judged, shares(labels), class_names)


def _draw_interpolations(
    model: Model, codes: Tensor, typical: Images, names: Sequence[str]
) -> Figure:
    """Draw paths between the codes [n, d] of successive typical images, named after their classes.

    A decoder that takes categories also takes the path between those of the two images.
    """
    labels = model.labels_of(typical.images, typical.labels)
    rows = {}
    for first in range(0, min(2 * PATHS, len(typical) - 1), 2):
        path = straight_path(codes, first, first + 1, STEPS)
        mixed = None if labels is None else straight_path(labels, first, first + 1, STEPS)
        title = f"{names[first]} to {names[first + 1]}" if names else f"Path {first // 2 + 1}"
        rows[title] = model.decode(path, mixed)
    return draw_rows(rows)


def _draw_samples(model: Model, prior: Prior, train: Images) -> Figure:
    """Draw decoded prior samples, and below each its nearest training image."""
    samples = prior.sample(SAMPLES, stream(0, "samples next to training images"))
    generated = decode_samples(model, samples)
    nearest, _ = nearest_images(generated, train.images)
    return draw_rows(
        {"Decoded sample": generated, "Nearest training image": pixels(train.images[nearest])}
    )
