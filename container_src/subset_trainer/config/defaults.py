"""Defaults that depend on what is trained, and by which optimiser."""

from typing import Any

from subset_trainer.config.selection import ENCODER_ETA, ENCODER_SELECT_EVERY

ADAMW_DEFAULTS: dict[str, Any] = {"learning_rate": 1e-3, "weight_decay": 0.01}
"""Defaults for ``optimizer=adamw`` where no encoder is trained."""
NGRAMS_DEFAULTS: dict[str, Any] = {"learning_rate": 0.2, "eta": ENCODER_ETA}
SGD_DEFAULTS = {"text": NGRAMS_DEFAULTS}
"""Kind of the data → defaults with SGD: those of texts alone, without an encoder."""
MUON_DEFAULTS: dict[str, Any] = {"learning_rate_scaling": "sqrt"}
"""Defaults for ``optimizer=muon``: the size of its updates does not depend on the gradient's."""
FRESH_IMAGE_MODELS = ("cnn", "resnet18")
FRESH_IMAGE_DEFAULTS: dict[str, Any] = {
    "optimizer": "muon",
    "whitening": True,
    "augmentation_reach": 0.0625,
    "flip": "alternating",
}
"""Defaults for those image models without pretrained weights, which replace the other models' defaults."""
FRESH_IMAGES = f"{' and '.join(f'`{name}`' for name in FRESH_IMAGE_MODELS)} without pretrained weights"
"""What descriptions call them."""
ENCODER_DEFAULTS: dict[str, Any] = {
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "learning_rate_scaling": "sqrt",
    "eta": ENCODER_ETA,
}
"""Defaults for text encoders, which replace the other models' defaults."""
FINE_TUNED_ENCODER_DEFAULTS: dict[str, Any] = {
    "epochs": 8,
    "batch_size": 32,
    "select_every": ENCODER_SELECT_EVERY,
}
"""Further defaults where the encoder is trained too: about as many updates as the other models' 30 epochs of batches of
128, in about a quarter of the time."""
FROZEN_ENCODER_RATE = 1e-3
"""Default learning rate for training only the last layer of a text encoder, on standardised features."""
FRESH_LAYER_TIMES, JOINING_LAYERS_TIMES = 100.0, 20.0
"""Beside an encoder that is trained too, the learning rate of a fresh last layer, and of the layers that join it with a
table, as multiples of ``learning_rate``. The last layer reads features as they are, whose deviation is about 0.2, so
that 5e-3 does what :data:`FROZEN_ENCODER_RATE` does for standardised ones."""
