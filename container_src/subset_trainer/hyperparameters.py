"""Every hyperparameter: its type, range, default and meaning, once.

SageMaker delivers strings. Depending on the SDK's version and on what launched the job, a value arrives as ``glister``,
``"glister"`` or ``"\\"glister\\""``, a boolean as ``True`` or ``true``: all are accepted. Names that begin with
``sagemaker_``, and ``_tuning_objective_metric``, belong to the platform and are ignored.

``python -m subset_trainer.hyperparameters`` prints the table of docs/reference/hyperparameters.md. This module imports
neither torch nor anything else of the image, so that a launcher can validate before an instance is paid for.
"""

import difflib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from subset_selection.catalogue import CATALOGUE, DEFAULT, GREEDY, Spec, names
from subset_trainer.errors import UserError, shown

if typing.TYPE_CHECKING:
    StrategyName = str
else:
    StrategyName = Literal[tuple(CATALOGUE)]
SCOPES = {name: spec.choices["scope"] for name, spec in CATALOGUE.items() if "scope" in spec.knobs}
"""What part of the data a greedy search runs over, for the strategies that leave a choice; the default first."""
CORDS_STRATEGIES = tuple(name for name, spec in CATALOGUE.items() if spec.cords)
"""What ``backend=cords`` serves."""
MLFLOW_SERVER = (
    r"https?://[^/@\s]+(/\S*)?"
    r"|arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:mlflow-(tracking-server|app)/\S+"
)
PLATFORM_PREFIXES = ("sagemaker_", "_tuning_objective_metric")
MOST_TOKENS = 8192
ENCODER_DEFAULTS: dict[str, Any] = {
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "learning_rate_scaling": "sqrt",
    # A step on logits is no step of AdamW's, whose size is another thing.
    "eta": 0.05,
}
"""What is usual for encoders of texts, in place of other models' defaults."""
FROZEN_ENCODER_RATE = 1e-3
"""The learning rate of the last layer alone."""
LARGEST_IMAGE = 1024
"""Pixels of a side."""
MOST_EXPLAINED = 200
"""Errors: each adds up to a few dozen kilobytes to the report."""
LONGEST_INTEGER = 10_000
"""Bits; of much longer ones Python refuses to make a text, which takes quadratic time."""

Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _candidates_described() -> str:
    filters, drawing = (
        [name for name in names(shape) if "candidates_per_pick" in CATALOGUE[name].knobs]
        for shape in ("within_batch", "subset")
    )

    def listed(some: Sequence[str]) -> str:
        return ", ".join(f"`{name}`" for name in some)

    of_batches = CATALOGUE[filters[0]].candidates_per_pick
    defaults = {name: CATALOGUE[name].candidates_per_pick for name in drawing}
    fewer = ", ".join(f"{default:g} for `{name}`" for name, default in defaults.items() if default)
    return (
        f"examples scored for each that is taken: of a batch by {listed(filters)} (default {of_batches:g}); of the "
        f"training examples, drawn anew before each selection, by {listed(drawing)} (default: {fewer}, all for the "
        "others)"
    )


class Hyperparameters(BaseModel):
    """The knobs of the built-in trainer. Immutable; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    # What to train on
    strategy: StrategyName = Field(
        DEFAULT, description="how the subset is chosen; see the table of strategies"
    )
    fraction: float = Field(
        0.3,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="share of the training examples, those that `drop_…` leaves out included, that an epoch visits; "
        "`full` always visits all",
    )
    select_every: Count = Field(
        5, description="epochs between two selections, for strategies that choose again as the model learns"
    )
    warm_fraction: Share = Field(
        0.0,
        description="share of the visits that is spent first, on all of the data, before the first selection "
        "(CORDS calls it kappa)",
    )
    backend: Literal["native", "cords"] = Field(
        "native",
        description="whose selection code runs: this project's, or CORDS's own loaders (for "
        + ", ".join(f"`{name}`" for name in CORDS_STRATEGIES)
        + ")",
    )
    balance: Literal["none", "class"] = Field(
        "none",
        description="`class`: equal numbers from every class, as far as it has so many; `none`: as the strategy says, "
        "which for those that choose class by class is in proportion to the classes' sizes",
    )
    mislabelled: Literal["keep", "drop"] = Field(
        "keep",
        description="`drop`: choose among the examples whose running loss looks correctly labelled, judged against the "
        "validation set, which must be trusted",
    )

    # The strategies' own
    scope: Literal["supervised", "per-class", "per-class-per-gradient", "per-batch"] | None = Field(
        None,
        description="what a greedy search runs over; "
        + "; ".join(f"`{name}`: {', '.join(scopes)}" for name, scopes in SCOPES.items())
        + "; default: the first of each",
    )
    greedy: Literal["auto", "stochastic", "naive", "rgreedy"] = Field(
        "auto",
        description="`stochastic` looks at a random sample for each pick, `naive` at all, `rgreedy` (`glister` only) "
        "picks in `greedy_rounds` rounds; `auto`: stochastic for `glister`, exact elsewhere as far as a class's "
        "similarities fit in memory",
    )
    greedy_rounds: Count = Field(15, description="rounds of `greedy=rgreedy` (CORDS calls it r)")
    eta: Positive | None = Field(
        None,
        description="GLISTER's step size on the validation logits; default: `learning_rate`, as in CORDS, for "
        f"`encoder` {ENCODER_DEFAULTS['eta']:g}",
    )
    lam: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.5, description="GRAD-MATCH's penalty on the squared weights (λ)"
    )
    eps: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        1e-4, description="GRAD-MATCH stops matching when the residual is this share of the gradient (ε)"
    )
    match: Literal["training", "validation"] = Field(
        "training", description="whose gradient GRAD-MATCH matches (CORDS calls it valid)"
    )
    hardest_dropped: Share = Field(
        0.1, description="`ccs`: share of the examples, the hardest, that is never chosen (β)"
    )
    prune_probability: Share = Field(
        0.5, description="`infobatch`: how probably an example of below-average loss sits out an epoch (r)"
    )
    final_share: Share = Field(
        0.125, description="`infobatch`: share of the epochs, the last, that visit everything (1 − δ)"
    )
    candidates_per_pick: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)] | None = Field(
        None,
        description=_candidates_described(),
    )

    # The data
    validation_fraction: float = Field(
        0.1,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="share of the training channel set aside, stratified, where there is no validation channel",
    )
    label_column: str | None = Field(
        None,
        description="the label: a column's name or position from 0, or a manifest's attribute; default: a table's "
        "first column, the one called `label` or the like beside images, the only one of a manifest",
    )
    text_column: str | None = Field(
        None,
        description="tables: the column of texts to classify, by name (without a header by position from 0); default: "
        "the only feature, if it holds texts of several words, mostly different",
    )
    max_tokens: Annotated[int, Field(ge=8, le=MOST_TOKENS)] = Field(
        128,
        description="`encoder`: tokens of a text that are looked at, the first ones; at most as many as the encoder "
        "has positions for",
    )
    csv_header: Literal["auto", "true", "false"] = Field(
        "auto", description="CSV: whether the first line holds column names"
    )
    min_confidence: Share = Field(
        0.0, description="manifests: leave out examples whose label's confidence is less"
    )
    confidence_weighting: bool = Field(
        False, description="manifests: an example's loss counts as much as its label's confidence"
    )
    human_annotated_only: bool = Field(
        False, description="manifests: leave out labels that automated labelling gave"
    )
    verified_as: str | None = Field(
        None,
        description="manifests: verdicts of a label-verification job whose examples are kept, with commas between; "
        "default: `good`, `correct`, `accept` and the like",
    )
    s3_images: bool = Field(
        False,
        description="manifests: read images that are named by an `s3://` URI from there, when they are needed, "
        "rather than from the channel; the job's role needs `s3:GetObject` on them",
    )
    fine_tune: Literal["all", "head"] = Field(
        "all",
        description="with a `pretrained` channel: train all of the network, or the last layer on a backbone "
        "that stays as it is",
    )
    image_size: Annotated[int, Field(ge=8, le=LARGEST_IMAGE)] | None = Field(
        None,
        description="height and width in pixels that images are brought to; default: their own where all are "
        "alike and at most 256, else 224",
    )
    augmentation: Literal["flip-crop", "crop", "none"] = Field(
        "flip-crop",
        description="random changes to training images; use `crop` where mirroring changes the meaning",
    )
    cutout: Share = Field(
        0.0, description="side of a square that is blanked in every training image, as a share of the image's"
    )
    num_workers: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="processes that decode images which do not fit in memory; default: by the processors",
    )

    # The model and its training
    model: str = Field(
        "auto",
        description="`resnet18` (the 3×3 stem for small images), `cnn` (four convolutions, for small images on a CPU), "
        "`mlp` (tables), `ngrams` (texts), `encoder` (texts, with a Hugging Face encoder in the `pretrained` channel), "
        "or any torchvision classifier by name; `auto`: resnet18 for images, mlp for tables, for texts encoder if one "
        "is given, else ngrams",
    )
    epochs: Count = Field(30, description="passes over the subset")
    batch_size: Annotated[int, Field(ge=2)] = Field(
        128,
        description="examples in a step of each process (the effective batch is as many times as large as there are "
        "processes); a larger one than the subset is cut to it",
    )
    microbatch_size: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="most examples that go through the network at once: a step's gradient accumulates over parts of "
        "this size; default: the whole batch, or the largest half, quarter, … that fits in the GPU's memory",
    )
    learning_rate: Positive = Field(
        0.05,
        description="peak of the schedule: a linear rise, then a cosine to zero; default for `encoder`, which AdamW "
        f"trains: {ENCODER_DEFAULTS['learning_rate']:g}, with `fine_tune=head` {FROZEN_ENCODER_RATE:g}",
    )
    warmup_ratio: Share = Field(0.15, description="share of all updates over which the learning rate rises")
    momentum: Share = Field(
        0.9, description="Nesterov momentum of SGD; AdamW, which trains `encoder`, has its own"
    )
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        5e-4,
        description="L2 penalty, for `encoder` AdamW's decay with a default of "
        f"{ENCODER_DEFAULTS['weight_decay']:g}; biases and normalisation layers are exempt",
    )
    label_smoothing: Share = Field(0.1, description="share of the target spread evenly over all classes")
    dropout: Share = Field(
        0.5,
        description="`mlp` on tables: share of the hidden values that a training step leaves out; each process draws "
        "its own",
    )
    ema_decay: Share = Field(
        0.0,
        description="the model that is evaluated and saved is a moving average of the weights with this decay an "
        "update; 0: the last weights",
    )
    test_time_flip: bool = Field(
        False, description="classify images in evaluation by the mean over them and their mirror images"
    )

    # The machine
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto`: the first GPU where there is one"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="arithmetic of forward and backward passes; `auto`: float32 for tables and n-grams; for images "
        "and encoders bfloat16 on GPUs and CPUs that have it in hardware, float16 on older GPUs, float32 on other CPUs",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="of the split, initial weights, order, augmentation and selection"
    )
    deterministic: bool = Field(
        False,
        description="on a GPU: only kernels that give the same bits every time, so that a run that was killed ends bit "
        "for bit as one that was not; slower, and refused where a model needs others; a CPU does so anyway",
    )

    # Many GPUs and hosts
    processes_per_host: Count | None = Field(
        None, description="processes that train together on each host; default: one a GPU, on a CPU one"
    )
    learning_rate_scaling: Literal["linear", "sqrt", "none"] = Field(
        "linear",
        description="how the learning rate grows with the number n of processes, whose batches make one: `linear`: n "
        "times, `sqrt` (default for `encoder`): √n times, `none`: not at all",
    )
    sync_batch_norm: bool = Field(
        False,
        description="take batch normalisation's statistics over the batches of all processes, at the cost of exchanges "
        "in every layer that has them",
    )
    host_wait_minutes: Positive = Field(15.0, description="how long the hosts of a job wait for each other")

    # Going on after an interruption
    resume: Literal["auto", "never"] = Field(
        "auto",
        description="`auto`: go on from the newest checkpoint in `/opt/ml/checkpoints`; `never`: begin anew",
    )
    checkpoint_minutes: float = Field(
        5.0,
        gt=0,
        allow_inf_nan=False,
        description="between two checkpoints within an epoch; each epoch ends with one",
    )
    checkpoints_kept: int = Field(2, ge=1, description="how many of the last checkpoints stay")

    # What it says about the data
    report: bool = Field(
        True,
        description="write `output/data/report.html` and `examples.parquet`: what training has learned of each "
        "example, at the cost of a pass over the training set, which `seconds.report` in `summary.json` counts",
    )

    label_check: Literal["training-signals", "cross-validation"] = Field(
        "training-signals",
        description="how labels are suspected: by the losses of training, which cost nothing, or by cleanlab from "
        "three models, trained before the run's own, each without a third of the examples",
    )
    explain: Annotated[int, Field(ge=0, le=MOST_EXPLAINED)] = Field(
        0,
        description="how many of the validation errors, the surest of each class first, are explained at the end of "
        "the job, by KernelSHAP: which regions of an image, columns of a row or words of a text speak for the wrong "
        "class; into the report and `output/data/explanations.json`, at the cost of 1,000 to 3,000 evaluations of the "
        "model for each, which `seconds.explanation` in `summary.json` counts",
    )
    drop_noisy: bool = Field(
        False,
        description="leave out, before training, the examples whose labels are suspect; with "
        "`label_check=training-signals` the run trains twice, the first time to see which",
    )
    drop_redundant: bool = Field(
        False,
        description="leave out, before training, copies and near copies of images, and equal rows of tables, but for "
        "the first of each",
    )

    # Where metrics go, besides the log and SageMaker Experiments
    tensorboard: bool = Field(
        False, description="write TensorBoard's event files to `/opt/ml/output/tensorboard`"
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        description="the MLflow server that keeps the run: its URL, without a password, or the ARN of a managed one "
        "(`mlflow-tracking-server` or `mlflow-app`); default: the environment's `MLFLOW_TRACKING_URI`",
    )

    @property
    def spec(self) -> Spec:
        """What is known of the strategy."""
        return CATALOGUE[self.strategy]

    @model_validator(mode="after")
    def _strategy_has_the_choices(self) -> "Hyperparameters":
        knobs = self.spec.knobs
        if self.backend == "cords" and self.strategy not in CORDS_STRATEGIES:
            raise ValueError(
                f"backend='cords' serves {', '.join(CORDS_STRATEGIES)}; got strategy={self.strategy!r}"
            )
        if self.scope is not None and self.scope not in SCOPES.get(self.strategy, ()):
            serving = [name for name, scopes in SCOPES.items() if self.scope in scopes]
            raise ValueError(
                f"scope={self.scope!r} serves {', '.join(serving)}; got strategy={self.strategy!r}"
            )
        if self.balance == "class" and ("balance" not in knobs or self.scope == "per-batch"):
            what = f"scope={self.scope!r}" if "balance" in knobs else f"strategy={self.strategy!r}"
            raise ValueError(f"balance='class' does not go with {what}")
        if self.mislabelled == "drop" and "mislabelled" not in knobs:
            raise ValueError(f"mislabelled='drop' does not go with strategy={self.strategy!r}")
        if self.candidates_per_pick is not None and (self.backend == "cords" or self.mislabelled == "drop"):
            raise ValueError(
                "candidates_per_pick goes neither with backend='cords' nor with mislabelled='drop'"
            )
        if self.backend == "cords" and (self.balance, self.mislabelled) != ("none", "keep"):
            raise ValueError("balance and mislabelled are of backend='native' only")
        if self.backend == "cords" and (self.drop_noisy or self.label_check == "cross-validation"):
            raise ValueError("drop_noisy and label_check='cross-validation' are of backend='native' only")
        if self.sync_batch_norm and self.microbatch_size is not None:
            raise ValueError(
                "sync_batch_norm does not go with microbatch_size: statistics of all, or of a part"
            )
        searches = self.spec.choices.get("greedy", GREEDY)
        if self.greedy not in searches:
            serving = [
                name for name, spec in CATALOGUE.items() if self.greedy in spec.choices.get("greedy", ())
            ]
            raise ValueError(
                f"greedy={self.greedy!r} serves {', '.join(serving)}; got strategy={self.strategy!r}"
            )
        return self

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _names_a_server(cls, uri: str | None) -> str | None:
        # The value ends up in logs and artefacts, so that it must hold no password; nor does the message repeat it.
        if uri is not None and not re.fullmatch(MLFLOW_SERVER, uri):
            raise PydanticCustomError(
                "mlflow_server",
                "hyperparameter mlflow_tracking_uri: expected http://… or https://… without a user or password "
                "(MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment are for those), or the ARN "
                "of a managed one, arn:aws:sagemaker:REGION:ACCOUNT:mlflow-tracking-server/NAME or …:mlflow-app/NAME",
            )
        return uri


def parse(raw: Mapping[str, Any]) -> Hyperparameters:
    """Validate hyperparameters as the platform, an SDK or a person gives them.

    Args:
        raw: name → value, a string or already typed.

    Raises:
        UserError: at least one is wrong; the message names every fault.
    """
    own = {name: _decode(value) for name, value in raw.items() if not name.startswith(PLATFORM_PREFIXES)}
    try:
        # An empty string is how some launchers say "not given".
        return Hyperparameters.model_validate({k: v for k, v in own.items() if v is not None and v != ""})
    except ValidationError as error:
        raise UserError("; ".join(_sentence(fault) for fault in error.errors())) from error


def _decode(value: Any) -> Any:
    """Undo the quoting of SDKs and tuners: however often a value was JSON-encoded, the value itself."""
    while isinstance(value, str):
        text = value.strip()
        if text in ("True", "False", "None"):
            return {"True": "true", "False": "false", "None": None}[text]
        if not (len(text) >= 2 and text[0] == text[-1] == '"'):
            return text
        try:
            value = json.loads(text)
        except ValueError:
            return text
    if isinstance(value, bool):
        return "true" if value else "false"
    # Numbers stand for text where text is wanted (`label_column: 0`); pydantic reads them back where a number is.
    if isinstance(value, int):
        return str(value) if value.bit_length() < LONGEST_INTEGER else hex(value)
    return value


def _sentence(fault: Any) -> str:
    """One of pydantic's faults, in words that name the knob, the value and what was expected."""
    if not fault["loc"] or fault["type"] == "mlflow_server":
        return str(fault["msg"]).removeprefix("Value error, ")
    name = str(fault["loc"][0])
    field = Hyperparameters.model_fields.get(name)
    if field is None:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), Hyperparameters.model_fields, 1, 0.5)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"known are {', '.join(Hyperparameters.model_fields)}"
        )
        return f"unknown hyperparameter {shown(name)}: {hint}"
    message = f"hyperparameter {name}={shown(fault['input'])}: expected {expectation(field)}"
    choices = _choices(field)
    if near := difflib.get_close_matches(shown(fault["input"]).strip("'"), choices, 1, 0.5):
        message += f"; did you mean {near[0]!r}?"
    return message


def expectation(field: FieldInfo) -> str:
    """What a field accepts, in words: from its type and constraints."""
    if choices := _choices(field):
        return "one of " + ", ".join(choices)
    kinds = {kind for kind, _ in _parts(field.annotation, field.metadata)}
    if bool in kinds:
        return "true or false"
    bounds = [bound for _, metadata in _parts(field.annotation, field.metadata) for bound in metadata]
    noun = "text" if str in kinds else "a whole number" if int in kinds else "a number"
    words = []
    for kind, phrase in (
        (annotated_types.Gt, "greater than"),
        (annotated_types.Ge, "at least"),
        (annotated_types.Lt, "less than"),
        (annotated_types.Le, "at most"),
    ):
        attribute = kind.__name__.lower()
        words += [f"{phrase} {getattr(bound, attribute)}" for bound in bounds if isinstance(bound, kind)]
    return " ".join([noun, " and ".join(words)]).strip()


def _parts(annotation: Any, metadata: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """The plain types within an annotation, each with the constraints that stand beside it."""
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        flat = [
            item for entry in extra for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])
        ]
        yield from _parts(inner, metadata + flat)
    elif get_origin(annotation) in (typing.Union, types.UnionType):
        for member in get_args(annotation):
            if member is not type(None):
                yield from _parts(member, metadata)
    else:
        yield annotation, metadata


def _choices(field: FieldInfo) -> tuple[str, ...]:
    kinds = [kind for kind, _ in _parts(field.annotation, field.metadata)]
    return get_args(kinds[0]) if len(kinds) == 1 and get_origin(kinds[0]) is Literal else ()


def markdown_table() -> str:
    """The table of docs/reference/hyperparameters.md."""
    rows = ["| hyperparameter | default | accepts | meaning |", "| --- | --- | --- | --- |"]
    for name, field in Hyperparameters.model_fields.items():
        default = "–" if field.default is None else f"`{str(field.default).lower()}`"
        rows.append(f"| `{name}` | {default} | {expectation(field)} | {field.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table())
