"""All measures of a model on held-out images.

The measures answer four questions: do the codes follow the prior
(:mod:`aae.evaluation.two_sample`), do they keep what the images show
(:mod:`aae.evaluation.representation`), are images decoded from the prior realistic, and are they
copies (:mod:`aae.evaluation.generation`)? :mod:`aae.evaluation.measures` names all measures.
"""

from collections.abc import Mapping, Sequence

from aae.data import Images
from aae.evaluation.generation import GenerationTest
from aae.evaluation.measures import MEASURES
from aae.evaluation.representation import measure_representation
from aae.evaluation.two_sample import PriorTest
from aae.models import Model
from aae.models.networks import pixels
from aae.params import EvalLatent
from aae.priors import Prior
from aae.progress import ShowProgress, silent


class Evaluation:
    """Measures models, all on the same images and for the same prior.

    Args:
        splits: labelled images by split: train, validation, test.
        class_names: names of the classes.
        prior: the distribution that codes are compared with.
        settings: the section ``eval_latent`` of params.yaml.
        seed: the seed of params.yaml.
        progress: shows the progress of the work that all models share.

    Attributes:
        real: scores of real images in place of generated ones, and ``judge_accuracy``, the share
            of test images that the judge classifies correctly.
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
        self.splits, self.few = splits, settings.subset
        self.generation = GenerationTest(splits, len(class_names), prior, settings, seed, progress)
        self.prior_test = PriorTest(prior, len(splits["test"]), settings, seed, progress)
        self.real = self.generation.real

    def __call__(self, model: Model) -> dict:
        """Measure a model.

        Returns:
            All measures by key, in the order of the register, then ``floor`` and ``p_value`` of
            :class:`aae.evaluation.two_sample.PriorTest`.
        """
        test, train = self.splits["test"], self.splits["train"]
        codes, train_codes = model.encode(test.images), model.encode(train.images)
        reconstructions = model.decode(codes)
        errors = (reconstructions.double() - pixels(test.images).double()).square()
        found = {
            # Image by image first, for the reason in aae.training.phases.reconstruction_loss.
            "reconstruction_mse": errors.flatten(1).mean(1).mean().item(),
            **self.prior_test(codes),
            **measure_representation(train_codes, train.labels, codes, test.labels, self.few),
            **self.generation(model.decode, reconstructions),
        }
        calibration = {key: found.pop(key) for key in ("floor", "p_value")}
        assert found.keys() <= MEASURES.keys(), f"{found.keys() - MEASURES.keys()} not registered"
        return {key: found[key] for key in MEASURES if key in found} | calibration
