from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from projects import run
from support import ROOT, write_params

from aae.errors import ParameterError
from aae.params import load_params
from aae.priors import chosen_prior

RATE = "train_aae.learning_rate"
GUARD = "regression.metrics.guard"
BOTH = {"absolute": 0.1, "relative": 0.1}


def test_the_projects_own_parameters_are_valid(make_params):
    params = make_params({})
    assert params.prior in params.priors
    assert chosen_prior(params).latent_dim == params.latent_dim


def test_dvc_changes_the_line_of_a_value_and_no_other(tmp_path):
    before = (ROOT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(before)
    for prior in ("gamma", "uniform"):
        apply_overrides(path, [f"prior={prior}"])  # as `dvc exp run -S` does
        assert path.read_text() == before.replace("prior: gaussian\n", f"prior: {prior}\n")


@pytest.mark.parametrize(("dimensions", "hidden", "std", "steps"), [
    (1, (200, 200), 0.6, 2), (4, (200, 200), 0.6, 2), (5, (500, 500), 0.7, 5)
])  # fmt: skip
def test_what_is_auto_depends_on_the_dimensions_of_a_code(
    make_params, dimensions, hidden, std, steps
):
    params = make_params({"latent_dim": dimensions})
    assert params.network.discriminator_hidden == hidden
    assert params.posterior.std == std
    assert params.train_aae.discriminator_steps == steps


def test_a_value_instead_of_auto_counts(tmp_path):
    path = write_params(tmp_path / "params.yaml", {"latent_dim": 8})
    changes = ["network.discriminator_hidden=[9]", "posterior.std=null"]
    apply_overrides(path, [*changes, "train_aae.discriminator_steps=1"])  # as `dvc exp run -S` does
    params = load_params(path)
    assert params.network.discriminator_hidden == (9,)
    assert params.posterior.std is None
    assert params.train_aae.discriminator_steps == 1


def test_reading_them_does_not_import_sympy():
    """Some of torch's functions import it, which would take half a second of every stage."""
    program = """
import sys
from aae.params import PARAMS
from aae.pipeline.parameters import read_params
print(len(read_params(PARAMS).priors) > 0, "sympy" in sys.modules)
"""
    assert run(["python", "-c", program], ROOT).stdout == "True False\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prior": "gama"}, "prior: 'gama' is not in priors; did you mean 'gamma'?"),
        ({"priors": {}}, "prior: 'gaussian' is not in priors"),
        ({"latent_dim": 0}, "latent_dim: 0 is wrong: Input should be greater than or equal to 1"),
        ({"seed": 1.5}, "seed: 1.5 is wrong: Input should be a valid integer"),
        ({"seed": -1}, "seed: -1 is wrong"),
        ({"seed": None}, "seed: missing"),
        ({"sed": 1}, "sed: 'sed' is not a parameter; did you mean 'seed'?"),
        ({"data.test_share": 1.0}, "data.test_share: 1.0 is wrong: Input should be less than 1"),
        ({"network.hidden": []}, "network.hidden: [] is wrong"),
        (
            {"network.kind": "cnv"},
            "network.kind: 'cnv' is not a kind; did you mean 'conv'? (choices: mlp, conv, the dott",
        ),
        ({"network.kind": "a..b"}, "network.kind: 'a..b' is not a kind (choices: mlp, conv, the"),
        ({"network.kind": "no_package.f"}, "network.kind: no_package.f: cannot be imported: Modul"),
        ({"network.hidden": [0]}, "network.hidden.0: 0 is wrong"),
        ({"network.features": [0]}, "network.features.0: 0 is wrong"),
        ({"network.hidden": 101 * [1]}, "network.hidden: [1, 1, "),
        ({"network.hidden": ["10"]}, "network.hidden.0: '10' is wrong"),
        ({"train_ae.epochs": "50"}, "train_ae.epochs: '50' is wrong"),
        ({"train_ae.epochs": 0}, "train_ae.epochs: 0 is wrong"),
        ({"train_ae.learning_rate": float("inf")}, "train_ae.learning_rate: inf is wrong"),
        (
            {"train_ae.learning_rate": 2**53 + 1},
            "train_ae.learning_rate: 9007199254740993 is wrong: a number as large as this needs a ",
        ),
        ({f"{RATE}.generater": 1.0}, f"{RATE}.generater: 'generater' is not a parameter; did you"),
        ({"train_aae.init": "AE"}, "train_aae.init: 'AE' is not a choice"),
        ({"train_aae.standardise": 1}, "train_aae.standardise: 1 is wrong"),
        ({"train_aae.standardise": False}, "posterior.std is a share of the prior's standard dev"),
        (
            {"posterior.std": 1.0},
            "posterior.std: 1.0 is wrong: Input should be less than 1, or auto",
        ),
        (
            {"network.discriminator_hidden": "Auto"},
            "network.discriminator_hidden: 'Auto' is wrong: a",
        ),
        ({"labels.use": "semisupervised"}, "labels.use: 'semisupervised' is not a choice; did you"),
        ({"labels.count": 100}, "labels.count: 100 labels, but labels.use is 'none'"),
        ({"labels.places": True}, "labels.places: true needs a category that the encoder finds"),
        ({"augment.regularisation": 2.0}, "augment.regularisation: 2.0 is wrong"),
        ({"posterior.kind": "gausian"}, "posterior.kind: 'gausian' is not a choice; did you mean"),
        ({"eval_latent.projections": 10_001}, "eval_latent.projections: 10001 is wrong"),
        ({"eval_latent.references": 1_001}, "eval_latent.references: 1001 is wrong"),
        ({"eval_latent.draws": 100_001}, "eval_latent.draws: 100001 is wrong"),
        ({"train_aae.beta1": 1.0}, "train_aae.beta1: 1.0 is wrong"),
        ({"precision": "fp16"}, "precision: 'fp16' is not a choice; did you mean 'bf16'?"),
        ({"launcher": "mpirun"}, "launcher: 'mpirun' is wrong: it must begin with python or t"),
        (
            {"train_aae.learning_rate": 1e-3},
            "train_aae.learning_rate: 0.001 is wrong: it is a section with reconstruction, discr",
        ),
        ({"network.hidden": 1000}, "network.hidden: 1000 is wrong: a list is needed, such as"),
        ({"network.hidden": []}, "network.hidden: [] is wrong: a list with at least one entry"),
        ({"priors": 3}, "priors: 3 is wrong: values by name are needed"),
        ({"priors.gamma": 3}, "priors.gamma: 3 is wrong: it is a section with distribution"),
        ({GUARD: {}}, f"{GUARD}: {{}} is wrong: a tolerance"),
        (
            {GUARD: BOTH},
            f"{GUARD}: {BOTH} is wrong: a tolerance is needed, either abs",
        ),
        ({GUARD: BOTH | {"absolute": -0.1}}, f"{GUARD}.absolute: -0.1 is wrong"),
        ({GUARD: {"absolut": 0.1}}, f"{GUARD}.absolut: 'absolut' is not a parameter; did you mean"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_would_be_right(make_params, changes, message):
    with pytest.raises(ParameterError) as error:
        make_params(changes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"distribution": "Norml"}, "distribution: 'Norml' is not a continuous"),
        ({"distribution": "Bernoulli", "probs": 0.5}, "distribution: 'Bernoulli' is not a cont"),
        ({"loc": 0.0}, "distribution: missing"),
        ({"distribution": "Normal", "loc": 0.0}, "scale: missing; Normal needs loc, scale"),
        ({"distribution": "Normal", "loc": 0.0, "scale": -1.0}, "scale: -1.0 does not satisfy"),
        ({"distribution": "Normal", "loc": 0.0, "scal": 1.0}, "scal: 'scal' is not an argument"),
        (
            {"distribution": "Weibull", "scale": 1.0, "shape": 1.5},
            "shape: 'shape' is not an argument of Weibull (choices: concentration)",
        ),
        ({"distribution": "Normal", "loc": "a", "scale": 1.0}, "loc: 'a' is not a finite number"),
        ({"distribution": "Normal", "loc": 0.0, "scale": True}, "scale: True is not a finite"),
        ({"distribution": "Normal", "loc": [0.0, 1.0], "scale": 1.0}, "distribution: Normal got"),
        ({"distribution": "Uniform", "low": 1.0, "high": 0.0}, "distribution: Uniform(low=1.0"),
        ({"distribution": "Normal", "loc": 10**400, "scale": 1.0}, "loc: 1000"),
        ({"distribution": "Wishart", "df": 3.0}, "distribution: 'Wishart' is not a continuous"),
        (
            {"distribution": "VonMises", "loc": 0.0, "concentration": 1.0},
            "distribution: 'VonMises' is not a continuous distribution of numbers",
        ),
        (
            {"distribution": "RelaxedBernoulli", "temperature": 0.0, "probs": 0.5},
            "temperature: 0.0 is not greater than 0",
        ),
    ],
)
def test_a_wrong_prior_is_named_also_when_it_is_not_the_chosen_one(make_params, entry, message):
    with pytest.raises(ParameterError) as error:
        make_params({"priors.mine": entry})
    assert str(error.value).startswith(f"priors.mine.{message}")
    assert "\n" not in str(error.value)


def test_a_name_that_dvc_would_take_apart_is_refused(tmp_path):
    text = (ROOT / "params.yaml").read_text().replace("  gamma: {", "  gamma_0.5: {")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(
        ParameterError, match=r"^priors\.gamma_0\.5: a name may have only letters, digits, _"
    ):
        load_params(tmp_path / "params.yaml")


def test_a_prior_that_is_a_point_in_single_precision_is_refused(make_params):
    spike = {"distribution": "Gamma", "concentration": 0.001, "rate": 1.0}
    with pytest.raises(ParameterError, match="are the same number"):
        make_params({"priors.spike": spike, "prior": "spike"})


def test_a_multivariate_prior_must_have_as_many_dimensions_as_the_codes(make_params):
    entry = {
        "distribution": "MultivariateNormal",
        "loc": [0.0, 0.0],
        "covariance_matrix": [[1.0, 0.5], [0.5, 1.0]],
    }
    changes = {"priors.correlated": entry, "prior": "correlated"}
    assert not chosen_prior(make_params(changes)).univariate
    with pytest.raises(
        ParameterError,
        match=r"priors\.correlated\.distribution: .* has 2 dimensions and latent_dim is 3",
    ):
        make_params({**changes, "latent_dim": 3})


def test_a_prior_that_single_precision_cannot_hold_is_refused(make_params):
    far_and_narrow = {"distribution": "Normal", "loc": 1e6, "scale": 1e-3}
    endless = {"distribution": "Pareto", "scale": 1.0, "alpha": 0.01}
    for entry in (far_and_narrow, endless):
        with pytest.raises(
            ParameterError, match=r"priors\.mine\.distribution: .* single precision"
        ):
            make_params({"priors.mine": entry, "prior": "mine"})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"distribution": "GaussianRing", "components": 10, "radius": [5.0, 3.0],
          "radial_std": 1.0, "tangential_std": 0.3}, "GaussianRing got lists of length [2]"),
        ({"distribution": "GaussianRing", "components": [10, 9, 8], "radius": 5.0,
          "radial_std": 1.0, "tangential_std": 0.3}, "GaussianRing got lists of length [3]"),
        ({"distribution": "GaussianRing", "components": 1.0e12, "radius": 5.0,
          "radial_std": 1.0, "tangential_std": 0.3}, "components: 1000000000000.0 does not"),
        ({"distribution": "SwissRoll", "turns": 1.5, "radius": 5.0, "noise": [1.0, 2.0]},
         "SwissRoll got lists of length [2]"),
        ({"distribution": "SwissRoll", "turns": [1.0, 2.0], "radius": [1.0, 2.0, 3.0],
          "noise": 0.1}, "SwissRoll(turns=[1.0, 2.0]"),
    ],
)  # fmt: skip
def test_our_own_distributions_are_described_by_numbers(make_params, entry, message):
    with pytest.raises(ParameterError) as error:
        make_params({"priors.mine": entry, "prior": "mine"})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_new_prior_is_a_line_and_no_code(make_params):
    weibull = {"distribution": "Weibull", "scale": 2.0, "concentration": 1.5}
    params = make_params({"priors.weibull": weibull, "prior": "weibull"})
    assert chosen_prior(params).mean.tolist() == pytest.approx([1.8055] * 2, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [", "is not YAML"),
        ("seed: 0\nseed: 1", "is not YAML"),
        ("- 1", "holds list, not parameters by name"),
        ("", "holds NoneType"),
        ("seed: 2001-99-99", "is not YAML"),
        ("seed: !!int x", "is not YAML"),
        ("1: 2", "1: 1 is wrong: Keys should be strings"),
    ],
)
def test_a_file_that_holds_no_parameters_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError) as error:
        load_params(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ParameterError, match=r"params.yaml: No such file"):
        load_params(tmp_path / "params.yaml")


def test_numbers_in_scientific_notation_are_read_as_dvc_reads_them(tmp_path: Path):
    text = (Path(__file__).parent.parent / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("1.0e-3", "1e-3"))
    assert load_params(path).train_ae.learning_rate == 1e-3
