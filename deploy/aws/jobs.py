"""Training jobs as SageMaker describes them, and what they left in S3."""

import tarfile
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from subset_trainer.errors import AlgorithmError, TrainingError, UserError

if TYPE_CHECKING:
    from sagemaker.estimator import Estimator

ENDED_WELL = "Completed"
ENDED = (ENDED_WELL, "Failed", "Stopped")
RESULTS = ("summary.json", "history.jsonl")


@dataclass(frozen=True)
class Job:
    """One training job."""

    name: str
    status: str
    """InProgress, Completed, Failed, Stopping or Stopped."""
    reason: str = ""
    """Why it failed."""
    results: str = ""
    """The URI of output.tar.gz."""
    instance_type: str = ""
    instance_count: int = 1
    seconds: float | None = None
    """Of training, as SageMaker counts them: the download of data and the upload of results are among them."""
    billable_seconds: float | None = None
    """Fewer than `seconds` on spot instances; of each instance."""

    @property
    def spot_saving(self) -> float | None:
        """The share of the on-demand price that spot instances saved."""
        if not self.seconds or self.billable_seconds is None or self.billable_seconds >= self.seconds:
            return None
        return 1 - self.billable_seconds / self.seconds

    def cost(self, prices: Mapping[str, float]) -> float | None:
        """Dollars, by the instance types' prices an hour."""
        price = prices.get(self.instance_type)
        if price is None or self.billable_seconds is None:
            return None
        return price * self.instance_count * self.billable_seconds / 3600

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


def describe(sagemaker: Any, name: str) -> Job:
    """Ask a SageMaker client."""
    job = sagemaker.describe_training_job(TrainingJobName=name)
    base = job["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    resources = job.get("ResourceConfig", {})
    return Job(
        name,
        job["TrainingJobStatus"],
        job.get("FailureReason", ""),
        f"{base}/{name}/output/output.tar.gz",
        resources.get("InstanceType", ""),
        resources.get("InstanceCount", 1),
        job.get("TrainingTimeInSeconds"),
        job.get("BillableTimeInSeconds"),
    )


def find(directory: Path, name: str) -> Path | None:
    """A file of a run's results, below its base directory, its output folder, or an unpacked output.tar.gz."""
    places = (directory / "output/data", directory / "data", directory)
    return next((place / name for place in places if (place / name).exists()), None)


def fetch_results(s3: Any, uri: str, folder: Path, names: Collection[str] = RESULTS) -> None:
    """Put the job's results of these names, its summary and history, into `folder`.

    Raises UserError where there is no readable archive at the URI.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    with tempfile.TemporaryFile() as archive:
        try:
            s3.download_fileobj(bucket, key, archive)
        except s3.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") not in ("404", "NoSuchKey", "NoSuchBucket"):
                raise
            raise UserError(f"there is nothing at {uri}") from error
        archive.seek(0)
        unpack_results(archive, folder, uri, names)


def unpack_results(archive: BinaryIO, folder: Path, name: str, names: Collection[str] = RESULTS) -> None:
    """The same of an output.tar.gz that is here; `name` is for the error."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=archive) as opened:
            # By name and content alone: whatever else the archive holds stays in it.
            for member in opened:
                file = opened.extractfile(member) if member.isfile() else None
                if file is not None and Path(member.name).name in names:
                    (folder / Path(member.name).name).write_bytes(file.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{name} cannot be unpacked: {error}") from error


def fit_here(job: "Estimator", channels: Mapping[str, str], output: Path) -> None:
    """Run an `Estimator` of local mode, whose archives go to the folder `output`, and unpack its results there.

    Raises UserError or AlgorithmError with the training's own reason when it fails.
    """
    output.mkdir(parents=True, exist_ok=True)
    try:
        job.fit(dict(channels))
    except RuntimeError as error:
        raise _local_failure(output, error) from error
    with (output / "output.tar.gz").open("rb") as archive:
        unpack_results(archive, output, str(output))


def _local_failure(output: Path, error: RuntimeError) -> TrainingError:
    """What the container itself says; the SDK's exception carries only its exit code."""
    try:
        with tarfile.open(output / "output.tar.gz") as archive:
            member = archive.extractfile("failure")
            reason = member.read().decode(errors="replace").strip() if member else ""
    except (OSError, KeyError, tarfile.TarError):
        reason = ""
    kind = UserError if "exited with code: 1" in str(error) else AlgorithmError
    return kind(reason or f"local mode: {error}")
