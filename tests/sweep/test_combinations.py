"""Changes to parameters in the syntax of `dvc exp run -S`."""

import pytest
from support import write_params

from aae.errors import ParameterError
from aae.sweep.combinations import changed_params, combine


def test_an_empty_parameter_can_be_set(tmp_path):
    path = write_params(tmp_path / "params.yaml", {})
    assert changed_params(path, []).data.size is None
    assert changed_params(path, ["data.size=32"]).data.size == 32
    assert changed_params(path, ["data.size=null", "posterior.std=null"]).posterior.std is None


def test_a_new_parameter_needs_a_plus(tmp_path):
    path = write_params(tmp_path / "params.yaml", {})
    entry = "priors.cauchy={distribution: Cauchy, loc: 0.0, scale: 1.0}"
    with pytest.raises(ParameterError, match=r"^priors\.cauchy: not in .*write \+priors\.cauchy=…"):
        changed_params(path, [entry])
    assert changed_params(path, [f"+{entry}"]).priors["cauchy"].distribution == "Cauchy"


@pytest.mark.parametrize(
    "changes",
    [["data.source=mnist-5k"], ["data.source=/photos"], ["data.source=mnist", "data.root=/data"]],
)
def test_images_that_all_machines_have_are_accepted(tmp_path, monkeypatch, changes):
    write_params(tmp_path / "params.yaml", {})
    monkeypatch.chdir(tmp_path)
    assert combine(changes) == [changes]


def test_networks_that_do_not_exist_are_found_before_anything_runs(tmp_path, monkeypatch):
    write_params(tmp_path / "params.yaml", {})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"^network\.kind=aae\.typo\.make: network\.kind"):
        combine(["network.kind=mlp,aae.typo.make"])
