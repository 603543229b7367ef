"""The hyperparameters of training: the model, its optimisation, the machine, and resuming."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from subset_trainer.config.knobs import Count, Knobs, Positive, Share
from subset_trainer.config.selection import ENCODER_ETA

ENCODER_DEFAULTS: dict[str, Any] = {
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "learning_rate_scaling": "sqrt",
    "eta": ENCODER_ETA,
}
"""What is usual for encoders of texts, in place of other models' defaults."""
FROZEN_ENCODER_RATE = 1e-3
"""The learning rate of the last layer alone."""


class TrainingKnobs(Knobs):
    """How the model is trained."""

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

    @model_validator(mode="after")
    def _statistics_are_of_all_or_of_a_part(self) -> "TrainingKnobs":
        if self.sync_batch_norm and self.microbatch_size is not None:
            raise ValueError(
                "sync_batch_norm does not go with microbatch_size: statistics of all, or of a part"
            )
        return self
