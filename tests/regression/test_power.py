"""The gate catches damage to its real pipeline of kinds that have happened."""

import json
from pathlib import Path

import pytest
from projects import copy_project, copy_results, gate, run


def edit(*changes: tuple[str, str, str]):
    """Return an edit of a project from changes, each a file, its old text and its new text."""

    def apply(project: Path) -> None:
        for name, old, new in changes:
            text = (project / name).read_text()
            assert text.count(old) == 1, f"{old} is not once in {name}"
            (project / name).write_text(text.replace(old, new))

    return apply


def without_steps(phase: str):
    """Return an edit after which the optimiser of a phase changes nothing."""
    old = "        optimiser.step()\n"
    new = f'        if phase.name != "{phase}":\n            optimiser.step()\n'
    return edit(("aae/training/loop.py", old, new))


PHASES = "aae/training/phases.py"
ERRORS = "(reconstructions - images).square().flatten(1)"
# Each kind of damage is an edit of the code, with a metric that it makes worse.
DAMAGE = {
    "discriminator step removed": (without_steps("discriminator"), "aae.match_ratio"),
    "prior samples and codes swapped": (
        edit(
            (
                PHASES,
                "discriminator_loss(sample_logits, "
                "step.run(discriminator, outputs.detach(), classes))",
                "discriminator_loss(step.run(discriminator, outputs.detach(), classes), "
                "sample_logits)",
            )
        ),
        "aae.match_ratio",
    ),
    "generator step does not reach the encoder": (without_steps("generator"), "aae.match_ratio"),
    "sigmoid dropped": (
        edit(("aae/models/mlp.py", "return layers.append(nn.Sigmoid())", "return layers")),
        "ae.generated_frechet",
    ),
    "half of the training data": (
        edit(
            (
                "stages/prepare_data.py",
                "    write_prepared(",
                '    half = splits["train"].rows[::2]\n'
                '    splits["train"] = type(splits["train"])(splits["train"].part, half)\n'
                "    write_prepared(",
            )
        ),
        "ae.reconstruction_mse",
    ),
}
HARMLESS = {
    # The mathematics is the same, but the last digits differ.
    "losses computed in another order": edit(
        (PHASES, f"{ERRORS}.mean(1)", f"({ERRORS}.sum(1) / images[0].numel())"),
        (PHASES, "return real + fake", "return fake + real"),
    ),
    "another number of threads": edit(),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Path:
    """A project with the committed results of this one."""
    root = copy_project(tmp_path_factory.mktemp("guarded"), {})
    copy_results(root)
    return root


@pytest.fixture
def copy(guarded, tmp_path) -> Path:
    """A clone of ``guarded``."""
    run(["git", "clone", "--quiet", str(guarded), str(tmp_path / "copy")], tmp_path)
    return tmp_path / "copy"


def test_every_edit_fits_the_code(copy):
    """The tests below are long and run seldom: code that moves away must not wait for them."""
    for apply in (*(apply for apply, _ in DAMAGE.values()), *HARMLESS.values()):
        apply(copy)
        run(["git", "checkout", "--quiet", "."], copy)


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.parametrize("change", HARMLESS)
def test_a_change_without_effect_passes(copy, change):
    HARMLESS[change](copy)
    threads = "2" if change == "another number of threads" else "1"
    result = gate(copy, OMP_NUM_THREADS=threads)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr.splitlines()[-1].startswith("pass: ")
