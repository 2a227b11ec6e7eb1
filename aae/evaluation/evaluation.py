"""All measures of a model on held-out images.

Four questions, each with its own measures: do the codes follow the prior (:mod:`aae.evaluation.two_sample`),
do they keep what the images show (here), is what the decoder makes of the prior real, and is it
more than memory (:mod:`aae.evaluation.generation`).

To add a measure: return it from one of these, and give it a line on the page in `TABLE` of
aae/report/page.py. It is then in latent.json and MLflow, and `regression.metrics` of params.yaml may
guard it. The few that are shown where there is room for few are named by `SUMMARY` below (`dvc
metrics show`), `SHOWN` in aae/sweep/sweep.py, `DESCRIBED` in aae/tracking/recording.py, `VIEW` in aae/tracking/ui.py and
the pattern of `make experiments`.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from aae.data.data import Images
from aae.evaluation.generation import GenerationTest
from aae.models.networks import Model, apply, pixels
from aae.params import EvalLatent
from aae.priors.prior import Prior
from aae.progress import ShowProgress, silent
from aae.evaluation.two_sample import PriorTest

# Neighbours that vote on the class of a code.
VOTES = 10
# What a line about a model says of it.
SUMMARY = (
    "match_ratio", "ks_statistic", "c2st_accuracy", "prior_coverage", "reconstruction_mse",
    "generated_frechet", "follows_prior",
)  # fmt: skip


class Evaluation:
    """The measures of models on the same images and for the same prior.

    Args:
        splits: labelled images by split: train, validation, test.
        class_names: names of the classes.
        prior: the distribution that codes are compared with.
        settings: the section ``eval_latent`` of params.yaml.
        seed: the seed of params.yaml.
        progress: shows how far the work that both models share has come.

    Attributes:
        real: what real images score where generated ones are measured, and ``judge_accuracy``, the
            share of test images that the judge gives their class.
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
            reconstruction_mse: mean squared error per pixel of test images, pixels from 0 to 1.
            Also all of :class:`aae.evaluation.two_sample.PriorTest`, of :func:`meaning` and of
            :class:`aae.evaluation.generation.GenerationTest`.
        """
        test, train = self.splits["test"], self.splits["train"]
        codes = apply(model.encoder, test.images)
        train_codes = apply(model.encoder, train.images)
        reconstructions = apply(model.decoder, codes)
        errors = (reconstructions.double() - pixels(test.images).double()).square()
        return {
            # Image by image first: see aae.training.phases.reconstruction_loss.
            "reconstruction_mse": errors.flatten(1).mean(1).mean().item(),
            **self.prior_test(codes),
            **meaning(train_codes, train.labels, codes, test.labels, self.few),
            **self.generation(model.decoder, reconstructions),
        }


def meaning(
    train_codes: Tensor, train_labels: Tensor, codes: Tensor, labels: Tensor, few: int
) -> dict[str, float]:
    """Measure whether codes keep what the images show; all by scikit-learn.

    Args:
        train_codes: codes of training images [m, d].
        train_labels: their classes [m].
        codes: codes of test images [n, d].
        labels: their classes [n].
        few: how many codes stand for all in the silhouette.

    Returns:
        knn_accuracy: share of test codes whose ten nearest training codes vote for their class.
        probe_accuracy: the same of a linear classifier (logistic regression), trained on training
            codes. Alain and Bengio 2016, https://arxiv.org/abs/1610.01644
        silhouette: how much nearer the codes of an image's own class are than those of the next
            class, from -1 to 1. Rousseeuw 1987, https://doi.org/10.1016/0377-0427(87)90125-7
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learnt, x, y = (train_codes.numpy(), train_labels.numpy()), codes.numpy(), labels.numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    sample_size = few if few < len(codes) else None
    return {
        "knn_accuracy": float(KNeighborsClassifier(VOTES).fit(*learnt).score(x, y)),
        "probe_accuracy": float(probe.fit(*learnt).score(x, y)),
        "silhouette": float(silhouette_score(x, y, sample_size=sample_size, random_state=0)),
    }
