"""The gate, in real repositories; what it catches is in test_power.py."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import commit, copy_project, copy_results, run

GUARDED = "reports/metrics/regression.json"
# A pipeline of seconds, and one metric that must not change at all.
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
    "regression.metrics": {"ae.reconstruction_mse": {"better": "lower", "absolute": 0.0}},
}
HALVES = """
def halve(splits):
    splits["train"] = splits["train"][range(0, len(splits["train"]), 2)]
"""


def gate(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the gate with one thread: another test may be at work on the other cores."""
    command = ["python", "-m", "aae.regression", *arguments]
    one = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(project)}
    return run(command, project, check=False, **one | environment)


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
    """A clone of it."""
    run(["git", "clone", "--quiet", unmeasured.as_uri(), str(tmp_path / "clone")], tmp_path)
    return tmp_path / "clone"


def assert_not_comparable(project: Path, message: str, *arguments: str) -> None:
    """It says so in one line, also to machines, with 2, and before any stage has run."""
    result = gate(project, *arguments, "--json", "--markdown", "comment.md")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"could not compare: {message}")
    assert json.loads(result.stdout) == {"verdict": "could not compare", "summary": line}
    assert line in (project / "comment.md").read_text()


def test_without_a_baseline_it_says_how_to_make_one(project):
    message = f"{GUARDED} is not in the merge base with origin/main ("
    assert_not_comparable(project, message)
    assert_not_comparable(project, f"{GUARDED} is not in HEAD (", "--base", "HEAD")


def test_a_revision_that_is_not_there_is_named(project):
    message = "--base: 'v1.2' is no revision of this repository"
    assert_not_comparable(project, message, "--base", "v1.2")


def test_a_history_that_is_cut_off_is_named(project, tmp_path):
    (project / "new.txt").write_text("")
    commit(project, "one more")
    shallow = tmp_path / "shallow"
    run(["git", "clone", "--quiet", "--depth=1", project.as_uri(), str(shallow)], tmp_path)
    hint = "the history is cut off, fetch it with `git fetch --unshallow`"
    message = f"--base: 'HEAD~1' is no revision of this repository; {hint}"
    assert_not_comparable(shallow, message, "--base", "HEAD~1")
    # A branch whose common commit with main is not there.
    run(["git", "checkout", "--quiet", "--orphan", "mine"], shallow)
    commit(shallow, "mine")
    message = f"this branch and origin/main have no commit in common; {hint}"
    assert_not_comparable(shallow, message)


def test_without_a_main_branch_a_base_is_asked_for(unmeasured, tmp_path):
    other = tmp_path / "other"
    run(["git", "clone", "--quiet", unmeasured.as_uri(), str(other)], tmp_path)
    run(["git", "remote", "remove", "origin"], other)
    run(["git", "branch", "--move", "trunk"], other)
    assert_not_comparable(other, "there is no branch origin/main or main; name a revision")


def test_a_wrong_parameter_is_named_before_time_is_spent(project):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("better: lower", "better: less", 1))
    assert_not_comparable(project, "regression.metrics.ae.reconstruction_mse.better: 'less' is not")


def test_a_metric_that_nobody_measures_is_named_before_time_is_spent(project):
    write_baseline(project, '{"aae.match_ratio": 1.0}')
    measured = {"ae": {"reconstruction_mse": 0.1}, "aae": {"match_ratio": 1.0}}
    (project / "reports" / "metrics" / "latent.json").write_text(json.dumps(measured))
    message = "regression.metrics: 'ae.generated_frechet' is not measured"
    assert_not_comparable(project, message, "--base", "HEAD")


def test_a_baseline_that_is_damaged_is_named(project):
    write_baseline(project, "{")
    assert_not_comparable(project, GUARDED, "--base", "HEAD")


def test_the_gate_explains_itself(project):
    answer = gate(project, "--help").stdout
    for word in ("--base", "--accept", "--markdown", "--json", "ARGS=--accept", "Exits with 0"):
        assert word in answer


@pytest.mark.slow
def test_a_worse_metric_fails_until_it_is_accepted_on_purpose(tmp_path):
    project = copy_project(tmp_path / "project", TINY)
    copy_results(project)
    (project / GUARDED).unlink()
    commit(project, "no baseline")
    result = gate(project, "--accept")
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == f"accepted: commit {GUARDED}"
    assert run(["git", "status", "--porcelain"], project).stdout == f"?? {GUARDED}\n"
    commit(project, "baseline")

    # A change in a file that is not committed, and in one that git does not know yet.
    run(["git", "checkout", "--quiet", "-b", "mine"], project)
    stage = project / "stages" / "prepare_data.py"
    text = stage.read_text()
    assert text.count("    write_prepared(") == 1
    stage.write_text(text.replace("    write_prepared(", "    halve(splits)\n    write_prepared("))
    stage.write_text(
        stage.read_text().replace("\nfrom aae", "\nfrom aae.halves import halve\nfrom aae", 1)
    )
    (project / "aae" / "halves.py").write_text(HALVES)
    outputs = [f"--{kind}={kind}.out" for kind in ("markdown", "json", "report")]
    result = gate(project, *outputs)
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-1].startswith("regression: ae.reconstruction_mse worse")
    found = json.loads((project / "json.out").read_text())
    (row,) = found["rows"]
    assert (row["metric"], row["verdict"]) == ("ae.reconstruction_mse", "worse")
    assert (
        row["now"] > row["baseline"] == json.loads((project / GUARDED).read_text())[row["metric"]]
    )
    assert "ae.reconstruction_mse" in (project / "markdown.out").read_text()
    assert "<title>" in (project / "report.out").read_text()

    # As `--accept` would write it; a reviewer sees it in the diff.
    (project / GUARDED).write_text(json.dumps({row["metric"]: row["now"]}))
    result = gate(project)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1].endswith("; accepted: ae.reconstruction_mse")
