import pytest
import torch
from sklearn.metrics import silhouette_score
from support import CONTRACT, OF_CATEGORIES, make_splits

from aae.data import Images
from aae.data.splits import FEWEST
from aae.errors import DataError
from aae.evaluation.evaluation import Evaluation
from aae.evaluation.measures import HEADLINES, MEASURES, headlines
from aae.evaluation.representation import measure_representation
from aae.evaluation.two_sample import TESTS
from aae.models import Architecture, Model
from aae.models.networks import pixels
from aae.params import EvalLatent, Posterior
from aae.priors import Prior, make_distribution
from aae.seeding import stream

SETTINGS = EvalLatent(projections=20, references=2, draws=19, subset=60, judge_steps=20)


@pytest.fixture
def evaluation(splits) -> Evaluation:
    prior = Prior(make_distribution("Normal", {"loc": 0.0, "scale": 1.0}), 2)
    return Evaluation(splits, "abc", prior, SETTINGS, seed=0)


@pytest.fixture
def model() -> Model:
    return Model(Architecture(image_shape=(1, 4, 4), latent_dim=2, hidden=(8,)), seed=0)


def test_an_evaluation_has_every_key(evaluation, model):
    found = evaluation(model)
    assert found.keys() >= CONTRACT
    assert found["floor"].keys() >= set(TESTS)
    assert found["p_value"].keys() == {*TESTS, "all"}
    assert found == evaluation(model), "the same to the last digit"


def test_all_that_is_measured_is_registered_in_the_order_of_the_register(evaluation, model):
    expected = [key for key in MEASURES if key not in OF_CATEGORIES]
    assert list(evaluation(model)) == [*expected, "floor", "p_value", "posterior"]


def test_a_measure_that_is_not_registered_is_told(evaluation, model, monkeypatch):
    monkeypatch.delitem(MEASURES, "silhouette")
    with pytest.raises(AssertionError, match="silhouette"):
        evaluation(model)


def test_headlines_are_those_of_the_register(evaluation, model):
    found = headlines(evaluation(model))
    assert list(found) == [key for key in HEADLINES if key not in OF_CATEGORIES]
    assert headlines({"match_ratio": 1.0, "mmd2": 2.0}) == {"match_ratio": 1.0}


def test_reconstruction_error_is_per_pixel(evaluation, model):
    with torch.no_grad():  # a decoder whose images are all mid-grey
        for parameter in model.decoder.parameters():
            parameter.zero_()
    images = evaluation.splits["test"].images
    expected = ((images.double() / 255 - 0.5) ** 2).mean().item()
    assert evaluation(model)["reconstruction_mse"] == pytest.approx(expected, rel=1e-6)


def test_held_out_images_are_what_is_measured(evaluation, model):
    train, test = (evaluation.splits[name] for name in ("train", "test"))
    codes, train_codes = (model.encode(part.images) for part in (test, train))
    reconstructions = model.decode(codes)
    squares = (reconstructions - pixels(test.images)).square()
    expected = {
        **evaluation.prior_test(codes),
        **measure_representation(train_codes, train.labels, codes, test.labels, SETTINGS.subset),
        **evaluation.generation(model.decode(evaluation.prior_samples)),
        **evaluation.generation.of_reconstructions(reconstructions),
        "posterior": "deterministic",
    }
    found = evaluation(model)
    assert found.pop("reconstruction_mse") == pytest.approx(squares.mean().item(), rel=1e-6)
    assert found == expected


def test_tests_see_samples_of_the_posterior_and_all_else_its_means(evaluation):
    """A posterior so wide that it is the prior, around means that are all the same."""
    posterior = Posterior(kind="gaussian", std=0.999, min_std=0.0)
    prior = {"name": "gaussian", "distribution": "Normal", "loc": 0.0, "scale": 1.0}
    architecture = Architecture(
        image_shape=(1, 4, 4), latent_dim=2, hidden=(8,), prior=prior, units="gaussian",
        posterior=posterior,
    )  # fmt: skip
    model = Model(architecture, seed=0)
    with torch.no_grad():
        model.encoder.layers[-1].weight.mul_(1e-3)
        model.encoder.layers[-1].bias.zero_()
    found = evaluation(model)
    assert found["follows_prior"]
    assert found["posterior"] == "gaussian"
    assert found["knn_accuracy"] == evaluation(without_noise(model))["knn_accuracy"]
    assert not evaluation(without_noise(model))["follows_prior"]


def without_noise(model: Model) -> Model:
    posterior = Posterior(kind="deterministic", std=None, min_std=0.0)
    same = Model(model.architecture.model_copy(update={"posterior": posterior}), seed=0)
    same.load_state_dict(model.state_dict())
    return same


def test_the_rival_has_the_measures_of_generated_images_and_no_others(evaluation, model):
    found = evaluation.rival(model)
    assert found.keys() == evaluation.real.keys() - {"judge_accuracy"}
    assert found != {key: evaluation(model)[key] for key in found}


def test_the_rival_is_fitted_to_the_codes_of_training_images(evaluation, splits, model):
    def rival(changed: str) -> dict:
        """Measures of the rival if the encoder sees black images in place of those of a split."""
        black = Images(torch.zeros_like(splits[changed].images), splits[changed].labels)
        evaluation.splits = splits | {changed: black}
        return evaluation.rival(model)

    assert rival("test") == rival("validation") != rival("train")


def test_codes_that_are_their_classes_keep_all_meaning_and_noise_keeps_none():
    generator = stream(0, "codes")
    labels = torch.arange(1000) % 10
    angles = torch.arange(10) * 2 * torch.pi / 10
    centres = 20 * torch.stack([angles.cos(), angles.sin()], dim=1)
    noise = torch.randn(2000, 2, generator=generator)
    apart = centres[labels].repeat(2, 1) + 0.1 * noise
    found = measure_representation(apart[:1000], labels, apart[1000:], labels, 1000)
    assert found["knn_accuracy"] == found["probe_accuracy"] == 1
    expected = silhouette_score(apart[1000:].numpy(), labels.numpy())
    assert found["silhouette"] == pytest.approx(expected)
    found = measure_representation(noise[:1000], labels, noise[1000:], labels, 1000)
    # A guess is right in a tenth of 1,000 cases: five standard deviations.
    for name in ("knn_accuracy", "probe_accuracy"):
        assert found[name] == pytest.approx(0.1, abs=5 * (0.1 * 0.9 / 1000) ** 0.5)
    assert found["silhouette"] < 0


def evaluate(splits: dict[str, Images], names: str) -> tuple[Evaluation, dict]:
    """Evaluate a model with random weights."""
    prior = Prior(make_distribution("Normal", {"loc": 0.0, "scale": 1.0}), 2)
    shape = tuple(splits["test"].images.shape[1:])
    model = Model(Architecture(image_shape=shape, latent_dim=2, hidden=(8,)), seed=0)
    made = Evaluation(splits, names, prior, SETTINGS, seed=0)
    return made, made(model) | {f"rival {k}": v for k, v in made.rival(model).items()}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12)])
def test_without_labels_the_measures_that_need_them_are_absent(shape):
    made, found = evaluate(make_splits(shape, None), "")
    needed = {key for key, measure in MEASURES.items() if measure.needs_labels}
    assert needed - OF_CATEGORIES == {
        "knn_accuracy", "probe_accuracy", "silhouette", "generated_confidence",
        "reconstructed_confidence", "generated_entropy",
    }  # fmt: skip
    assert MEASURES.keys() - needed - OF_CATEGORIES == found.keys() & MEASURES.keys()
    assert not [key for key in found if key.removeprefix("rival ") in needed]
    assert not needed & made.real.keys()
    numbers = [value for value in [*found.values(), *made.real.values()] if type(value) is float]
    assert torch.tensor(numbers).isfinite().all()


def shortened(splits: dict[str, Images], counts: dict[str, int]) -> dict[str, Images]:
    return {name: part[: counts.get(name, len(part))] for name, part in splits.items()}


@pytest.mark.parametrize("labelled", [True, False])
def test_the_fewest_images_can_be_evaluated_and_fewer_are_an_error(splits, labelled):
    if not labelled:
        splits = {name: Images(part.images, None) for name, part in splits.items()}
    names = "abc" if labelled else ""
    evaluate(shortened(splits, FEWEST), names)
    for name, count in FEWEST.items():
        message = f"at least {count} {name} images, but there are {count - 1}: add"
        with pytest.raises(DataError, match=message):
            evaluate(shortened(splits, {name: count - 1}), names)


def test_classes_of_one_image_each_are_an_error():
    splits = make_splits((1, 8, 8), 12)
    evaluate(shortened(splits, {"test": 13}), "abcdefghijkl")
    with pytest.raises(DataError, match="at least 13 test images, but there are 12"):
        evaluate(shortened(splits, {"test": 12}), "abcdefghijkl")


def test_images_of_a_single_class_are_an_error(splits):
    train = splits["train"]
    one = train[train.labels == 0]
    with pytest.raises(DataError, match="all train images are of one class"):
        evaluate(splits | {"train": one}, "abc")


def test_a_rare_class_is_among_the_codes_of_the_silhouette():
    codes = torch.randn(2000, 2, generator=stream(0, "codes"))
    labels = torch.zeros(2000, dtype=torch.uint8)
    labels[[3, 1500]] = 1
    codes[[3, 1500]] += 100
    found = measure_representation(codes, labels, codes, labels, 20)
    assert found["silhouette"] > 0.9
