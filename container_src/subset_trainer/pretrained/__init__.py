"""The channel `pretrained`: weights for an image model, or a text encoder."""

CHANNEL = "pretrained"
