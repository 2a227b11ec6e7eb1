"""Write one page with all results and figures, which opens without a server.

Reads the outputs of eval_latent and params.yaml; writes reports/report.html.
"""

import json
from pathlib import Path

from aae.pipeline.stage import run_stage
from aae.files import tree_digest, write_text
from aae.params import Params
from aae.report.page import render

METRICS = Path("reports/metrics/latent.json")
PROVENANCE = Path("reports/provenance.json")
EXPLORER = Path("reports/explorer.json")
FIGURES = Path("reports/figures")
PAGE = Path("reports/report.html")
CODE = (Path("aae"), Path("stages"))


def main(params: Params) -> None:
    """Write the page."""
    metrics, provenance, explorer = (
        json.loads(path.read_text(encoding="utf-8")) for path in (METRICS, PROVENANCE, EXPLORER)
    )
    figures = {path.stem: path.read_bytes() for path in sorted(FIGURES.glob("*.png"))}
    page = render(metrics, provenance, figures, explorer, params, tree_digest(*CODE))
    write_text(PAGE, page)
    print(f"open {PAGE} in a browser")


if __name__ == "__main__":
    run_stage(main, __doc__, needs_device=False)
