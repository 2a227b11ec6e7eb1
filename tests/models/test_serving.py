"""The requests that a served model answers; tests/tracking has a real server."""

import pandas as pd
import pytest
from support import SIZES

from aae.errors import DataError, ModelError
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


def test_requests_that_no_model_can_answer_are_errors():
    served = ServedModel(TrainedModel(Model(Architecture(**SIZES, prior=PRIOR), seed=0)))
    with pytest.raises(ModelError, match="n: 100000000 samples; a request gives at most 10,000"):
        served.predict([], {"task": "sample", "n": 10**8})
    for inputs in ([[0.0, 1.0], [0.0]], pd.DataFrame({"file": ["a.png"], "z1": [0.0]})):
        with pytest.raises(DataError, match=r"inputs: .*; an array of numbers is needed"):
            served.predict(inputs)


def test_a_table_of_codes_may_name_classes_that_the_decoder_does_not_take():
    served = ServedModel(TrainedModel(Model(Architecture(**SIZES, prior=PRIOR), seed=0)))
    codes = pd.DataFrame({"z1": [0.5, 1.0], "z2": [0.0, 2.0]})
    named = codes.assign(**{"class": ["a", "b"]})
    found = [served.predict(table, {"task": "decode"}) for table in (codes, named)]
    assert (found[0] == found[1]).all()
