"""Training jobs as SageMaker describes them, and their results in S3."""

import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from subset_trainer.errors import AlgorithmError, TrainingError, UserError, first_line

if TYPE_CHECKING:
    from sagemaker.estimator import Estimator

ENDED_WELL = "Completed"
ENDED = (ENDED_WELL, "Failed", "Stopped")
RESULTS = ("summary.json", "history.jsonl", "test_predictions.npz", "report.html", "examples.parquet")


@dataclass(frozen=True)
class Job:
    """One training job."""

    name: str
    status: str
    """InProgress, Completed, Failed, Stopping or Stopped."""
    reason: str = ""
    """SageMaker's failure reason; empty if the job did not fail."""
    results: str = ""
    """The URI of output.tar.gz."""
    instance_type: str = ""
    instance_count: int = 1
    seconds: float | None = None
    """SageMaker's training time, which includes downloading the data and uploading the results."""
    billable_seconds: float | None = None
    """Billable time of each instance; less than `seconds` on spot instances."""

    @property
    def spot_saving(self) -> float | None:
        """The share of the on-demand price that spot instances saved; None if they saved nothing."""
        if not self.seconds or self.billable_seconds is None or self.billable_seconds >= self.seconds:
            return None
        return 1 - self.billable_seconds / self.seconds

    def cost(self, prices: Mapping[str, float]) -> float | None:
        """Return the cost in dollars; None if the price or the billable time is unknown.

        Args:
            prices: instance type → dollars an hour.
        """
        price = prices.get(self.instance_type)
        if price is None or self.billable_seconds is None:
            return None
        return price * self.instance_count * self.billable_seconds / 3600

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


def describe(sagemaker: Any, name: str) -> Job:
    """Return the training job of this name, as a SageMaker client describes it."""
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
    """Return the path of a file of a run's results; None if there is no such file.

    Args:
        directory: the run's base directory, its output folder, or an unpacked output.tar.gz.
        name: name of the file.
    """
    places = (directory / "output/data", directory / "data", directory)
    return next((place / name for place in places if (place / name).exists()), None)


def fetch_results(s3: Any, uri: str, folder: Path, names: Collection[str] = RESULTS) -> None:
    """Download a job's output.tar.gz and unpack the files of these names into `folder`.

    Raises UserError if there is no readable archive at the URI.
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
    """Unpack the files of these names from an output.tar.gz into `folder`.

    Args:
        archive: the opened output.tar.gz.
        folder: where the files are written; it is created if it is missing.
        name: name of the archive, for the error.
        names: names of the files to unpack.

    Raises UserError if the archive cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=archive) as opened:
            # Only the name and content are used: paths, links and modes in the archive are not trusted.
            for member in opened:
                file = opened.extractfile(member) if member.isfile() else None
                if file is not None and Path(member.name).name in names:
                    (folder / Path(member.name).name).write_bytes(file.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{name} cannot be unpacked: {error}") from error


def fit_here(job: "Estimator", channels: Mapping[str, str], output: Path) -> None:
    """Run an `Estimator` in local mode and unpack its results.

    Args:
        job: its archives are written to the folder `output`.
        channels: name → URI.
        output: folder of the archives and the unpacked results.

    Raises UserError or AlgorithmError with the training's own failure reason if it fails.
    """
    output.mkdir(parents=True, exist_ok=True)
    try:
        job.fit(dict(channels))
    except (RuntimeError, ImportError, OSError, subprocess.SubprocessError) as error:
        raise _local_failure(output, error) from error
    with (output / "output.tar.gz").open("rb") as archive:
        unpack_results(archive, output, str(output))


def _local_failure(output: Path, error: Exception) -> TrainingError:
    """Return an error with the container's failure reason: the SDK's exception has only its exit code."""
    try:
        with tarfile.open(output / "output.tar.gz") as archive:
            member = archive.extractfile("failure")
            reason = member.read().decode(errors="replace").strip() if member else ""
    except (OSError, KeyError, tarfile.TarError):
        reason = ""
    kind = UserError if "exited with code: 1" in str(error) else AlgorithmError
    return kind(reason or f"local mode: {first_line(error)}")
