"""The page: one self-contained HTML file."""

import base64
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import jinja2

from aae.params import Params, flatten

# The parameters and the libraries that the numbers depend on.
SHOWN = {
    "seed", "data", "latent_dim", "network", "precision", "device", "train_ae", "train_aae",
    "eval_latent",
}  # fmt: skip
LIBRARIES = (
    "torch", "numpy", "scipy", "scikit-learn", "matplotlib", "pillow", "mlxtend",
)  # fmt: skip


class Measure(NamedTuple):
    """A line of the table.

    Attributes:
        key: in latent.json.
        title: what it is called on the page.
        digits: after the point.
        note: what it is, in plain words.
    """

    key: str
    title: str
    digits: int
    note: str


# Questions, what the last column of numbers stands for, and the measures that answer them.
TABLE = (
    (
        "Do the codes follow the prior?",
        "two prior samples",
        (
            Measure("match_ratio", "Match ratio", 2,
                    "the next line over its value for two prior samples: 1 is a perfect match"),
            Measure("sliced_wasserstein", "Sliced-Wasserstein distance", 3,
                    "how far their projections are from those of a prior sample, in units of the "
                    "codes"),
            Measure("energy_distance", "Energy distance", 4,
                    "0 if and only if the distributions are equal, in units of the codes"),
            Measure("mmd2", "Squared maximum mean discrepancy", 5,
                    "sees holes and modes; around 0 for equal distributions"),
            Measure("ks_statistic", "Kolmogorov-Smirnov statistic", 3,
                    "largest gap between the distribution functions of a dimension, from 0 to 1"),
            Measure("ks_projected", "the same along random directions", 3,
                    "so that a dependence between dimensions cannot hide"),
            Measure("c2st_accuracy", "Classifier two-sample accuracy", 3,
                    "how often a classifier tells codes from prior samples; 0.5 is guessing"),
        ),
    ),
    (
        "Are there gaps?",
        "two prior samples",
        (
            Measure("prior_coverage", "Coverage of the prior", 3,
                    "share of prior samples with a code in their neighbourhood"),
            Measure("prior_density", "Density", 3,
                    "how many such neighbourhoods a code is in, on average, over five"),
            Measure("prior_gap_share", "Share of the prior in gaps", 3,
                    "places of the prior with no code as near as 99 % of its samples come to them"),
        ),
    ),
    (
        "Do codes keep what the images show?",
        "",
        (
            Measure("reconstruction_mse", "Reconstruction error", 4,
                    "mean squared error per pixel: what the prior costs"),
            Measure("knn_accuracy", "Nearest-neighbour accuracy", 3,
                    "test images whose ten nearest training codes vote for their class"),
            Measure("probe_accuracy", "Linear-probe accuracy", 3,
                    "the same of a linear classifier"),
            Measure("silhouette", "Silhouette", 3,
                    "how well classes are apart, from -1 to 1"),
        ),
    ),
    (
        "Is what the decoder makes of the prior real?",
        "real images",
        (
            Measure("generated_frechet", "Fréchet distance", 2,
                    "between features of decoded prior samples and of test images, in a classifier "
                    "of our own: not comparable with published FIDs"),
            Measure("reconstructed_frechet", "the same of reconstructions", 2,
                    "what is lost without sampling; most of the difference is the cost of gaps"),
            Measure("generated_confidence", "Share of confident images", 3,
                    "decoded prior samples that the classifier gives a class with 90 % or more"),
            Measure("reconstructed_confidence", "the same of reconstructions", 3,
                    "again without sampling"),
            Measure("generated_entropy", "Entropy of the classes", 3,
                    "in nats; ln 10 = 2.303 if all ten are painted equally often"),
            Measure("generated_precision", "Precision", 3,
                    "share of decoded samples that lie among real images"),
            Measure("generated_recall", "Recall", 3,
                    "share of real images that lie among decoded samples"),
            Measure("parzen_log_likelihood", "Parzen log-likelihood", 0,
                    "of test images, in nats; the paper's measure, known to prefer blurred means"),
        ),
    ),
    (
        "Is it memory?",
        "test images",
        (
            Measure("nearest_training_distance", "Distance to the nearest training image", 3,
                    "median root mean squared difference per pixel; copies would be near 0"),
        ),
    ),
)  # fmt: skip


def render(
    metrics: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, bytes],
    explorer: Mapping[str, Any],
    params: Params,
    code: str,
) -> str:
    """Return the page.

    Args:
        metrics: content of reports/metrics/latent.json.
        provenance: content of reports/provenance.json.
        figures: PNG files by name.
        explorer: content of reports/explorer.json.
        params: the parameters.
        code: digest of the code.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aae", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    entry = params.priors[params.prior]
    return environment.get_template("report.html.j2").render(
        metrics=metrics,
        table=TABLE,
        reference=lambda key: _reference(metrics, key),
        images={name: base64.b64encode(png).decode() for name, png in figures.items()},
        explorer=explorer,
        data=provenance["data"],
        params=params,
        parameters=flatten(
            params.model_dump(mode="json", include=SHOWN, exclude={"data": {"root"}})
        ),
        prior=str(entry),
        univariate=params.latent_prior.univariate,
        by_ranks=not params.latent_prior.has_variance,
        flat=entry.distribution == "Uniform",
        digests={"the code": code, **_titled(provenance["sha256"])},
        libraries={name: version(name) for name in LIBRARIES},
    )


def _reference(metrics: Mapping[str, Mapping[str, Any]], key: str) -> float | None:
    """What two prior samples score, or real images; None where neither makes sense."""
    if key == "match_ratio":
        return 1.0
    if key in metrics["aae"]["floor"]:
        return float(metrics["aae"]["floor"][key]["mean"])
    return metrics["real"].get(key)


def _titled(digests: Mapping[str, str]) -> dict[str, str]:
    titles = {"data": "the prepared data"}
    return {titles.get(name, f"the model {name}"): digest for name, digest in digests.items()}
