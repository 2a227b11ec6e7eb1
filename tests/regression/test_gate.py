"""The gate in real repositories; test_power.py tests what it catches."""

import io
import json
import os
import signal
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import mlflow
import pytest
from projects import commit, copy_project, copy_results, gate, run, start
from servers import wait_for_line
from support import write_params

from aae.cli import main
from aae.errors import ComparisonError

# The workflow finds the gate's comment by this marker.
MARKER = "<!-- metrics of aae regression -->"
GUARDED = "reports/metrics/regression.json"
# A small pipeline, and two metrics without any tolerance.
TINY = {
    "regression.overrides": {
        "network.hidden": [16],
        "network.discriminator_hidden": [16],
        "train_ae.epochs": 1,
        "train_aae.epochs": 1,
        "eval_latent.draws": 19,
        "eval_latent.references": 2,
        "eval_latent.subset": 100,
        "eval_latent.judge_steps": 20,
    },
    "regression.metrics": {
        f"{model}.reconstruction_mse": {"absolute": 0.0} for model in ("ae", "aae")
    },
}
HALVES = """
from dataclasses import replace

def halve(splits):
    splits["train"] = replace(splits["train"], rows=splits["train"].rows[::2])
"""


def write_baseline(project: Path, text: str) -> None:
    """Commit guarded metrics."""
    path = project / GUARDED
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    commit(project, "baseline")


@pytest.fixture(scope="module")
def unmeasured(tmp_path_factory) -> Path:
    """A project without any metrics."""
    return copy_project(tmp_path_factory.mktemp("unmeasured"), {})


@pytest.fixture
def project(unmeasured, tmp_path) -> Path:
    """A clone of ``unmeasured``."""
    run(["git", "clone", "--quiet", unmeasured.as_uri(), str(tmp_path / "clone")], tmp_path)
    return tmp_path / "clone"


def refused(project: Path, *arguments: str) -> tuple[str, str]:
    """Check that the gate exits with 2 before any stage runs; return its output and its errors.

    This process can do that, in a tenth of the time of a new one.
    """
    output, errors = io.StringIO(), io.StringIO()
    streams = redirect_stdout(output), redirect_stderr(errors)
    with chdir(project), streams[0], streams[1], pytest.raises(SystemExit, match="2"):
        main(["regression", *arguments])
    return output.getvalue(), errors.getvalue()


def assert_not_comparable(project: Path, message: str, *arguments: str) -> None:
    """Check that the gate refuses in one line, also in JSON."""
    output, errors = refused(project, *arguments, "--json", "--markdown", "comment.md")
    (line,) = errors.splitlines()
    assert line.startswith(f"could not compare: {message}")
    assert json.loads(output) == {"verdict": "could not compare", "summary": line}
    comment = (project / "comment.md").read_text()
    assert comment.startswith(f"{MARKER}\n"), "by which the workflow finds it again"
    assert line in comment


def test_without_a_baseline_it_says_how_to_make_one(project):
    message = f"{GUARDED} is not in the merge base with origin/main ("
    assert_not_comparable(project, message)
    assert_not_comparable(project, f"{GUARDED} is not in HEAD (", "--base", "HEAD")
    head = run(["git", "rev-parse", "--short=8", "HEAD"], project).stdout.strip()
    assert_not_comparable(project, f"{GUARDED} is not in {head}; ", "--base", head)


def test_a_revision_that_is_not_there_is_named(project):
    message = "--base: 'v1.2' is not a revision of this repository"
    assert_not_comparable(project, message, "--base", "v1.2")


def test_a_history_that_is_cut_off_is_named(project, tmp_path):
    (project / "new.txt").write_text("")
    commit(project, "one more")
    shallow = tmp_path / "shallow"
    run(["git", "clone", "--quiet", "--depth=1", project.as_uri(), str(shallow)], tmp_path)
    message = "the history is incomplete: run `git fetch --unshallow` first"
    for base in ([], ["--base", "HEAD"], ["--base", "HEAD~1"]):
        assert_not_comparable(shallow, message, *base)


def test_a_branch_that_has_nothing_in_common_with_main_is_named(project):
    run(["git", "checkout", "--quiet", "--orphan", "mine"], project)
    commit(project, "mine")
    assert_not_comparable(project, "this branch and origin/main have no commit in common")


def test_a_large_file_that_git_does_not_ignore_is_named_before_it_is_copied(project):
    with (project / "images.bin").open("wb") as file:
        file.truncate(3 * 2**30)  # a hole, which takes no space
    message = "a copy of this folder would have 307"
    assert_not_comparable(project, message, "--base", "HEAD")


def test_without_a_main_branch_a_base_is_asked_for(unmeasured, tmp_path):
    other = tmp_path / "other"
    run(["git", "clone", "--quiet", unmeasured.as_uri(), str(other)], tmp_path)
    run(["git", "remote", "remove", "origin"], other)
    run(["git", "branch", "--move", "trunk"], other)
    assert_not_comparable(other, "there is no branch origin/main or main; name a revision")


def test_a_wrong_parameter_is_named_before_time_is_spent(project):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("relative:", "relatve:", 1))
    message = "regression.metrics.ae.reconstruction_mse.relatve: 'relatve' is not a parameter; did"
    assert_not_comparable(project, message)


def test_a_metric_that_nobody_measures_is_named_before_time_is_spent(project):
    write_baseline(project, '{"aae.match_ratio": 1.0}')
    params = (project / "params.yaml").read_text()
    for wrong, reason in (
        ("aae.match_ratia", "'match_ratia' is not a measure; did you mean 'match_ratio'?"),
        ("aea.match_ratio", "'aea' is not a model; did you mean 'a"),
        ("match_ratio", "'match_ratio' is not a model (choices: ae, aae, ae_mixture, real)"),
    ):
        (project / "params.yaml").write_text(params.replace(" aae.match_ratio:", f" {wrong}:"))
        message = f"regression.metrics: {wrong}: {reason}"
        assert_not_comparable(project, message, "--base", "HEAD")


def test_a_baseline_that_is_damaged_is_named(project):
    write_baseline(project, "{")
    head = run(["git", "rev-parse", "--short=7", "HEAD"], project).stdout.strip()
    assert_not_comparable(project, f"{GUARDED} at {head} is damaged: ", "--base", "HEAD")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "Input should be an object"),
        ('{"aae.mmd2": NaN}', "aae.mmd2 is nan: Input should be a finite number"),
        ('{"aae.mmd2": "high"}', "aae.mmd2 is 'high': Input should be a valid number"),
        ('{"aae.mmd2": null}', "aae.mmd2 is None: Input should be a valid number"),
        ('{"aae.mmd2": true}', "aae.mmd2 is True: Input should be a valid number"),
    ],
)
def test_metrics_that_are_no_numbers_are_damaged(text, reason):
    from aae.regression.gate import parse  # imports dvc, which takes a second

    with pytest.raises(ComparisonError) as error:
        parse(text.encode(), "regression.json")
    assert str(error.value) == f"regression.json is damaged: {reason}"


def test_a_whole_number_is_a_number():
    from aae.regression.gate import parse

    assert parse(b'{"aae.match_ratio": 1}', "regression.json") == {"aae.match_ratio": 1}


def test_metrics_of_this_tree_that_are_damaged_are_named(project):
    write_baseline(project, '{"aae.match_ratio": 1.0}')
    for path, content in (
        (GUARDED, b'{"aae.match_ratio": "1"}'), (GUARDED, b"\xff\xfe"), (GUARDED, b"<<<<<<< HEAD")
    ):  # fmt: skip
        (project / path).write_bytes(content)
        assert_not_comparable(project, f"{path} is damaged: ", "--base", "HEAD")
        (project / path).write_text("{}")


def test_without_committed_reports_dvc_would_lose_the_metrics(project):
    write_params(project / "params.yaml", TINY)
    assert_not_comparable(
        project, "git does not track reports/metrics/latent.json, and DVC would lose", "--accept"
    )


def test_a_file_that_cannot_be_written_is_named_before_time_is_spent(project):
    for option, path in (
        ("--markdown", "params.yaml/comment.md"), ("--json", "aae"), ("--report", "aae")
    ):  # fmt: skip
        _, errors = refused(project, option, path)
        assert f"{path} cannot be written: " in errors.splitlines()[-1]


def test_the_gate_explains_itself(project):
    answer = gate(project, "--help").stdout
    for word in ("--base", "--accept", "--markdown", "--json", "ARGS=--accept", "Exits with 0"):
        assert word in answer


@pytest.mark.slow
def test_a_pipeline_that_fails_is_no_metric_that_is_worse(project):
    copy_results(project)
    write_baseline(project, '{"aae.match_ratio": 1.0}')
    write_params(project / "params.yaml", {"regression.overrides": {"latent_dim": 0}})
    result = gate(project, "--base", "HEAD")
    assert result.returncode == 2
    assert "error: latent_dim: 0 is wrong" in result.stderr
    assert result.stderr.splitlines()[-1] == "could not compare: the pipeline failed, see above"


@pytest.mark.slow
def test_after_ctrl_c_nothing_is_left(project):
    copy_results(project)
    long = TINY["regression.overrides"] | {"train_ae.epochs": 1000}
    write_params(project / "params.yaml", TINY | {"regression.overrides": long})
    write_baseline(project, json.dumps(dict.fromkeys(TINY["regression.metrics"], 1.0)))
    process = start(["aae", "regression", "--base", "HEAD"], project, PYTHONPATH=str(project))
    wait_for_line(process.stderr, "Running stage 'train_ae'")
    assert list((project / ".dvc" / "tmp").rglob("dvc.yaml")), "the copy that it runs in"
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    assert not list((project / ".dvc" / "tmp").rglob("dvc.yaml"))
    assert run(["dvc", "exp", "list", "--name-only"], project).stdout == ""
    assert run(["git", "status", "--porcelain"], project).stdout == ""


def test_on_github_the_figures_of_both_commits_have_addresses(monkeypatch):
    from aae.regression.gate import image_addresses
    from aae.workspace import git

    assert image_addresses("abc") == ()
    monkeypatch.setenv("GITHUB_REPOSITORY", "me/aae")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    raw = "https://github.example/me/aae/raw"
    assert image_addresses("abc") == (f"{raw}/abc", f"{raw}/{git('rev-parse', 'HEAD')}")


@pytest.mark.slow
def test_what_is_worse_fails_but_for_what_is_accepted_on_purpose(tmp_path):
    project = copy_project(tmp_path / "project", TINY)
    copy_results(project)
    (project / GUARDED).write_text("<<<<<<< HEAD")  # the gate overwrites it
    commit(project, "a damaged baseline")
    result = gate(project, "--accept", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["verdict"] == "accepted"
    assert result.stderr.splitlines()[-1] == f"accepted: commit {GUARDED}"
    assert run(["dvc", "exp", "list", "--name-only"], project).stdout == "", "none is left behind"
    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
    names = {experiment.name for experiment in mlflow.search_experiments()}
    assert names - {"Default"} == {"aae-regression"}
    assert run(["git", "status", "--porcelain"], project).stdout == f" M {GUARDED}\n"
    commit(project, "baseline")
    baseline = json.loads((project / GUARDED).read_text())
    assert list(baseline) == list(TINY["regression.metrics"])

    # An uncommitted change, with an untracked folder and new names.
    stage = project / "stages" / "prepare_data.py"
    for old, new in (
        ("    write_prepared(", "    halve(splits)\n    write_prepared("),
        ("\nfrom aae.data", "\nfrom aae.halves import halve\nfrom aae.data"),
    ):
        assert stage.read_text().count(old) == 1
        stage.write_text(stage.read_text().replace(old, new))
    (project / "aae" / "halves").mkdir()
    (project / "aae" / "halves" / "__init__.py").write_text(HALVES)
    (project / "aae" / "hälften.md").write_text("Images, but half of them.")
    # The content that `--accept` would write for one of the two metrics.
    (project / GUARDED).write_text(json.dumps(baseline | {"ae.reconstruction_mse": 1.0}))
    result = gate(project, *(f"--{kind}={kind}.out" for kind in ("markdown", "json", "report")))
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-1].startswith("regression: aae.reconstruction_mse worse")
    rows = {row["metric"]: row for row in json.loads((project / "json.out").read_text())["rows"]}
    assert {name: row["baseline"] for name, row in rows.items()} == baseline
    assert rows["aae.reconstruction_mse"]["verdict"] == "worse"
    assert rows["ae.reconstruction_mse"]["verdict"] == "accepted"
    assert rows["ae.reconstruction_mse"]["now"] > baseline["ae.reconstruction_mse"]
    assert "| aae.reconstruction_mse |" in (project / "markdown.out").read_text()
    assert "<title>" in (project / "report.out").read_text()


@pytest.mark.slow
def test_a_variant_is_guarded_by_its_own_measures(tmp_path):
    variant = {"labels.use": "semi-supervised", "train_aae.epochs": 3}
    changes = {
        "regression.overrides": TINY["regression.overrides"] | variant,
        "regression.metrics": {"aae.classification_error": {"absolute": 0.05}},
    }
    project = copy_project(tmp_path / "project", changes)
    copy_results(project)
    assert gate(project, "--accept").returncode == 0
    commit(project, "baseline")
    result = gate(project, "--json")
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert (row["metric"], row["verdict"]) == ("aae.classification_error", "same")
    assert row["now"] == row["baseline"]

    phases = project / "aae" / "training" / "phases.py"
    right = 'step.batch["labelled_classes"]'
    assert phases.read_text().count(right) == 1
    phases.write_text(phases.read_text().replace(right, f"{right}.flip(0)"))
    result = gate(project)
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-1] == (
        "regression: aae.classification_error worse than at the merge base with main "
        f"({run(['git', 'rev-parse', '--short', 'HEAD'], project).stdout.strip()})"
    )
