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
        description="`resnet18` (3×3 stem for small images), `cnn` (four convolutions, for small images on a "
        "CPU), `mlp` (tables), `ngrams` (texts), `encoder` (texts, with a Hugging Face encoder in"
        " the `pretrained` channel), or any torchvision classifier by name; `auto`: resnet18 for "
        "images, mlp for tables, for texts encoder if one is given, else ngrams",
    )
    epochs: Count = Field(30, description="passes over the subset")
    batch_size: Annotated[int, Field(ge=2)] = Field(
        128,
        description="examples in a step of each process; the effective batch is this times the number of "
        "processes. It is cut to the size of a smaller subset",
    )
    microbatch_size: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="most examples that go through the network at once; a step accumulates its gradient over "
        "parts of this size; default: the whole batch, or the largest half, quarter, … that fits "
        "in the GPU's memory",
    )
    learning_rate: Positive = Field(
        0.05,
        description="peak of the schedule, which rises linearly and falls as a cosine to zero; default for `encoder`, "
        f"which AdamW trains: {ENCODER_DEFAULTS['learning_rate']:g}, with `fine_tune=head` {FROZEN_ENCODER_RATE:g}",
    )
    warmup_ratio: Share = Field(0.15, description="share of all steps over which the learning rate rises")
    momentum: Share = Field(
        0.9, description="Nesterov momentum of SGD; `encoder` is trained by AdamW, which has its own"
    )
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        5e-4,
        description="L2 penalty, for `encoder` AdamW's decay (default "
        f"{ENCODER_DEFAULTS['weight_decay']:g}); biases and normalisation layers are exempt",
    )
    label_smoothing: Share = Field(0.1, description="share of the target spread evenly over all classes")
    dropout: Share = Field(
        0.5,
        description="`mlp` on tables: share of the hidden values left out in a training step; each process "
        "draws its own",
    )
    ema_decay: Share = Field(
        0.0,
        description="decay per step of the moving average of the weights that is evaluated and saved; 0: the "
        "last weights",
    )
    test_time_flip: bool = Field(
        False, description="evaluate images by the mean over them and their mirror images"
    )

    # The machine
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto`: the first GPU, if there is one"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="arithmetic of forward and backward passes; `auto`: float32 for tables and n-grams; for "
        "images and encoders bfloat16 on GPUs and CPUs that have it in hardware, float16 on older"
        " GPUs, float32 on other CPUs",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="seed of the split, initial weights, order, augmentation and selection"
    )
    deterministic: bool = Field(
        False,
        description="on a GPU: use only kernels that give the same bits every time, so that a killed run ends"
        " bit for bit as one that was not killed; slower, and refused where a model needs other "
        "kernels; a CPU always does",
    )

    # Many GPUs and hosts
    processes_per_host: Count | None = Field(
        None,
        description="processes that train together on each host; default: one for each GPU, on a CPU one",
    )
    learning_rate_scaling: Literal["linear", "sqrt", "none"] = Field(
        "linear",
        description="how the learning rate grows with the number n of processes: `linear`: n times, `sqrt` "
        "(default for `encoder`): √n times, `none`: not at all",
    )
    sync_batch_norm: bool = Field(
        False,
        description="compute batch normalisation's statistics over the batches of all processes, at the cost "
        "of an exchange in each such layer",
    )
    host_wait_minutes: Positive = Field(
        15.0, description="minutes that the hosts of a job wait for each other"
    )

    # Resuming after an interruption
    resume: Literal["auto", "never"] = Field(
        "auto",
        description="`auto`: resume from the newest checkpoint in `/opt/ml/checkpoints`; `never`: start anew",
    )
    checkpoint_minutes: float = Field(
        5.0,
        gt=0,
        allow_inf_nan=False,
        description="minutes between two checkpoints within an epoch; each epoch ends with one",
    )
    checkpoints_kept: int = Field(2, ge=1, description="how many of the last checkpoints are kept")

    @model_validator(mode="after")
    def _statistics_are_of_all_or_of_a_part(self) -> "TrainingKnobs":
        if self.sync_batch_norm and self.microbatch_size is not None:
            raise ValueError(
                "sync_batch_norm does not go with microbatch_size: statistics of all, or of a part"
            )
        return self
