"""The hyperparameters of training: the model, the optimiser, the machine, and resuming."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from subset_trainer.config.defaults import (
    ADAMW_DEFAULTS,
    ENCODER_DEFAULTS,
    FINE_TUNED_ENCODER_DEFAULTS,
    FRESH_IMAGE_DEFAULTS,
    FRESH_IMAGES,
    FRESH_LAYER_TIMES,
    FROZEN_ENCODER_RATE,
    JOINING_LAYERS_TIMES,
    NGRAMS_DEFAULTS,
)
from subset_trainer.config.knobs import Count, Knobs, Positive, Share


class TrainingKnobs(Knobs):
    """How the model is trained."""

    model: str = Field(
        "auto",
        description="`resnet18` (with a 3×3 stem for small images), `cnn` (four convolutions, for small images on "
        "a CPU), `mlp` (tables), `ngrams` (text), `encoder` (text, with a Hugging Face encoder in the `pretrained` "
        "channel), or the name of any torchvision classifier; `auto`: resnet18 for images, mlp for tables, and for "
        "text, alone or in a table, encoder if the `pretrained` channel has one, else ngrams",
    )
    epochs: Count = Field(
        30,
        description="number of passes over the selected subset. Default for `encoder` with `fine_tune=all`: "
        f"{FINE_TUNED_ENCODER_DEFAULTS['epochs']}",
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(
        128,
        description="number of examples per training step in each process; the effective batch size is this times "
        "the number of processes. It is reduced if the subset has fewer examples. Default for `encoder` with "
        f"`fine_tune=all`: {FINE_TUNED_ENCODER_DEFAULTS['batch_size']}",
    )
    microbatch_size: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="maximum number of examples in one forward and backward pass; a training step accumulates "
        "gradients over parts of this size. Default: the whole batch, or the largest half, quarter, … of it that "
        "fits in GPU memory",
    )
    learning_rate: Positive = Field(
        0.05,
        description="peak learning rate; the schedule is a linear warm-up, then cosine decay to zero. Default for "
        f"`ngrams` with SGD, on texts alone: {NGRAMS_DEFAULTS['learning_rate']:g}; for "
        f"`encoder` (AdamW): {ENCODER_DEFAULTS['learning_rate']:g}, with `fine_tune=head` {FROZEN_ENCODER_RATE:g}. "
        f"With `fine_tune=all`, an encoder's fresh last layer has {FRESH_LAYER_TIMES:g} times this rate, and layers "
        f"that join it with a table have {JOINING_LAYERS_TIMES:g} times this rate",
    )
    whitening: bool = Field(
        False,
        description="images: begin with the principal components of image patches as kernels of the first "
        f"convolution; not used with pretrained weights. Default for {FRESH_IMAGES}: `true`",
    )
    optimizer: Literal["auto", "sgd", "muon", "adamw"] = Field(
        "auto",
        description="`sgd` with Nesterov momentum; `muon`, which is `sgd` with orthogonalised updates of the hidden "
        "layers for which that costs little; `adamw`, with defaults of its own: "
        f"{', '.join(f'{name}={value:g}' for name, value in ADAMW_DEFAULTS.items())}; `auto`: adamw for `encoder`, "
        f"which takes no other, {FRESH_IMAGE_DEFAULTS['optimizer']} for {FRESH_IMAGES}, else sgd",
    )
    warmup_ratio: Share = Field(
        0.15, description="fraction of all training steps used for learning-rate warm-up"
    )
    momentum: Share = Field(
        0.9, description="Nesterov momentum of SGD; ignored for `encoder`, which uses AdamW"
    )
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        5e-4,
        description="L2 penalty; for `encoder`, AdamW's decoupled weight decay (default "
        f"{ENCODER_DEFAULTS['weight_decay']:g}). Biases and normalisation layers are exempt",
    )
    label_smoothing: Share = Field(
        0.1, description="label smoothing: fraction of the target probability spread evenly over all classes"
    )
    dropout: Share = Field(
        0.5,
        description="`mlp`, and tables with text: dropout probability of the hidden layers, and of a text's n-grams; "
        "each process draws its own mask",
    )
    ema_decay: Share = Field(
        0.0,
        description="decay per step of the exponential moving average of the weights, which is then evaluated and "
        "saved instead of the last weights; 0: no average",
    )
    test_time_flip: bool = Field(
        False, description="evaluate each image by the mean prediction over the image and its mirror image"
    )

    # The machine
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device to train on; `auto`: a GPU if there is one, else the CPU"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="numeric precision of forward and backward passes; `auto`: float32 for tables and n-grams; for "
        "images and encoders, bfloat16 on GPUs and CPUs with hardware support, float16 on older GPUs, and float32 "
        "on other CPUs",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0,
        description="random seed of the validation split, initial weights, order of examples, augmentation and "
        "selection",
    )
    deterministic: bool = Field(
        False,
        description="on a GPU: use only deterministic kernels, so that an interrupted and resumed run gives bitwise "
        "the same result as an uninterrupted one. Slower, and an error if the model needs other kernels. Runs on a "
        "CPU are always deterministic",
    )

    # Many GPUs and hosts
    processes_per_host: Count | None = Field(
        None,
        description="number of training processes per host; default: one per GPU, or one on a CPU",
    )
    learning_rate_scaling: Literal["linear", "sqrt", "none"] = Field(
        "linear",
        description="how the learning rate is scaled with the number n of processes: `linear` multiplies it by n, "
        "`sqrt` (default for `encoder` and with `optimizer=muon`) by √n, `none` leaves it unchanged",
    )
    sync_batch_norm: bool = Field(
        False,
        description="compute batch-normalisation statistics over the batches of all processes, at the cost of "
        "communication in each such layer",
    )
    host_wait_minutes: Positive = Field(
        15.0, description="maximum number of minutes that the hosts of a job wait for each other"
    )

    # Resuming after an interruption
    resume: Literal["auto", "never"] = Field(
        "auto",
        description="`auto`: resume from the newest checkpoint in `/opt/ml/checkpoints`, if there is one; `never`: "
        "start from the beginning",
    )
    checkpoint_minutes: float = Field(
        5.0,
        gt=0,
        allow_inf_nan=False,
        description="minutes between checkpoints within an epoch; a checkpoint is also written after each epoch",
    )
    checkpoints_kept: int = Field(2, ge=1, description="number of most recent checkpoints that are kept")

    @field_validator("model")
    @classmethod
    def _model_in_any_spelling(cls, name: str) -> str:
        # All of torchvision's names, and ours, are in lower case and without hyphens.
        return name.lower().replace("-", "_")

    @model_validator(mode="after")
    def _statistics_are_of_all_or_of_a_part(self) -> "TrainingKnobs":
        if self.sync_batch_norm and self.microbatch_size is not None:
            raise ValueError(
                "sync_batch_norm does not work with microbatch_size, which computes statistics over parts of a batch"
            )
        return self
