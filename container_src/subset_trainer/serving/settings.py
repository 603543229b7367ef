"""The platform's hosting settings, from environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from subset_trainer.config.data import MOST_IMAGE_PIXELS
from subset_trainer.data.machine import cpu_count
from subset_trainer.errors import UserError, shown

PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"
PAYLOAD_VARIABLE = "SAGEMAKER_MAX_PAYLOAD_IN_MB"
PIXELS_VARIABLE = "MAX_IMAGE_PIXELS"
MIB = 1 << 20
MOST_MIB = 1_024


@dataclass(frozen=True)
class Settings:
    """`payload_mib`: the largest request body, 0 for no limit. `threads`: the number of requests that are decoded
    concurrently. `image_pixels`: the largest image that is decoded, as the hyperparameter `max_image_pixels`."""

    port: int = 8080
    payload_mib: int = 6
    threads: int = 1
    image_pixels: int = MOST_IMAGE_PIXELS

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """The settings of this process. Raises UserError if a variable has an invalid value."""
        return cls(
            port=_number(environment, PORT_VARIABLE, 8080, 1, 65_535),
            payload_mib=_number(environment, PAYLOAD_VARIABLE, 6, 0, MOST_MIB),
            threads=cpu_count(),
            image_pixels=_number(environment, PIXELS_VARIABLE, MOST_IMAGE_PIXELS, 1, 999_999_999),
        )


def _number(environment: Mapping[str, str], name: str, otherwise: int, least: int, most: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return otherwise
    if not (text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise UserError(
            f"environment variable {name}={shown(text, 40)}: expected a whole number from {least:,} to {most:,}"
        )
    return int(text)
