"""The register of measures: the one place that names, explains and orders them.

The page, `dvc metrics show`, MLflow's run list, the table of a sweep and the gate all read this
register. To add a measure, write a function that computes it, return its value from
:mod:`aae.evaluation.evaluation` or one of the modules that it calls, and add an entry here.
"""

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Measure:
    """A measure of a model.

    Attributes:
        key: its name in latent.json.
        title: its name on the page.
        digits: digits after the decimal point on the page.
        better: which values are better; None if neither are.
        note: an explanation in plain words.
        headline: the short name of a headline measure, for tables with space for few measures; None
            for all other measures.
        needs_labels: whether it needs labelled images.
    """

    key: str
    title: str
    digits: int
    better: Better | None
    note: str
    headline: str | None = None
    needs_labels: bool = False

    def text(self, value: float) -> str:
        """Return a value as the page shows it."""
        return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class Question:
    """A question about a model, and the measures that answer it.

    Attributes:
        title: the question.
        reference: title of the reference in the last column of the table; empty if there is no
            reference.
        measures: the answers.
    """

    title: str
    reference: str
    measures: tuple[Measure, ...]


QUESTIONS = (
    Question(
        "Do the codes follow the prior?",
        "prior samples",
        (
            Measure("follows_prior", "Verdict of all tests together", 0, "higher",
                    "whether the tests cannot tell codes from prior samples, at a level of 5 %",
                    headline="follows"),
            Measure("match_ratio", "Match ratio", 2, "lower",
                    "the next line divided by its reference; 1 is a perfect match",
                    headline="match"),
            Measure("sliced_wasserstein", "Sliced-Wasserstein distance", 3, "lower",
                    "distance between projected codes and projected prior samples, in units of the "
                    "codes"),
            Measure("energy_distance", "Energy distance", 4, "lower",
                    "0 if and only if the distributions are equal, in units of the codes"),
            Measure("mmd2", "Squared maximum mean discrepancy", 5, "lower",
                    "finds holes and modes; around 0 for equal distributions"),
            Measure("ks_statistic", "Kolmogorov-Smirnov statistic", 3, "lower",
                    "largest gap between the distribution functions of a dimension, from 0 to 1",
                    headline="KS"),
            Measure("ks_projected", "Same, along random directions", 3, "lower",
                    "also finds a dependence between dimensions"),
            Measure("c2st_accuracy", "Classifier two-sample accuracy", 3, "lower",
                    "how often a classifier tells codes from prior samples; 0.5 is guessing"),
            Measure("class_match_ratio", "Match ratio, class by class", 2, "lower",
                    "of the codes of a class and its own part of the prior; the median over the "
                    "classes",
                    needs_labels=True),
            Measure("classes_following", "Classes whose codes follow their part", 0, "higher",
                    "number of classes whose codes the tests cannot tell from samples of their own "
                    "part of the prior; on average, one in twenty perfect classes fails",
                    needs_labels=True),
        ),
    ),
    Question(
        "Are there gaps?",
        "prior samples",
        (
            Measure("prior_coverage", "Coverage of the prior", 3, "higher",
                    "share of prior samples with a code in their neighbourhood"),
            Measure("prior_density", "Density", 3, None,
                    "how many such neighbourhoods contain a code, on average, divided by five; 1 "
                    "is a perfect match, and far larger values mean that the codes are too narrow"),
            Measure("prior_gap_share", "Share of the prior in gaps", 3, "lower",
                    "share of prior samples whose nearest code is further away than the nearest "
                    "point of 99 % of sets of prior samples"),
        ),
    ),
    Question(
        "Do codes keep what the images show?",
        "",
        (
            Measure("reconstruction_mse", "Reconstruction error", 4, "lower",
                    "mean squared error per pixel: the price of the prior", headline="MSE"),
            Measure("knn_accuracy", "Nearest-neighbour accuracy", 3, "higher",
                    "share of test images whose ten nearest training codes vote for their class",
                    needs_labels=True),
            Measure("probe_accuracy", "Linear-probe accuracy", 3, "higher",
                    "share of test images whose codes a linear classifier assigns to their class; "
                    "near chance if the decoder is given the class and the code keeps only the "
                    "style",
                    needs_labels=True),
            Measure("silhouette", "Silhouette", 3, "higher",
                    "how well the classes are separated, from -1 to 1", needs_labels=True),
        ),
    ),
    Question(
        "Do the categories say what the images show?",
        "",
        (
            Measure("classification_error", "Classification error", 4, "lower",
                    "share of test images whose most probable class is not theirs",
                    headline="error", needs_labels=True),
            Measure("cluster_error", "Clustering error", 4, "lower",
                    "the same if each cluster stands for the class of the validation image that is "
                    "most probable in it",
                    headline="cluster error", needs_labels=True),
            Measure("cluster_nmi", "Normalised mutual information", 3, "higher",
                    "of clusters and classes: 1 if they are the same, 0 if they are independent",
                    needs_labels=True),
            Measure("cluster_ari", "Adjusted Rand index", 3, "higher",
                    "of pairs of images that clusters and classes both put together or apart; 1 if "
                    "they are the same, 0 by chance",
                    needs_labels=True),
            Measure("categories_used", "Categories in use", 0, "higher",
                    "number of classes or clusters that are the most probable one of a test image"),
        ),
    ),
    Question(
        "Are images decoded from the prior realistic?",
        "real images",
        (
            Measure("generated_frechet", "Fréchet distance", 2, "lower",
                    "between features of decoded prior samples and of test images, in a classifier "
                    "trained here: not comparable with published FIDs", headline="Fréchet"),
            Measure("reconstructed_frechet", "Same, of reconstructions", 2, "lower",
                    "the loss without sampling; most of the difference is due to codes that do not "
                    "follow the prior"),
            Measure("generated_confidence", "Share of confident images", 3, "higher",
                    "share of decoded prior samples that the classifier gives a class with 90 % "
                    "or more",
                    needs_labels=True),
            Measure("reconstructed_confidence", "Same, of reconstructions", 3, "higher",
                    "again without sampling",
                    needs_labels=True),
            Measure("generated_entropy", "Entropy of the classes", 3, "higher",
                    "in nats; the logarithm of the number of classes if all are equally frequent",
                    needs_labels=True),
            Measure("asked_class_accuracy", "Share of the class that was asked for", 3, "higher",
                    "share of decoded pairs of a class and a prior sample that the classifier "
                    "assigns to this class",
                    needs_labels=True),
            Measure("generated_precision", "Precision", 3, "higher",
                    "share of decoded prior samples that lie among real images"),
            Measure("generated_recall", "Recall", 3, "higher",
                    "share of real images that lie among decoded prior samples"),
            Measure("parzen_log_likelihood", "Parzen log-likelihood", 0, "higher",
                    "of test images, in nats; the paper's measure, which prefers blurred means"),
        ),
    ),
    Question(
        "Are they copies?",
        "test images",
        (
            Measure("nearest_training_distance", "Distance to the nearest training image", 3, None,
                    "median root mean squared difference per pixel; copies would be near 0"),
        ),
    ),
)  # fmt: skip

MEASURES = {measure.key: measure for question in QUESTIONS for measure in question.measures}
HEADLINES = {key: measure.headline for key, measure in MEASURES.items() if measure.headline}
# Lists of runs and trials are sorted by the first headline measure that is a number, since the
# verdict only divides them in two.
SORTED_BY = next(key for key in HEADLINES if MEASURES[key].digits)


def headlines(measured: dict[str, float]) -> dict[str, float]:
    """Return the headline measures among all measures of a model, in the order of the register."""
    return {key: measured[key] for key in HEADLINES if key in measured}
