"""Where a script-mode job's source comes from (``sagemaker_submit_directory``), and the folder it is unpacked to."""

import json
import logging
import shutil
import tarfile
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlparse

from subset_trainer.errors import PlatformError, UserError, first_line, shown

logger = logging.getLogger(__name__)
NAME = "sagemaker_submit_directory"
UNPACKED = ".unpacked.json"
"""A list of the files that a job has unpacked, in the folder of the source, so that the next job removes them."""
_SHOWN = 5
DENIED = ("403", "AccessDenied", "Forbidden", "AllAccessDisabled")
ABSENT = ("404", "NoSuchKey", "NoSuchBucket", "NotFound")


def unpack(uri: str, folder: Path) -> None:
    """Fetch the source and unpack it to the folder from which the script runs.

    The files that an earlier job has unpacked there are removed, and what its script has written stays. A folder that
    somebody else has filled, such as a mounted one, is the source.

    Args:
        uri: ``s3://…``, ``file://…`` or a path, of an archive, a folder or a script.

    Raises:
        UserError: the source is not there, may not be read, or is no archive.
        PlatformError: AWS does not answer.
    """
    from sagemaker_training import files

    place = _local(uri)
    if place == str(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not _remove_earlier(folder) and any(folder.iterdir()):
        logger.info("%s holds a source already: %s is not fetched", folder, uri)
        return
    if not place.startswith("s3://") and not Path(place).exists():
        raise UserError(
            f"hyperparameter {NAME}={shown(uri)}: there is no such file or folder; {_expected(uri)}"
        )
    with tempfile.TemporaryDirectory(prefix="source-") as name:
        fetched = Path(name) / "source"
        try:
            files.download_and_extract(place, str(fetched))
        except (tarfile.TarError, EOFError) as error:
            raise UserError(
                f"hyperparameter {NAME}={shown(uri)} is no archive ({first_line(error)}); {_expected(uri)}"
            ) from error
        except Exception as error:
            raise _failure(uri, error) from error
        unpacked = sorted(str(path.relative_to(fetched)) for path in fetched.rglob("*") if not path.is_dir())
        # Before the files, so that a job that is killed between them leaves no half source that passes for whole.
        (folder / UNPACKED).write_text(json.dumps(unpacked), encoding="utf-8")
        shutil.copytree(fetched, folder, symlinks=True, dirs_exist_ok=True)


def check_program(program: str | None, folder: Path) -> None:
    """Raise UserError if the source in the folder lacks the job's script. Of a package, pip tells what it holds."""
    script = program is not None and program.endswith((".py", ".sh")) and not (folder / "setup.py").exists()
    if not script or program is None or (folder / program).is_file():
        return
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    found = [name for name in found if name != UNPACKED]
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    held = f"{', '.join(map(shown, found[:_SHOWN]))}{more}" if found else "nothing"
    raise UserError(
        f"hyperparameter sagemaker_program={shown(program)}: there is no such file in the source, which holds {held}; "
        f"expected its path within {NAME}"
    )


def _local(uri: str) -> str:
    parts = urlparse(uri)
    return unquote(parts.netloc + parts.path) if parts.scheme == "file" else uri


def _remove_earlier(folder: Path) -> bool:
    """Remove what an earlier job has unpacked there, and return whether one has."""
    listed = folder / UNPACKED
    if not listed.is_file():
        return False
    for name in json.loads(listed.read_text(encoding="utf-8")):
        path = folder / name
        if path.parent.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)
    return True


def _failure(uri: str, error: Exception) -> Exception:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        what = f"AWS refused it ({first_line(error)})"
        if code in ABSENT:
            what = f"there is no such object ({code})"
        elif code in DENIED:
            what = f"access is denied ({code}), or there is no such object"
        return UserError(f"hyperparameter {NAME}={shown(uri)}: {what}; {_expected(uri)}")
    if isinstance(error, NoCredentialsError):
        return UserError(
            f"hyperparameter {NAME}={shown(uri)}: there are no AWS credentials; {_expected(uri)}"
        )
    if isinstance(error, BotoCoreError):
        return PlatformError(
            f"hyperparameter {NAME}={shown(uri)} could not be fetched ({first_line(error)}); expected S3 to answer, "
            "which network isolation or a subnet without a route to S3 prevents"
        )
    if isinstance(error, PermissionError):
        return UserError(
            f"hyperparameter {NAME}={shown(uri)} may not be read; expected a readable file or folder"
        )
    return error


def _expected(uri: str) -> str:
    parts = urlparse(uri)
    if parts.scheme != "s3":
        return "expected the script's folder, or its .tar.gz"
    return (
        "expected the .tar.gz that the SDK uploads, and a role with the rights s3:GetObject on "
        f"arn:aws:s3:::{parts.netloc}{parts.path} and s3:ListBucket on arn:aws:s3:::{parts.netloc}"
    )
