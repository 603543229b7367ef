"""The hyperparameters of selection: what an epoch trains on, and the strategies' own settings."""

import typing
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from subset_selection.catalogue import CATALOGUE, DEFAULT, GREEDY, Spec, names
from subset_trainer.config.knobs import Count, Knobs, Positive, Share

if typing.TYPE_CHECKING:
    StrategyName = str
else:
    StrategyName = Literal[tuple(CATALOGUE)]
SCOPES = {name: spec.choices["scope"] for name, spec in CATALOGUE.items() if "scope" in spec.knobs}
"""What part of the data a greedy search runs over, for the strategies that leave a choice; the default first."""
CORDS_STRATEGIES = tuple(name for name, spec in CATALOGUE.items() if spec.cords)
"""What ``backend=cords`` serves."""
ENCODER_ETA = 0.05
"""GLISTER's step for encoders of texts. A step on logits is no step of AdamW's, whose size is another thing."""


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


class SelectionKnobs(Knobs):
    """Which examples are trained on."""

    strategy: StrategyName = Field(
        DEFAULT, description="how the subset is chosen; see the table of strategies"
    )
    fraction: float = Field(
        0.3,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="fraction of the training set used per epoch, counted before `drop_*` filtering; `full` "
        "always uses all",
    )
    select_every: Count = Field(
        5, description="epochs between two selections, for strategies that choose again as the model learns"
    )
    warm_fraction: Share = Field(
        0.0,
        description="share of the samples that is spent first, on all data, before the first selection "
        "(CORDS: kappa)",
    )
    backend: Literal["native", "cords"] = Field(
        "native",
        description="whose selection code runs: this project's, or CORDS's own loaders (for "
        + ", ".join(f"`{name}`" for name in CORDS_STRATEGIES)
        + ")",
    )
    balance: Literal["none", "class"] = Field(
        "none",
        description="`class`: equal numbers from each class, as far as it has so many; `none`: as the "
        "strategy says. Strategies that choose class by class then follow the classes' sizes",
    )
    mislabelled: Literal["keep", "drop"] = Field(
        "keep",
        description="`drop`: choose only among examples whose running loss looks correctly labelled, compared"
        " with the validation set, which must be trusted",
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
        description="`stochastic` scores a random sample for each pick, `naive` all examples, `rgreedy` "
        "(`glister` only) picks in `greedy_rounds` rounds; `auto`: stochastic for `glister`, "
        "exact elsewhere as long as a class's similarities fit in memory",
    )
    greedy_rounds: Count = Field(15, description="rounds of `greedy=rgreedy` (CORDS: r)")
    eta: Positive | None = Field(
        None,
        description="GLISTER's step size on the validation logits; default: `learning_rate`, as in CORDS; for "
        f"`encoder` {ENCODER_ETA:g}",
    )
    lam: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.5, description="GRAD-MATCH's penalty on the squared weights (λ)"
    )
    eps: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        1e-4, description="GRAD-MATCH stops matching when the residual is this share of the gradient (ε)"
    )
    match: Literal["training", "validation"] = Field(
        "training", description="whose gradient GRAD-MATCH matches (CORDS: valid)"
    )
    hardest_dropped: Share = Field(
        0.1, description="`ccs`: share of the hardest examples, which are never chosen (β)"
    )
    prune_probability: Share = Field(
        0.5,
        description="`infobatch`: probability that an example of below-average loss is left out of an epoch "
        "(r)",
    )
    final_share: Share = Field(
        0.125, description="`infobatch`: share of the last epochs, which use all examples (1 − δ)"
    )
    candidates_per_pick: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)] | None = Field(
        None,
        description=_candidates_described(),
    )

    @property
    def spec(self) -> Spec:
        """What is known of the strategy."""
        return CATALOGUE[self.strategy]

    @model_validator(mode="after")
    def _strategy_has_the_choices(self) -> "SelectionKnobs":
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
        searches = self.spec.choices.get("greedy", GREEDY)
        if self.greedy not in searches:
            serving = [
                name for name, spec in CATALOGUE.items() if self.greedy in spec.choices.get("greedy", ())
            ]
            raise ValueError(
                f"greedy={self.greedy!r} serves {', '.join(serving)}; got strategy={self.strategy!r}"
            )
        return self
