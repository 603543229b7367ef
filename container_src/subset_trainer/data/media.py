"""Media types of channels and requests."""

from subset_trainer.data.channels import Channel
from subset_trainer.errors import shown


def media_type(text: str) -> tuple[str, dict[str, str]]:
    """`text/csv; header=present` → ('text/csv', {'header': 'present'}), in lower case."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    return kind, {
        name.strip(): value.strip() for name, _, value in (part.partition("=") for part in parameters)
    }


def header_of(channel: Channel, text: str) -> str | None:
    """Whether a media type declares a CSV header: "true", "false", or None if it does not specify it.

    Raises:
        UserError: it declares no label or several labels.
    """
    _, values = media_type(text)
    if (size := values.get("label_size", "1")) != "1":
        raise channel.error(
            f"its content type is {shown(text)}, with label_size={shown(size)}; expected label_size=1, "
            "a class in the first column."
        )
    told = {"present": "true", "true": "true", "absent": "false", "false": "false"}
    return told.get(values.get("header", ""))
