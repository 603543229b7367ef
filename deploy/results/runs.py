"""Finds the files of finished runs, locally or in S3."""

import re
from pathlib import Path

from deploy.aws import jobs
from deploy.aws.storage import Storage, in_s3
from subset_trainer.errors import UserError


class MissingError(UserError):
    """The run exists, but has no file of that name."""


def file_of(run: str, name: str, folder: Path, region: str | None = None) -> Path:
    """Return the local path of a finished run's file, downloading or unpacking it if needed.

    Args:
        run: the run's folder or output.tar.gz, local or in S3, the name of its training job, or the URI of the file.
        name: name of the file.
        folder: where a downloaded or unpacked file is written.
        region: AWS region.

    Raises:
        UserError: there is no such run, or it did not complete.
        MissingError: the run has no such file.
    """
    if not in_s3(run) and Path(run).is_dir():
        folder = Path(run)
    elif not in_s3(run) and Path(run).is_file():
        with Path(run).open("rb") as archive:
            jobs.unpack_results(archive, folder, run, (name,))
    else:
        storage = Storage(region)
        uri = run if in_s3(run) else _results_of(run, region)
        if uri.endswith(Path(name).suffix):
            (folder / name).write_bytes(storage.read(uri))
        else:
            jobs.fetch_results(storage.s3, uri, folder, (name,))
    found = jobs.find(folder, name)
    if found is None:
        raise MissingError(f"{run!r} holds no {name}: expected the results of a training")
    return found


def _results_of(name: str, region: str | None) -> str:
    """Return the URI of a training job's results. Raises UserError if there is no such job or it did not complete."""
    from botocore.exceptions import ClientError

    from deploy.aws import calls

    # SageMaker's own message for an invalid name only quotes a regular expression.
    if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name):
        raise UserError(f"{name!r}: expected a run's folder, its output.tar.gz, or a training job's name")
    try:
        session = calls.boto_session(region)
    except UserError as error:
        raise UserError(
            f"there is no file or folder {name!r}; for a training job of that name: {error}"
        ) from error
    try:
        job = jobs.describe(session.client("sagemaker"), name)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in ("ValidationException", "ResourceNotFound"):
            raise
        raise UserError(
            f"{name!r} is neither a local file or folder nor the name of a training job"
        ) from error
    if job.status != jobs.ENDED_WELL:
        raise UserError(f"the training job {name!r} has no results: {job}")
    return job.results
