"""The hyperparameters of selection: which examples an epoch trains on, and the settings of each strategy."""

import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from subset_selection.catalogue import CATALOGUE, DEFAULT, GREEDY, NESTED, Spec, names
from subset_trainer.config.knobs import Count, Knobs, Positive, Share

if typing.TYPE_CHECKING:
    StrategyName = str
else:
    StrategyName = Literal[tuple(CATALOGUE)]
SCOPES = {name: spec.choices["scope"] for name, spec in CATALOGUE.items() if "scope" in spec.knobs}
"""Strategy → the values of ``scope`` that it accepts, the default first, if it accepts more than one."""
CORDS_STRATEGIES = tuple(name for name, spec in CATALOGUE.items() if spec.cords)
"""The strategies that ``backend=cords`` supports."""
ENCODER_SELECT_EVERY = 2
ENCODER_ETA = 0.05
"""GLISTER's step size for text encoders. AdamW's learning rate is not a usable step size on the logits. It is that of
n-grams, too, whose learning rate was chosen for embeddings that few examples update."""


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
        f"number of candidates scored for each example that is picked. For {listed(filters)} (default {of_batches:g}), "
        f"the candidates of a batch; for {listed(drawing)} (default: {fewer}, all examples for the others), a random "
        "sample of the training set, drawn again before each selection"
    )


class SelectionKnobs(Knobs):
    """Which examples are trained on."""

    strategy: StrategyName = Field(
        DEFAULT, description="how the examples to train on are chosen; see the table of strategies"
    )
    fraction: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | Literal["auto"] = Field(
        0.3,
        description="fraction of the training set used per epoch, counted before `drop_*` filtering; `full` "
        "ignores it and uses all examples. `auto`: train on growing fractions until one is within `tolerance` of all "
        "examples, and keep the model of the smallest that is",
    )
    tolerance: Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)] = Field(
        1.0, description="`fraction=auto`: points of `metric` that the fraction may lose against all examples"
    )
    question: Literal["train", "label"] = Field(
        "train",
        description="`fraction=auto`: `train` asks how many samples must be seen (`strategy=rs2` by default), `label` "
        "how many distinct examples are needed (`strategy=random`: nested random subsets)",
    )
    max_cost: Annotated[float, Field(ge=0.6, le=10, allow_inf_nan=False)] = Field(
        1.5,
        description="`fraction=auto`: what the search may cost, in trainings on all examples. From 2.5 on, an "
        "unsettled search ends with a training on all examples",
    )
    select_every: Count = Field(
        5,
        description="number of epochs between selections, for strategies that select again as the model learns. "
        f"Default for `encoder` with `fine_tune=all`, which has fewer epochs: {ENCODER_SELECT_EVERY}",
    )
    warm_fraction: Share = Field(
        0.0,
        description="fraction of the run's samples that is spent on training with all data before the first "
        "selection (CORDS: kappa)",
    )
    backend: Literal["native", "cords"] = Field(
        "native",
        description="which implementation selects: `native` is this project's, `cords` uses CORDS's data loaders (for "
        + ", ".join(f"`{name}`" for name in CORDS_STRATEGIES)
        + ")",
    )
    balance: Literal["none", "class"] = Field(
        "none",
        description="`class`: select the same number of examples from each class, or all of a class that has "
        "fewer; `none`: follow the strategy. Strategies that select class by class then select in proportion to "
        "class size",
    )
    mislabelled: Literal["keep", "drop"] = Field(
        "keep",
        description="`drop`: exclude examples that look mislabelled from selection. They are found by comparing "
        "their running loss with the losses on the validation set, so the validation labels must be correct",
    )

    # Settings of single strategies
    scope: Literal["supervised", "per-class", "per-class-per-gradient", "per-batch"] | None = Field(
        None,
        description="the set of examples that each greedy search covers; "
        + "; ".join(f"`{name}`: {', '.join(scopes)}" for name, scopes in SCOPES.items())
        + "; default: the first one listed for the strategy",
    )
    greedy: Literal["auto", "stochastic", "naive", "rgreedy"] = Field(
        "auto",
        description="greedy search algorithm. `stochastic` scores a random sample for each pick; `naive` scores "
        "all examples; `rgreedy` (`glister` only) picks many examples at once, in `greedy_rounds` rounds; `auto`: "
        "stochastic for `glister`, exact for other strategies if the similarities of a class fit in memory",
    )
    greedy_rounds: Count = Field(15, description="number of rounds of `greedy=rgreedy` (CORDS: r)")
    eta: Positive | None = Field(
        None,
        description="GLISTER's step size on the validation logits (η); default: `learning_rate`, as in CORDS, and "
        f"for texts alone and for `encoder` {ENCODER_ETA:g}",
    )
    lam: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.5, description="GRAD-MATCH: L2 penalty on the weights of the selected examples (λ)"
    )
    eps: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        1e-4,
        description="GRAD-MATCH: stop matching when the norm of the residual is at most this fraction of the "
        "gradient's norm (ε)",
    )
    match: Literal["training", "validation"] = Field(
        "training",
        description="GRAD-MATCH: match the gradient of the training set or of the validation set (CORDS: valid)",
    )
    hardest_dropped: Share = Field(
        0.1,
        description="`ccs`: fraction of the training set, the hardest examples, that is never selected (β)",
    )
    prune_probability: Share = Field(
        0.5,
        description="`infobatch`: probability that an example with below-average loss is left out of an epoch (r)",
    )
    final_share: Share = Field(
        0.125,
        description="`infobatch`: fraction of the epochs, at the end of training, that use all examples (1 − δ)",
    )
    candidates_per_pick: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)] | None = Field(
        None,
        description=_candidates_described(),
    )

    @property
    def spec(self) -> Spec:
        """The catalogue's entry for the strategy."""
        return CATALOGUE[self.strategy]

    @property
    def share(self) -> float:
        """The fraction as a number; never that of a whole search."""
        assert self.fraction != "auto"
        return self.fraction

    @model_validator(mode="before")
    @classmethod
    def _strategy_of_the_question(cls, given: Any) -> Any:
        if isinstance(given, dict) and {
            "fraction": given.get("fraction"),
            "question": given.get("question"),
        } == {
            "fraction": "auto",
            "question": "label",
        }:
            return {"strategy": NESTED, **given}
        return given

    @model_validator(mode="after")
    def _search_has_what_it_needs(self) -> "SelectionKnobs":
        """`fraction=auto` judges by the validation set, and needs fractions to choose from."""
        if self.fraction != "auto":
            fields = type(self).model_fields
            unused = [
                name
                for name in ("tolerance", "question", "max_cost")
                if getattr(self, name) != fields[name].default
            ]
            if unused:
                raise ValueError(
                    f"{', '.join(unused)} works only with fraction=auto; got fraction={self.fraction:g}"
                )
            return self
        if self.question == "label" and self.strategy != NESTED:
            raise ValueError(
                f"fraction=auto with question=label compares nested random subsets: expected strategy={NESTED}; got "
                f"strategy={self.strategy!r}"
            )
        if self.question == "train" and self.strategy == NESTED:
            raise ValueError(
                f"strategy={NESTED} with fraction=auto answers how many labels are needed: expected question=label, or "
                "another strategy"
            )
        if not self.spec.takes_fraction or self.backend == "cords":
            got = "backend='cords'" if self.backend == "cords" else f"strategy={self.strategy!r}"
            raise ValueError(
                f"fraction=auto needs a strategy that takes a fraction, and checkpoints; got {got}"
            )
        learns = {"validation", "a held-out model"} & {*self.spec.needs} or self.spec.trains_on != "training"
        if learns or self.match == "validation" or self.mislabelled == "drop":
            raise ValueError(
                "fraction=auto judges each fraction on the validation set, so nothing may learn from it; got "
                + (f"strategy={self.strategy!r}" if learns else "match='validation' or mislabelled='drop'")
            )
        return self

    @model_validator(mode="after")
    def _strategy_has_the_choices(self) -> "SelectionKnobs":
        knobs = self.spec.knobs
        if self.backend == "cords" and self.strategy not in CORDS_STRATEGIES:
            raise ValueError(
                f"backend='cords' supports only {', '.join(CORDS_STRATEGIES)}; got strategy={self.strategy!r}"
            )
        if self.scope is not None and self.scope not in SCOPES.get(self.strategy, ()):
            serving = [name for name, scopes in SCOPES.items() if self.scope in scopes]
            raise ValueError(
                f"scope={self.scope!r} works only with {', '.join(serving)}; got strategy={self.strategy!r}"
            )
        if self.balance == "class" and ("balance" not in knobs or self.scope == "per-batch"):
            what = f"scope={self.scope!r}" if "balance" in knobs else f"strategy={self.strategy!r}"
            raise ValueError(f"balance='class' does not work with {what}")
        if self.mislabelled == "drop" and "mislabelled" not in knobs:
            raise ValueError(f"mislabelled='drop' does not work with strategy={self.strategy!r}")
        if self.candidates_per_pick is not None and (self.backend == "cords" or self.mislabelled == "drop"):
            raise ValueError(
                "candidates_per_pick works neither with backend='cords' nor with mislabelled='drop'"
            )
        if self.backend == "cords" and (self.balance, self.mislabelled) != ("none", "keep"):
            raise ValueError("balance and mislabelled require backend='native'")
        searches = self.spec.choices.get("greedy", GREEDY)
        if self.greedy not in searches:
            serving = [
                name for name, spec in CATALOGUE.items() if self.greedy in spec.choices.get("greedy", ())
            ]
            raise ValueError(
                f"greedy={self.greedy!r} works only with {', '.join(serving)}; got strategy={self.strategy!r}"
            )
        return self
