"""The gate: it compares a smaller pipeline with the committed metrics of a baseline."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any

import joblib
from dvc.api import metrics_show, read
from dvc.exceptions import DvcException
from pydantic import FiniteFloat, Strict, TypeAdapter, ValidationError
from rich.console import Console

from aae.errors import AAEError, ComparisonError, OutputError, unknown, without_password
from aae.evaluation.measures import MEASURES
from aae.files import write_json, write_text
from aae.params import PARAMS, Guard
from aae.pipeline.parameters import read_params
from aae.regression.comparison import HOW_TO_ACCEPT, Comparison, compare_metrics
from aae.tracking.address import experiment_name
from aae.workspace import NO_COMMIT, UNSHALLOW, git, is_shallow, obstacle_to_a_copy

# All measures of the pipeline, and the guarded ones of the baseline; and what these files hold.
MEASURED = Path("reports/metrics/latent.json")
GUARDED = Path("reports/metrics/regression.json")
NUMBERS = TypeAdapter(dict[str, Annotated[FiniteFloat, Strict()]])
# Models in the former.
MODELS = ("ae", "aae", "ae_mixture", "real")
PAGE = Path("reports/report.html")
FIGURES = "reports/figures"
# The shared main branch comes before the local one, which may be out of date.
MAIN_BRANCHES = ("origin/main", "main")
# The workflow finds its comment on a pull request by this marker, to update it.
MARKER = "<!-- metrics of aae regression -->"


def run_gate(
    base: str | None, accept: bool, markdown: str | None, as_json: str | None, page: Path | None
) -> int:
    """Run the gate and print the result.

    Args:
        base: revision to compare with; the merge base with the main branch if None.
        accept: write the metrics of this tree to reports/metrics/regression.json.
        markdown: file for a comment on a pull request, "-" for the standard output.
        as_json: file for the result as JSON, "-" for the standard output.
        page: file for the page of the run; None if it is not needed.

    Returns:
        The exit status: 0 if no metric is worse, 1 if one is, 2 if they could not be compared.
    """
    try:
        comparison = compare(base, accept, page)
    except (AAEError, DvcException) as error:
        reason = f"could not compare: {without_password(str(error))}"
        code, summary, table, results = 2, reason, "", {"verdict": "could not compare"}
    else:
        code, summary = int(comparison.failed), comparison.summary
        table = comparison.markdown(*image_addresses(comparison.base))
        verdict = "regression" if code else "pass"
        if accept:
            code, summary, verdict = 0, f"accepted: commit {GUARDED}", "accepted"
        results = {"verdict": verdict} | asdict(comparison)
        if "-" not in (markdown, as_json):
            Console().print(comparison.table())
            if comparison.may_be_accepted and not accept:
                print(HOW_TO_ACCEPT)
    try:
        _write(markdown, f"{MARKER}\n### Metrics\n\n{summary}\n\n{table}")
        _write(as_json, json.dumps(results | {"summary": summary}, indent=2) + "\n")
    except OutputError as error:
        code, summary = 2, f"{summary}; {error}"
    sys.stdout.flush()
    print(summary, file=sys.stderr)
    return code


def _write(target: str | None, text: str) -> None:
    """Write a text to a file or to the standard output ("-"); do nothing without a target."""
    if target == "-":
        print(text, end="")
    elif target is not None:
        write_text(Path(target), text)


def compare(base: str | None, accept: bool, page: Path | None) -> Comparison:
    """Compare this tree, including uncommitted changes, with a baseline.

    Args:
        base: a revision; the merge base with the main branch if None.
        accept: write the metrics of this tree to reports/metrics/regression.json.
        page: file for the page of the run; None if it is not needed.

    Raises:
        ComparisonError: if there is nothing to compare with, or the pipeline fails.
        ParameterError: if a value in params.yaml is wrong.
    """
    settings = read_params(PARAMS).regression
    commit, title = find_base(base)
    if reason := obstacle_to_a_copy():
        raise ComparisonError(reason)
    try:
        baseline = guarded_at(commit)
    except ComparisonError as error:
        if not accept:
            raise ComparisonError(f"{error}; {HOW_TO_ACCEPT}") from error
        baseline = {}
    if not baseline and not accept:
        raise ComparisonError(f"{GUARDED} is not in {title}; {HOW_TO_ACCEPT}")
    committed = {} if accept or not GUARDED.exists() else parse(GUARDED.read_bytes(), GUARDED)
    old = {} if accept else baseline
    for name in settings.metrics:  # before the pipeline runs
        model, _, key = name.partition(".")
        for part, known, what in ((model, MODELS, "a model"), (key, MEASURES, "a measure")):
            if part not in known:
                raise ComparisonError(f"regression.metrics: {name}: {unknown(part, known, what)}")
    if not git("ls-files", str(MEASURED)):
        raise ComparisonError(
            f"git does not track {MEASURED}, and DVC would lose what the pipeline writes there: "
            "run `dvc repro` and commit reports/"
        )
    now = measure("regression", settings.overrides, page)
    guards = guards_of(settings.metrics, now, old)
    rows = compare_metrics(guards, baseline, now, committed)
    if accept:
        write_json(GUARDED, {name: now[name] for name in guards})
    figures = (git("diff", "--name-only", commit, "--", FIGURES) or "").splitlines()
    passed_over = [name for name in settings.metrics if name not in guards]
    return Comparison(commit, title, rows, figures, passed_over)


def parse(content: bytes | str, name: object) -> dict[str, float]:
    """Return the metrics in a JSON file; an error names the file, and the metric that is wrong."""
    try:
        return NUMBERS.validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        metric = "".join(f"{key} is {first['input']!r}: " for key in first["loc"])
        raise ComparisonError(f"{name} is damaged: {metric}{first['msg']}") from error


def find_base(name: str | None) -> tuple[str, str]:
    """Return the commit of the baseline, and its title.

    Args:
        name: a revision; the merge base with the main branch if None.

    Raises:
        ComparisonError: if there is no baseline; says what to do.
    """
    if git("rev-parse", "HEAD") is None:
        raise ComparisonError(NO_COMMIT)
    if is_shallow(Path.cwd()):
        raise ComparisonError(UNSHALLOW)
    if name is not None:
        commit = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if commit is None:
            raise ComparisonError(f"--base: {name!r} is not a revision of this repository")
        return commit, name if commit.startswith(name) else f"{name} ({commit[:7]})"
    branch = next((x for x in MAIN_BRANCHES if git("rev-parse", "--verify", "--quiet", x)), None)
    if branch is None:
        raise ComparisonError(
            f"there is no branch {' or '.join(MAIN_BRANCHES)}; name a revision with --base"
        )
    commit = git("merge-base", "HEAD", branch)
    if commit is None:
        raise ComparisonError(f"this branch and {branch} have no commit in common")
    return commit, f"the merge base with {branch} ({commit[:7]})"


def guarded_at(commit: str) -> dict[str, float]:
    """Return the guarded metrics of a commit; none if it has no such file."""
    content = git("show", f"{commit}:{GUARDED}")
    return {} if content is None else parse(content, f"{GUARDED} at {commit[:7]}")


def measure(
    name: str, overrides: Mapping[str, Any], page: Path | None = None, log: IO[str] = sys.stderr
) -> dict[str, float]:
    """Run the pipeline, and return its measures by model and metric.

    The pipeline runs as a DVC experiment in a copy of this folder, with uncommitted changes, and
    leaves this folder unchanged. It trains and evaluates anew; DVC skips prepare_data if nothing
    that it depends on has changed. MLflow records it in a separate experiment, so that nobody
    compares it with the whole pipeline.

    Args:
        name: name of the experiment, which is removed at the end.
        overrides: parameters by dotted name.
        page: file for its page; None if it is not needed.
        log: stream for its progress.

    Raises:
        ComparisonError: if the pipeline fails.
    """
    # A unique name, because the work trees of a repository share their experiments.
    name = f"{name}-{git('rev-parse', '--short', 'HEAD')}-{uuid.uuid4().hex[:8]}"
    changes = [f"--set-param={key}={json.dumps(value)}" for key, value in overrides.items()]
    # Untracked folders are copied as a whole, since DVC does not create a folder for a single file.
    listed = git("ls-files", "-z", "--others", "--exclude-standard", "--directory") or ""
    copied = [f"--copy-paths={path}" for path in listed.split("\0") if path]
    dvc = [sys.executable, "-m", "dvc", "exp"]
    environment = {
        "OMP_NUM_THREADS": str(joblib.cpu_count()),  # this experiment runs alone
        **os.environ,
        "MLFLOW_EXPERIMENT_NAME": f"{experiment_name()}-regression",
    }
    run = subprocess.Popen(
        [*dvc, "run", "--temp", "--name", name, *changes, *copied],
        env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        run.wait()
    except KeyboardInterrupt:  # DVC gets the signal too, and removes its copy of this folder
        run.wait()
        raise
    if run.returncode:
        raise ComparisonError("the pipeline failed, see above")
    try:
        if page:
            write_text(page, read(str(PAGE), rev=name))
        return by_model(metrics_show(str(MEASURED), rev=name))
    finally:
        subprocess.run([*dvc, "remove", "--quiet", name], check=False)


def by_model(measures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the measures in latent.json by names such as ``aae.match_ratio``."""
    return {
        f"{model}.{name}": value
        for model, values in measures.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if isinstance(value, float) and name in MEASURES
    }


def guards_of(
    guards: Mapping[str, Guard], measured: Mapping[str, float], baseline: Mapping[str, float]
) -> dict[str, Guard]:
    """Return the guards of measured metrics.

    Metrics that need labels are passed over if neither side has them because the data have no
    labels: then nothing that needs labels is measured.

    Args:
        guards: tolerances of the guarded metrics by name.
        measured: measures by model and metric.
        baseline: guarded metrics of the baseline.

    Raises:
        ComparisonError: if another metric is not measured.
    """
    models = {name.partition(".")[0] for name in measured}
    labelled = any(_needs_labels(name) for name in measured)
    found = {}
    for name, guard in guards.items():
        if name in measured:
            found[name] = guard
            continue
        known = name.partition(".")[0] in models and _needs_labels(name)
        if labelled or not known or name in baseline:
            raise ComparisonError(f"regression.metrics: {unknown(name, measured, 'measured')}")
    return found


def _needs_labels(name: str) -> bool:
    """Return whether a metric such as ``aae.knn_accuracy`` needs labels."""
    measure = MEASURES.get(name.partition(".")[2])
    return measure is not None and measure.needs_labels


def image_addresses(base: str) -> tuple[str, str] | tuple[()]:
    """Return the addresses of the baseline's and this commit's files on GitHub; () elsewhere."""
    if "GITHUB_REPOSITORY" not in os.environ:
        return ()
    repository = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    return f"{repository}/raw/{base}", f"{repository}/raw/{git('rev-parse', 'HEAD')}"
