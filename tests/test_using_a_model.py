"""Runs the examples of docs/using-a-model.md, in order, in a folder with a small model."""

import doctest
import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image
from support import ROOT, SIZES

from aae.cli import main
from aae.models import Architecture, Model, TrainedModel, save_model
from aae.models.serving import TASKS, ServedModel

PAGE = (ROOT / "docs" / "using-a-model.md").read_text()
BLOCKS = re.findall(r"(?m)^```(\w+)\n(.*?)^```", PAGE, re.DOTALL)


@pytest.fixture
def model(tmp_path, monkeypatch) -> Model:
    """A small model of the default shape, in a folder with two pictures."""
    monkeypatch.chdir(tmp_path)
    prior = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0}
    sizes = SIZES | {"image_shape": (1, 28, 28), "prior": prior}
    model = Model(Architecture(**sizes), seed=0)
    save_model(model, tmp_path / "models" / "aae.safetensors")
    (tmp_path / "pictures").mkdir()
    for name in ("one.png", "two.jpg"):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (50, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / name)
    return model


@pytest.mark.usefixtures("model")
def test_the_examples_in_python_do_what_they_promise():
    code = "\n".join(block for kind, block in BLOCKS if kind == "pycon")
    examples = doctest.DocTestParser().get_doctest(code, {}, "using-a-model", None, 0)
    assert len(examples.examples) > 8
    runner = doctest.DocTestRunner()
    assert runner.run(examples).failed == 0


@pytest.mark.usefixtures("model")
def test_the_commands_write_what_they_promise(tmp_path):
    lines = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("aae ")]
    named = {arguments[0] for arguments in commands}
    assert named == {"encode", "decode", "reconstruct", "score", "sample", "interpolate"}
    for arguments in commands:
        main(arguments, standalone_mode=False)
        assert (tmp_path / arguments[arguments.index("-o") + 1]).exists()


def test_the_requests_are_answered(model):
    served = ServedModel(TrainedModel(model))
    bodies = [json.loads(body) for body in re.findall(r"-d '(.*)'", PAGE)]
    assert len(bodies) == 2
    for body in bodies:
        assert served.predict(body["inputs"], body.get("params")).shape[1:] == (1, 28, 28)
    assert re.findall(r"(?m)^\| `(\w+)` \|", PAGE)[1:] == list(TASKS)
