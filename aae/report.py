"""The page: one self-contained HTML file."""

import base64
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import jinja2

from aae.params import Params

# The parameters and the libraries that the numbers depend on.
SHOWN = {"seed", "data", "network", "train_ae", "train_aae", "eval_latent"}
LIBRARIES = ("torch", "numpy", "scipy", "pot", "matplotlib", "mlxtend")


def render(
    metrics: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, bytes],
    params: Params,
) -> str:
    """Return the page.

    Args:
        metrics: content of reports/metrics/latent.json.
        provenance: content of reports/provenance.json.
        figures: PNG files by name.
        params: the parameters.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aae", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    entry = params.priors[params.prior]
    arguments = ", ".join(f"{name}={value}" for name, value in entry.arguments.items())
    return environment.get_template("report.html.j2").render(
        metrics=metrics,
        images={name: base64.b64encode(png).decode() for name, png in figures.items()},
        data=provenance["data"],
        params=params,
        parameters=params.model_dump(include=SHOWN, exclude={"data": {"root"}}),
        prior=f"{entry.distribution}({arguments})",
        digests=provenance["sha256"],
        libraries={name: version(name) for name in LIBRARIES},
    )
