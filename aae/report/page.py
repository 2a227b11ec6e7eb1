"""The page, which is one self-contained HTML file."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import jinja2

from aae.evaluation.measures import QUESTIONS, Question
from aae.params import Params, flatten
from aae.report.paths import TYPICAL
from aae.report.titles import MAX_CLASSES, TITLES

# The numbers on the page depend on these parameters and libraries.
PARAMETERS = {
    "seed", "data", "latent_dim", "network", "posterior", "labels", "augment", "precision",
    "device", "train_ae", "train_aae", "eval_latent",
}  # fmt: skip
LIBRARIES = (
    "torch", "numpy", "scipy", "scikit-learn", "matplotlib", "pillow", "mlxtend",
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
        loader=jinja2.PackageLoader("aae", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    measured = {name: found for name, found in metrics.items() if name != "real"}
    models = {name: found for name, found in measured.items() if "follows_prior" in found}
    posteriors = [found["posterior"] for found in models.values()]
    entry = params.priors[params.prior]
    return environment.get_template("page.html.j2").render(
        models=models,
        measured=measured,
        best=min(measured, key=lambda name: measured[name]["generated_frechet"]),
        # `labels.use: prior` turns the noise of `posterior.kind: gaussian` off.
        stochastic=next((kind for kind in posteriors if kind != "deterministic"), None),
        starts_from_autoencoder=params.starts_from_autoencoder,
        titles=TITLES,
        real=metrics["real"],
        questions=_measured_questions(measured),
        labelled=bool(explorer["class_names"]),
        classes=len(explorer["class_names"]),
        most_classes=MAX_CLASSES,
        most_images=TYPICAL,
        reference=lambda key: _reference(models, metrics["real"], key),
        images={name: base64.b64encode(png).decode() for name, png in figures.items()},
        explorer=explorer,
        choice=next((x["choice"] for x in explorer["models"].values() if "choice" in x), None),
        data=provenance["data"],
        params=params,
        parameters=flatten(
            params.model_dump(mode="json", include=PARAMETERS, exclude={"data": {"root"}})
        )
        # The page must not depend on where a user's images lie.
        | {"data.source": provenance["data"]["source"]},
        prior=str(entry),
        flat=entry.distribution == "Uniform",
        digests={"the code": code, **_titled(provenance["sha256"])},
        libraries={name: version(name) for name in LIBRARIES},
        **provenance["prior"],
    )


def _measured_questions(measured: Mapping[str, Mapping[str, Any]]) -> list[Question]:
    """Return the questions with those of their measures that a model has."""
    found = set().union(*measured.values())
    questions = [
        replace(question, measures=tuple(x for x in question.measures if x.key in found))
        for question in QUESTIONS
    ]
    return [question for question in questions if question.measures]


def _reference(
    models: Mapping[str, Mapping[str, Any]], real: Mapping[str, float], key: str
) -> float | None:
    """Return the score of prior samples or of real images; None if the measure has neither."""
    if key in ("match_ratio", "class_match_ratio"):
        return 1.0
    if key == "asked_class_accuracy":
        return real.get("judge_accuracy")
    floor = next(iter(models.values()))["floor"]
    return float(floor[key]["mean"]) if key in floor else real.get(key)


def _titled(digests: Mapping[str, str]) -> dict[str, str]:
    titles = {"data": "the prepared data"}
    return {titles.get(name, f"the model {name}"): digest for name, digest in digests.items()}
