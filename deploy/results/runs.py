"""What finished runs have left, wherever that lies."""

import re
from pathlib import Path

from deploy.aws import jobs
from deploy.aws.storage import Storage, in_s3
from subset_trainer.errors import UserError


class MissingError(UserError):
    """The run is there, and has left no file of that name."""


def file_of(run: str, name: str, folder: Path, region: str | None = None) -> Path:
    """A file that a finished run has left, by its name.

    Args:
        run: its folder or its output.tar.gz, here or in S3, the name of the training job that it was, or the file
            itself in S3.
        folder: what is not here goes there.
        region: where AWS is asked.

    Raises:
        UserError: there is no such run, it has not ended well, or has left no such file.
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
    """The URI of a job's results."""
    from botocore.exceptions import ClientError

    from deploy.aws import calls

    # What SageMaker would say of these is about a regular expression.
    if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name):
        raise UserError(f"{name!r}: expected a run's folder, its output.tar.gz, or a training job's name")
    try:
        job = jobs.describe(calls.boto_session(region).client("sagemaker"), name)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in ("ValidationException", "ResourceNotFound"):
            raise
        raise UserError(f"{name!r} is no file or folder here, and no training job's name there") from error
    if job.status != jobs.ENDED_WELL:
        raise UserError(f"the training job {name!r} has no results: {job}")
    return job.results
