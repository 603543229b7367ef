"""SageMaker's training contract: what the platform puts under /opt/ml, as typed values.

No other module reads or builds these paths. The layout is that of "How Amazon SageMaker Provides Training
Information" and "How Amazon SageMaker Processes Training Output" in the SageMaker developer guide. The environment
variable SAGEMAKER_BASE_DIR relocates the base directory, as it does for the sagemaker-training toolkit.

Each of the three configuration files may be missing. Without them there are no hyperparameters, the channels are the
folders that exist, and the job runs on one host. ``docker run`` therefore works with a folder that was filled by hand.
"""

import itertools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subset_trainer.errors import PlatformError, UserError, shown

BASE_DIRECTORY_VARIABLE = "SAGEMAKER_BASE_DIR"
FAILURE_CHARACTERS = 1024
"""The number of characters of the failure file that SageMaker keeps."""

INPUT_MODES = ("File", "FastFile", "Pipe")
SHARDED = "ShardedByS3Key"
"""The distribution type of a channel whose files are divided among the hosts."""
CHANNEL_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")
"""The channel names that SageMaker allows. None of them is a path out of the channels' folder."""


@dataclass(frozen=True)
class Contract:
    """The paths of a job's input and output, and the hosts on which it runs."""

    base: Path
    hyperparameters: Mapping[str, Any]
    """Name → value as the platform delivers it, usually a string. Includes the platform's own (``sagemaker_*``)."""
    channels: Mapping[str, Path]
    hosts: tuple[str, ...]
    current_host: str
    network_interface: str | None
    """The network interface that connects the hosts."""
    job_name: str | None
    content_types: Mapping[str, str] = field(default_factory=dict)
    """Channel → content type, for channels with a content type."""
    sharded: frozenset[str] = frozenset()
    """Channels whose files are divided among the hosts. Empty for a single host, which has all files."""

    @property
    def model(self) -> Path:
        """The folder that SageMaker packs into model.tar.gz."""
        return self.base / "model"

    @property
    def output_data(self) -> Path:
        """The folder that SageMaker packs into output.tar.gz."""
        return self.base / "output" / "data"

    @property
    def checkpoints(self) -> Path:
        """Synchronised with S3 if the job has a checkpoint location; otherwise the folder does not exist."""
        return self.base / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """The folder from which SageMaker's TensorBoardOutputConfig uploads event files by default."""
        return self.base / "output" / "tensorboard"


def base_directory() -> Path:
    return Path(os.environ.get(BASE_DIRECTORY_VARIABLE, "/opt/ml"))


def failure_file() -> Path:
    return base_directory() / "output" / "failure"


def model_directory() -> Path:
    """The folder to which training writes the model, and into which hosting unpacks model.tar.gz."""
    return base_directory() / "model"


def read() -> Contract:
    """Read the configuration of this job.

    Raises:
        UserError: a configuration file is not JSON of the expected form, or a channel is delivered in a mode that
            cannot be read.
        PlatformError: a configuration file exists but cannot be read.
    """
    base = base_directory()
    path = base / "input" / "config" / "resourceconfig.json"
    resources = _read_object(path)
    hosts, current_host = _hosts(resources, path)
    channels, content_types, sharded = _channels(base)
    interface = resources.get("network_interface_name")
    return Contract(
        base=base,
        hyperparameters=_read_object(base / "input" / "config" / "hyperparameters.json"),
        channels=channels,
        hosts=hosts,
        current_host=current_host,
        network_interface=interface if isinstance(interface, str) else None,
        job_name=os.environ.get("TRAINING_JOB_NAME"),
        content_types=content_types,
        sharded=sharded if len(hosts) > 1 else frozenset(),
    )


def _hosts(resources: Mapping[str, Any], path: Path) -> tuple[tuple[str, ...], str]:
    """The names of all hosts, in the same order on every host, and the name of this host, which is one of them.

    The groups of a heterogeneous cluster (``instance_groups``) are included.
    """
    current = resources.get("current_host", "localhost")
    groups = resources.get("instance_groups") or []
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise UserError(f"{path}: instance_groups is {shown(groups)}; expected a list of objects")
    lists = [resources.get("hosts") or [], *(group.get("hosts") or [] for group in groups)]
    for names in lists:
        if not isinstance(names, list) or not all(isinstance(host, str) and host for host in names):
            raise UserError(f"{path}: hosts is {shown(names)}; expected a list of names")
    hosts = tuple(dict.fromkeys(itertools.chain(*lists))) or (current,)
    if not current or not isinstance(current, str) or current not in hosts:
        raise UserError(
            f"{path}: current_host is {shown(current)}; expected one of {shown(list(hosts))}, the hosts"
        )
    return hosts, current


def _channels(base: Path) -> tuple[dict[str, Path], dict[str, str], frozenset[str]]:
    """Channel → folder, channel → content type, and the channels whose files are divided among the hosts."""
    data = base / "input" / "data"
    content_types: dict[str, str] = {}
    configured = _read_object(base / "input" / "config" / "inputdataconfig.json")
    channels: dict[str, Path] = {}
    sharded: set[str] = set()
    for name, settings in configured.items():
        if not CHANNEL_NAME.fullmatch(name):
            raise UserError(
                f"channel {shown(name)}: expected a name of at most 64 letters, digits, hyphens, underscores and "
                "full stops"
            )
        mode = settings.get("TrainingInputMode", "File") if isinstance(settings, dict) else "File"
        if mode not in INPUT_MODES:
            raise UserError(
                f"channel {name!r} is delivered in input mode {shown(mode)}; expected one of {', '.join(INPUT_MODES)}"
            )
        if mode == "Pipe" and settings.get("RecordWrapperType") != "RecordIO":
            raise UserError(
                f"channel {name!r} is delivered in input mode Pipe with the record wrapper "
                f"{shown(settings.get('RecordWrapperType'))}; expected RecordIO, for an augmented manifest, or another "
                "input mode"
            )
        # SageMaker provides one pipe per pass over the data. One pass is enough.
        channels[name] = data / (f"{name}_0" if mode == "Pipe" else name)
        content_type = settings.get("ContentType") if isinstance(settings, dict) else None
        if not isinstance(content_type, str | None):
            raise UserError(f"channel {name!r} has the content type {shown(content_type)}; expected a text")
        if content_type:
            content_types[name] = content_type
        if isinstance(settings, dict) and settings.get("S3DistributionType") == SHARDED:
            sharded.add(name)
    if configured:
        return dict(sorted(channels.items())), content_types, frozenset(sharded)
    if not data.is_dir():
        return {}, {}, frozenset()
    return {path.name: path for path in sorted(data.iterdir()) if path.is_dir()}, {}, frozenset()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Raises ValueError for a name that is given twice: the last would win in silence."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise ValueError(f"{name!r} is given twice, as {shown(found[name])} and {shown(value)}")
        found[name] = value
    return found


def _read_object(path: Path) -> dict[str, Any]:
    try:
        # A byte order mark is what editors of Windows write.
        content = json.loads(path.read_text(encoding="utf-8-sig") or "{}", object_pairs_hook=_without_repeats)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PlatformError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply; expected an object of texts") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}; expected an object")
    return content
