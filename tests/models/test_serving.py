"""The requests that a served model answers; tests/tracking has a real server."""

import pytest
from support import SIZES

from aae.models import Architecture, Model, TrainedModel
from aae.models.categories import Categories
from aae.models.serving import ServedModel, requests

PRIOR = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 5.0}


@pytest.mark.parametrize("use", ["prior", "decoder", "semi-supervised", "clusters"])
@pytest.mark.parametrize("prior", [None, PRIOR])
def test_each_model_answers_its_example_requests(use, prior):
    architecture = Architecture(**SIZES, prior=prior, categories=Categories(use=use, count=3))
    served = ServedModel(TrainedModel(Model(architecture, seed=0)))
    examples = requests(architecture)
    assert ("sample" in examples) == (prior is not None)
    assert ("classify" in examples) == (use in ("semi-supervised", "clusters"))
    for body in examples.values():
        assert len(served.predict(body["inputs"], body["params"])) > 0
