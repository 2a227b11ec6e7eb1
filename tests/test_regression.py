"""The gate, in real repositories; with a real pipeline, whole and damaged, in the slow tests."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, commit, copy_project, run

GUARDED = "reports/metrics/regression.json"


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


def edit(*changes: tuple[str, str, str]):
    """Return an edit of a project: in these files, these texts become those."""

    def apply(project: Path) -> None:
        for name, old, new in changes:
            text = (project / name).read_text()
            assert text.count(old) == 1, f"{old} is not once in {name}"
            (project / name).write_text(text.replace(old, new))

    return apply


# Real damage: an edit of the code, and a metric that gets worse by it.
DAMAGE = {
    "discriminator step removed": (
        edit(("aae/training.py", '        self.descend("discriminator", loss + penalty)\n', "")),
        "aae.match_ratio",
    ),
    "prior samples and codes swapped": (
        edit(
            (
                "aae/training.py",
                "self.discriminator_step(prior_samples, codes.detach())",
                "self.discriminator_step(codes.detach(), prior_samples)",
            )
        ),
        "aae.match_ratio",
    ),
    "generator step does not reach the encoder": (
        edit(
            (
                "aae/training.py",
                'return self.descend("generator", generator_loss(self.discriminator(codes)))',
                "return generator_loss(self.discriminator(codes)).detach()",
            )
        ),
        "aae.match_ratio",
    ),
    "cosine decay dropped": (
        edit(("aae/loop.py", 'if self.settings.schedule == "cosine":', "if False:")),
        "aae.match_ratio",
    ),
    "sigmoid dropped": (
        edit(("aae/networks.py", "(standardised).sigmoid()", "(standardised)")),
        "ae.generated_frechet",
    ),
    "half of the training data": (
        edit(
            (
                "stages/prepare_data.py",
                "    write_prepared(",
                '    splits["train"] = splits["train"][range(0, len(splits["train"]), 2)]\n'
                "    write_prepared(",
            )
        ),
        "ae.reconstruction_mse",
    ),
}  # fmt: skip
HARMLESS = {
    # The same mathematics, other last digits.
    "losses computed in another order": edit(
        (
            "aae/training.py",
            ".square().flatten(1).mean(1).mean()",
            ".square().flatten(1).sum(1).mean() / images[0].numel()",
        ),
        ("aae/training.py", "return real + fake", "return fake + real"),
    ),
    "another number of threads": edit(),
}  # fmt: skip


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Path:
    """A project with the results that are committed in this one."""
    root = copy_project(tmp_path_factory.mktemp("guarded"), {})
    for name in run(["git", "ls-files", "reports"], ROOT).stdout.splitlines():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    commit(root, "results")
    return root


@pytest.fixture
def copy(guarded, tmp_path) -> Path:
    """A clone of it."""
    run(["git", "clone", "--quiet", str(guarded), str(tmp_path / "copy")], tmp_path)
    return tmp_path / "copy"


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_caught(copy, damage):
    apply, metric = DAMAGE[damage]
    apply(copy)
    before = run(["git", "status", "--porcelain"], copy).stdout
    result = gate(copy, "--json", "result.json")
    assert result.returncode == 1, result.stdout + result.stderr
    verdicts = {r["metric"]: r for r in json.loads((copy / "result.json").read_text())["rows"]}
    print(damage, {name: row["verdict"] for name, row in verdicts.items()})
    assert verdicts[metric]["verdict"] == "worse"
    assert metric in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("regression: ")
    assert "make regression ARGS=--accept" in result.stdout
    assert run(["git", "status", "--porcelain"], copy).stdout == before + "?? result.json\n"


@pytest.mark.slow
@pytest.mark.parametrize("change", HARMLESS)
def test_a_change_without_effect_passes(copy, change):
    HARMLESS[change](copy)
    threads = "2" if change == "another number of threads" else "1"
    result = gate(copy, OMP_NUM_THREADS=threads)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr.splitlines()[-1].startswith("pass: ")
