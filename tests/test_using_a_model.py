"""Runs the examples of docs/using-a-model.md, in order, in folders with small models."""

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
# The examples of the last section need a model that was trained with classes.
WITHOUT_CLASSES, _, WITH_CLASSES = PAGE.partition("\n## Classes and clusters\n")
CLASSES = {"use": "semi-supervised", "count": 2, "names": ["cat", "dog"]}
MODELS = [(WITHOUT_CLASSES, {}), (WITH_CLASSES, {"categories": CLASSES})]


def blocks(section: str, kind: str) -> str:
    return "\n".join(re.findall(rf"(?m)^```{kind}\n((?s:.*?))^```", section))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make a small model of the default shape, in a folder with two pictures."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("one.png", "two.jpg"):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (50, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / name)
    prior = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0}

    def model(changes: dict) -> Model:
        sizes = SIZES | {"image_shape": (1, 28, 28), "prior": prior} | changes
        made = Model(Architecture(**sizes), seed=0)
        save_model(made, tmp_path / "models" / "aae.safetensors")
        return made

    return model


def test_the_examples_in_python_do_what_they_promise(make):
    names: dict = {}
    for section, changes in MODELS:
        make(changes)
        code = blocks(section, "pycon")
        examples = doctest.DocTestParser().get_doctest(code, names, "using-a-model", None, 0)
        assert len(examples.examples) > 6
        assert doctest.DocTestRunner().run(examples, clear_globs=False).failed == 0
        names = examples.globs


@pytest.mark.parametrize(
    ("section", "changes", "named"),
    [
        (*MODELS[0], {"encode", "decode", "reconstruct", "score", "sample", "interpolate"}),
        (*MODELS[1], {"classify", "encode", "decode", "sample"}),
    ],
)
def test_the_commands_write_what_they_promise(make, tmp_path, section, changes, named):
    make(changes)
    lines = blocks(section, "sh").splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("aae ")]
    assert {arguments[0] for arguments in commands} == named
    for arguments in commands:
        main(arguments, standalone_mode=False)
        assert (tmp_path / arguments[arguments.index("-o") + 1]).exists()


@pytest.mark.parametrize(("section", "changes", "count"), [(*MODELS[0], 2), (*MODELS[1], 1)])
def test_the_requests_are_answered(make, section, changes, count):
    served = ServedModel(TrainedModel(make(changes)))
    bodies = [json.loads(body) for body in re.findall(r"-d '(.*)'", section)]
    assert len(bodies) == count
    for body in bodies:
        assert served.predict(body["inputs"], body.get("params")).shape[1:] == (1, 28, 28)


def test_the_page_has_all_tasks():
    assert re.findall(r"(?m)^\| `(\w+)` \|", WITHOUT_CLASSES)[1:] == list(TASKS)
