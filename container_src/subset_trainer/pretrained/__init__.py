"""The channel `pretrained`: the weights of an image model, or an encoder of texts."""

CHANNEL = "pretrained"
