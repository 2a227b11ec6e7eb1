"""Typed view of params.yaml, which holds the default values.

Only two kinds of values come from this module: what ``auto`` stands for, see
:data:`BY_DIMENSIONS`, and None for the tolerance that a :class:`Guard` does not give.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aae.errors import ParameterError, unknown

# The path is relative: a queued experiment must read the file of its own copy of the repository.
PARAMS = Path("params.yaml")


def _not_rounded(value: Any) -> Any:
    """Refuse an integer so large that the nearest float may be another number."""
    if type(value) is int and abs(value) > 2**53:
        raise ValueError("a number as large as this needs a decimal point, such as 1.0e+20")
    return value


# The upper limits are larger than anybody needs; they find a slip of the finger.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
FractionOrZero = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, BeforeValidator(_not_rounded), Field(ge=0, allow_inf_nan=False)]
# Not strict: YAML has lists and no tuples.
Layers = Annotated[tuple[Count, ...], Field(min_length=1, max_length=100, strict=False)]
OptionalLayers = Annotated[tuple[Count, ...], Field(max_length=100, strict=False)]
Precision = Literal["float32", "tf32", "bf16", "auto"]
Device = Literal["cpu", "cuda", "auto"]

# The dotted name of a function.
OWN_KIND = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"

# The values that stand for ``auto``, in codes of few and of many dimensions: docs/recipe.md.
FEW_DIMENSIONS = 4
BY_DIMENSIONS = {
    "network.discriminator_hidden": ([200, 200], [500, 500]),
    "posterior.std": (0.6, 0.7),
    "train_aae.discriminator_steps": (2, 5),
}

# For these errors pydantic's own message uses terms of Python; these are terms of params.yaml.
RIGHT = {
    "tuple_type": "a list is needed, such as [1000]",
    "too_short": "a list with at least one entry is needed",
    "dict_type": "values by name are needed",
    "string_pattern_mismatch": "it must begin with python or torchrun",
}


class _Section(BaseModel):
    # Strict, because a "50" or a 50.0 instead of 50 epochs is a mistake.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Data(_Section):
    """The images and their splits."""

    source: Annotated[str, Field(min_length=1)]
    root: str
    size: Annotated[int, Field(ge=8, le=512)] | None
    channels: Literal[1, 3] | None
    test_share: Fraction
    validation_share: Fraction


class PriorEntry(_Section):
    """One entry of ``priors``: a class of distributions and its arguments."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    distribution: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the distribution by name."""
        return dict(self.model_extra or {})

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.distribution}({arguments})"


class Posterior(_Section):
    """The posterior q(z|x): whether an image has one code or a distribution of codes."""

    kind: Literal["deterministic", "gaussian", "universal"]
    std: Annotated[float, Field(gt=0, lt=1)] | None
    min_std: FractionOrZero

    @property
    def is_learnt(self) -> bool:
        """Whether the encoder emits the variance."""
        return self.kind == "gaussian" and self.std is None

    @property
    def fixed_variance(self) -> float:
        """The variance of a Gaussian with a fixed standard deviation, in units; else 0."""
        return self.std**2 if self.kind == "gaussian" and self.std else 0.0


DETERMINISTIC = Posterior(kind="deterministic", std=None, min_std=0.0)


class Augment(_Section):
    """Random changes of the training images."""

    shift: Annotated[float, Field(ge=0, le=1000)]
    rotate: Annotated[float, Field(ge=0, le=180)]
    zoom: FractionOrZero
    shear: FractionOrZero
    flip: Annotated[float, Field(ge=0, le=1)]
    target: Literal["original", "augmented"]
    regularisation: Annotated[float, Field(ge=0, le=1)]

    @property
    def changes_images(self) -> bool:
        """Whether any change is turned on."""
        return any((self.shift, self.rotate, self.zoom, self.shear, self.flip))


class Network(_Section):
    """The kind of the networks, and the sizes of their hidden layers."""

    kind: Annotated[str, Field(min_length=1)]
    hidden: Layers
    channels: Layers
    features: OptionalLayers
    discriminator_hidden: Layers


# The variants with labels or clusters, see docs/labels.md.
LabelUse = Literal["none", "prior", "decoder", "semi-supervised", "clusters"]


class Labels(_Section):
    """What the adversarial autoencoder does with the classes of images."""

    use: LabelUse
    count: Count | None
    clusters: Annotated[int, Field(ge=2, le=1000)]
    places: bool

    @property
    def are_needed(self) -> bool:
        """Whether the training needs images with labels."""
        return self.use not in ("none", "clusters")


class TrainingSettings(_Section):
    """Settings of both trainings: length, Adam, warm-up and decay of the learning rates."""

    epochs: Count
    batch_size: Count
    beta1: FractionOrZero
    beta2: FractionOrZero
    warmup: FractionOrZero
    schedule: Literal["cosine", "constant"]
    average: NotNegative


class TrainAE(TrainingSettings):
    """Training of the autoencoder."""

    learning_rate: NotNegative


class LearningRates(_Section):
    """Learning rates of the optimisers of the adversarial autoencoder."""

    reconstruction: NotNegative
    discriminator: NotNegative
    generator: NotNegative
    category_discriminator: NotNegative
    category_generator: NotNegative
    classification: NotNegative


class TrainAAE(TrainingSettings):
    """Training of the adversarial autoencoder."""

    init: Literal["ae", "scratch"]
    standardise: bool
    learning_rate: LearningRates
    discriminator_steps: Annotated[int, Field(ge=1, le=100)]
    gradient_penalty: NotNegative
    category_gradient_penalty: NotNegative


class EvalLatent(_Section):
    """Evaluation of the codes."""

    projections: Annotated[int, Field(ge=20, le=10_000)]
    references: Annotated[int, Field(ge=2, le=1_000)]
    draws: Annotated[int, Field(ge=19, le=100_000)]
    subset: Annotated[int, Field(ge=20)]
    judge_steps: Count


class SnapshotSettings(_Section):
    """Snapshots of a running training."""

    every: NotNegative


class Tracking(_Section):
    """Tracking in MLflow."""

    histogram_every: Count


class Guard(_Section):
    """A metric that must not get worse.

    Attributes:
        absolute: by how much it may be worse than the baseline, in units of the metric.
        relative: the same, as a share of the baseline. Exactly one of the two must be given.
    """

    absolute: NotNegative | None = None
    relative: NotNegative | None = None

    @model_validator(mode="after")
    def _one_tolerance(self) -> Self:
        if (self.absolute is None) == (self.relative is None):
            raise ValueError("a tolerance is needed, either absolute or relative")
        return self

    def tolerance(self, baseline: float) -> float:
        """Return by how much a value may be worse than the baseline, in units of the metric."""
        if self.absolute is not None:
            return self.absolute
        assert self.relative is not None
        return self.relative * abs(baseline)


class Regression(_Section):
    """The gate that a change must pass."""

    overrides: dict[str, Any]
    metrics: dict[str, Guard]


class Params(_Section):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0)]
    data: Data
    latent_dim: Annotated[int, Field(ge=1, le=1024)]
    precision: Precision
    device: Device
    launcher: Annotated[str, Field(pattern=r"^(python|torchrun)( .*)?$")]
    prior: str
    priors: dict[str, PriorEntry]
    network: Network
    posterior: Posterior
    labels: Labels
    augment: Augment
    train_ae: TrainAE
    train_aae: TrainAAE
    eval_latent: EvalLatent
    snapshots: SnapshotSettings
    tracking: Tracking
    regression: Regression

    @model_validator(mode="before")
    @classmethod
    def _by_dimensions(cls, values: Any) -> Any:
        """Replace each ``auto`` that depends on the number of dimensions of a code."""
        if not isinstance(values, dict):
            return values
        dimensions = values.get("latent_dim")
        are_many = isinstance(dimensions, int) and dimensions > FEW_DIMENSIONS
        for name, (few, many) in BY_DIMENSIONS.items():
            section, key = name.split(".")
            given = values.get(section)
            if isinstance(given, dict) and given.get(key) == "auto":
                values = {**values, section: {**given, key: many if are_many else few}}
        return values

    @property
    def starts_from_autoencoder(self) -> bool:
        """Whether the adversarial autoencoder starts with the weights of the autoencoder.

        The autoencoder's codes say of which class an image is. A decoder that started from there
        would go on to read the class from the code, and ignore the one that it is given.
        """
        return self.train_aae.init == "ae" and self.labels.use in ("none", "prior")


def load_params(path: Path) -> Params:
    """Read params.yaml and check it; :func:`aae.priors.check_priors` checks the distributions.

    Raises:
        ParameterError: names, in one line, each wrong key, its value and what would be right.
    """
    try:
        # DVC uses the same parser, and both must see the same values.
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"{path}: {error.strerror}") from error
    except (YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ParameterError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ParameterError(f"{path} holds {type(values).__name__}, not parameters by name")
    return parse_params(values)


def parse_params(values: Mapping[str, Any]) -> Params:
    """Turn nested values into parameters, as :func:`load_params` does."""
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        raise ParameterError("; ".join(map(_explain, error.errors()))) from error
    for name in params.priors:
        if not re.fullmatch("[A-Za-z0-9_-]+", name):  # it is part of a dotted name in dvc.yaml
            raise ParameterError(f"priors.{name}: a name may have only letters, digits, _ and -")
    if params.prior not in params.priors:
        raise ParameterError(f"prior: {unknown(params.prior, params.priors, 'in priors')}")
    kind = params.network.kind
    if kind not in ("mlp", "conv") and not re.fullmatch(OWN_KIND, kind):
        kinds = ("mlp", "conv", "the dotted name of a function")
        raise ParameterError(f"network.kind: {unknown(kind, kinds, 'a kind')}")
    if params.labels.count and not params.labels.are_needed:
        raise ParameterError(
            f"labels.count: {params.labels.count} labels, but labels.use is {params.labels.use!r} "
            "and uses none; choose 'prior', 'decoder' or 'semi-supervised'"
        )
    if params.labels.places and params.labels.use not in ("semi-supervised", "clusters"):
        raise ParameterError(
            f"labels.places: true needs a category that the encoder finds, and labels.use is "
            f"{params.labels.use!r}; choose 'semi-supervised' or 'clusters'"
        )
    if params.posterior.fixed_variance and not params.train_aae.standardise:
        raise ParameterError(
            "posterior.std is a share of the prior's standard deviation and needs "
            "train_aae.standardise: true; set posterior.kind to deterministic or universal, or "
            "posterior.std to null"
        )
    return params


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested parameters into dotted names.

    Example:
        >>> flatten({"seed": 0, "data": {"source": "mnist"}})
        {'seed': 0, 'data.source': 'mnist'}
    """
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _explain(error: ErrorDetails) -> str:
    """Return a message that names the wrong key, its value, and what would be right."""
    key = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "missing":
            return f"{key}: missing"
        case "extra_forbidden":
            return f"{key}: {unknown(error['loc'][-1], _siblings(error['loc']), 'a parameter')}"
        case "literal_error":
            return f"{key}: {unknown(error['input'], _choices(error), 'a choice')}"
        case "model_type":
            right = f"it is a section with {', '.join(_siblings((*error['loc'], '')))}"
        case kind:
            right = RIGHT.get(kind, error["msg"].removeprefix("Value error, "))
            right += ", or auto" if key in BY_DIMENSIONS else ""
    return f"{key}: {error['input']!r} is wrong: {right}"


def _choices(error: ErrorDetails) -> list[str]:
    return [
        choice.strip("'") for choice in error["ctx"]["expected"].replace(" or ", ", ").split(", ")
    ]


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """Return the names of all parameters in the section of the one at ``location``."""
    section: Any = Params
    for key in location[:-1]:
        # In a dict the keys are the user's, so the type of its values stands for all of them.
        by_name = isinstance(section, type) and issubclass(section, BaseModel)
        section = section.model_fields[str(key)].annotation if by_name else get_args(section)[1]
    return list(section.model_fields)
