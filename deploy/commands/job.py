"""Turns options into `Estimator`s, for `launch`, `sweep` and `tune`."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.commands import options
from subset_trainer.errors import UserError

if TYPE_CHECKING:
    from sagemaker.estimator import Estimator
    from sagemaker.session import Session

LOCAL_ROLE = "arn:aws:iam::000000000000:role/local-mode-uses-none"
LOCAL_REGION = "us-east-1"
LOCAL_OUTPUT = options.BUILD / "local-mode"


@dataclass(frozen=True)
class Jobs:
    """A session, the URIs of the jobs' channels, and a factory of `Estimator`s."""

    session: "Session"
    uris: Mapping[str, str]
    _given: options.Job
    _settings: Mapping[str, Any]

    def make(self, values: Mapping[str, Any], name: str) -> "Estimator":
        """Return an `Estimator` for SageMaker.

        Args:
            values: hyperparameters.
            name: the job's name, without the suffix that distinguishes attempts.
        """
        from deploy.aws import launch

        assert self._given.role is not None  # `prepare` has checked it
        settings = dict(self._settings)
        if self._given.spot and "checkpoint_s3_uri" not in settings:
            settings["checkpoint_s3_uri"] = f"s3://{self.session.default_bucket()}/subset-trainer/checkpoints"
        if "checkpoint_s3_uri" in settings:
            # Each job has its own prefix, because SageMaker mirrors deletions too.
            settings["checkpoint_s3_uri"] = f"{settings['checkpoint_s3_uri'].rstrip('/')}/{name}"
        return launch.estimator(
            self._given.image_uri,
            values,
            self._given.role,
            self._given.instance_type or options.INSTANCE_TYPE,
            session=self.session,
            **settings,
        )

    def make_here(self, values: Mapping[str, Any], output: Path) -> "Estimator":
        """Return an `Estimator` in local mode.

        Args:
            values: hyperparameters.
            output: folder for the results.
        """
        from deploy.aws import launch

        return launch.estimator(
            self._given.image_uri,
            values,
            LOCAL_ROLE,
            "local",
            session=self.session,
            output_path=output.resolve().as_uri(),
            **self._settings,
        )


def prepare(given: options.Job, send: bool = True) -> Jobs:
    """Check the options, show what the channels are taken to be, and upload local ones to S3.

    Args:
        given: the options of `add_job`.
        send: False uploads and shows nothing.

    Raises UserError if an option or a channel is invalid.
    """
    settings = options.job_settings(given)
    if given.local and given.output is not None and (fault := options.folder_fault(Path(given.output))):
        raise UserError(f"--output: {fault}")
    chosen = {name: getattr(given, name) for name in options.CHANNELS if getattr(given, name) is not None}
    if not given.local and given.role is None:
        raise UserError("--role: the job's IAM role is required, except with --local")
    if not given.local and given.output is not None:
        if not given.output.startswith("s3://"):
            raise UserError(f"--output: expected an s3:// URI, or --local, got {given.output!r}")
        settings["output_path"] = given.output
    from deploy.aws import calls, channels, engine, requests

    # The SDK takes seconds to import, so errors that do not need it are reported before.
    channels.check(chosen)
    if given.local:
        requests.check_local(given)
        engine.check(given.image_uri)
        # The SDK wants a region even where no call is made.
        boto_session = calls.boto_session(given.region, LOCAL_REGION)
    else:
        boto_session = calls.boto_session(given.region)
        requests.check(given, str(boto_session.region_name))
    from deploy import understood
    from deploy.aws import launch

    data = {name: value for name, value in chosen.items() if name in options.DATA}
    session = launch.sagemaker_session(given.local, given.bucket, boto_session)
    if given.local:
        understood.before(data, given.set, given.region, to=sys.stderr)
        uris = {
            name: value if channels.is_uri(value) else Path(value).resolve().as_uri()
            for name, value in chosen.items()
        }
        return Jobs(session, uris, given, settings)
    places = {"output": given.output, "checkpoints": given.checkpoints, **chosen}
    channels.check_region(session, {n: uri for n, uri in places.items() if uri and channels.is_uri(uri)})
    channels.check_objects(session, chosen)
    if send:
        # On stderr, because scripts read the job's name from stdout.
        understood.before(data, given.set, given.region, to=sys.stderr)
    return Jobs(session, channels.upload(chosen, session, send), given, settings)
