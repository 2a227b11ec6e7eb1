"""All measures of a model on held-out images.

The measures answer four questions: do the codes follow the prior
(:mod:`aae.evaluation.two_sample`), do they keep what the images show
(:mod:`aae.evaluation.representation`), are images decoded from the prior realistic, and are they
copies (:mod:`aae.evaluation.generation`)? A model with categories answers more
(:mod:`aae.evaluation.categories`). :mod:`aae.evaluation.measures` names all measures.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aae.data import Images, check_counts
from aae.evaluation.categories import asked_class_accuracy, measure_categories, measure_parts
from aae.evaluation.generation import GenerationTest, mixture_samples
from aae.evaluation.measures import MEASURES
from aae.evaluation.representation import measure_representation
from aae.evaluation.two_sample import PriorTest
from aae.models import Model
from aae.models.networks import chunk, pixels
from aae.params import EvalLatent
from aae.priors import Prior
from aae.progress import ShowProgress, silent
from aae.seeding import stream


class Evaluation:
    """Measures models, all on the same images and for the same prior.

    Args:
        splits: images by split: train, validation, test; with labels if they have any.
        class_names: names of the classes; empty without labels.
        prior: the distribution that codes are compared with.
        settings: the section ``eval_latent`` of params.yaml.
        seed: the seed of params.yaml.
        progress: shows the progress of the work that all models share.

    Attributes:
        real: scores of real images in place of generated ones, and ``judge_accuracy``, see
            :class:`aae.evaluation.generation.GenerationTest`.

    Raises:
        DataError: if there are too few images to measure anything.
    """

    def __init__(
        self,
        splits: Mapping[str, Images],
        class_names: Sequence[str],
        prior: Prior,
        settings: EvalLatent,
        seed: int,
        progress: ShowProgress = silent,
    ) -> None:
        check_counts(splits)
        self.splits, self.prior, self.few = splits, prior, settings.subset
        count, self.seed = len(splits["test"]), seed
        self.generation = GenerationTest(splits, len(class_names), settings, seed, progress)
        self.prior_samples = prior.sample(count, stream(seed, "prior samples to decode"))
        self.prior_test = PriorTest(prior, count, settings, seed, progress)
        self.real = self.generation.real

    def __call__(self, model: Model) -> dict:
        """Measure a model.

        Returns:
            All measures by key, in the order of the register, without those that need labels if
            the images have none, and those of categories that the model does not have; then
            ``floor`` and ``p_value`` of :class:`aae.evaluation.two_sample.PriorTest`, ``by_class``
            of :func:`aae.evaluation.categories.measure_parts`, and the kind of ``posterior``. Codes
            that are compared with the prior are samples of the posterior; all others are its means.
        """
        test, train = self.splits["test"], self.splits["train"]
        codes, train_codes = model.encode(test.images), model.encode(train.images)
        reconstructions = model.decode(codes, model.labels_of(test.images, test.labels))
        samples, asked = self.posterior_samples(model), self.drawn_labels(model)
        generated = model.decode(self.prior_samples, asked)
        found = {
            "reconstruction_mse": squared_errors(reconstructions, test.images).mean().item(),
            **self.prior_test(samples),
            **measure_representation(train_codes, train.labels, codes, test.labels, self.few),
            **self.generation(generated),
            **self.generation.of_reconstructions(reconstructions),
            **self._of_categories(model, samples, generated, asked),
        }
        nested = {key: found.pop(key) for key in ("floor", "p_value", "by_class") if key in found}
        assert found.keys() <= MEASURES.keys(), f"{found.keys() - MEASURES.keys()} not registered"
        return in_order(found) | nested | {"posterior": model.architecture.posterior.kind}

    def _of_categories(
        self, model: Model, samples: Tensor, generated: Tensor, asked: Tensor | None
    ) -> dict:
        """Return the measures of the categories that a model has.

        Args:
            model: the model.
            samples: samples of its posteriors [n, d].
            generated: images [n, C, H, W] that it decodes from prior samples.
            asked: the category [n] with which it decodes each of them; None if it takes none.
        """
        test, categories = self.splits["test"], model.architecture.categories
        found: dict = {}
        if categories.from_encoder:
            found |= measure_categories(model, test, self.splits["validation"])
        if test.labels is None:
            return found
        if categories.to_discriminator:
            settings, count = self.prior_test.settings, categories.count
            found |= measure_parts(samples, test.labels, self.prior, count, settings, self.seed)
        if asked is not None and categories.are_classes:
            judge = self.generation.judge
            found["asked_class_accuracy"] = asked_class_accuracy(judge, generated, asked)
        return found

    def posterior_samples(self, model: Model) -> Tensor:
        """Return one sample of the posterior q(z|x) [n, d] for each test image."""
        images = self.splits["test"].images
        noise = model.noise(len(images), stream(self.seed, "posterior noise for the evaluation"))
        return model.encode(images, noise)

    def drawn_labels(self, model: Model) -> Tensor | None:
        """Return the category [n] with which each prior sample is decoded, if the decoder needs it.

        The categories are drawn from their prior, in which all are equally probable.
        """
        return model.draw_labels(len(self.prior_samples), stream(self.seed, "labels to decode"))

    def rival(self, model: Model) -> dict:
        """Measure images that a model decodes from a mixture fitted to its codes, not the prior.

        Returns:
            The measures of generated images by key, see
            :class:`aae.evaluation.generation.GenerationTest`.
        """
        codes = mixture_samples(
            model.encode(self.splits["train"].images), len(self.prior_samples), self.seed
        )
        return in_order(self.generation(model.decode(codes, self.drawn_labels(model))))


def squared_errors(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared error per pixel value of each image [n].

    The errors are averaged image by image first, for the reason in
    :func:`aae.training.phases.reconstruction_loss`.

    Args:
        reconstructions: images [n, C, H, W] from 0 to 1.
        images: uint8 images [n, C, H, W].
    """
    size = chunk(images.shape[1:])
    pairs = zip(reconstructions.split(size), images.split(size), strict=True)
    errors = [(x.double() - pixels(y).double()).square().flatten(1).mean(1) for x, y in pairs]
    return torch.cat(errors)


def in_order(found: Mapping[str, float]) -> dict:
    """Return measures in the order of the register."""
    return {key: found[key] for key in MEASURES if key in found}
