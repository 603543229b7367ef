"""The ``serve`` program: its process, port, signals and exit codes.

Exit codes: 0 stopped by SIGTERM; 1 an error that the user can fix (such as a missing or damaged model); 2 any other.
"""

import gc
import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from subset_trainer import __version__, contract
from subset_trainer.data.machine import memory_available
from subset_trainer.entrypoint import (
    answer_options,
    failure_of,
    log_to_stdout,
    print_traceback,
    refuse_arguments,
)
from subset_trainer.errors import TrainingError, UserError, shown
from subset_trainer.serving.settings import Settings
from subset_trainer.training.interruption import Interruption, Terminated

logger = logging.getLogger("subset_trainer")

HELP = """usage: serve [--help] [--version]

Serves the model in /opt/ml/model, or in model/ below SAGEMAKER_BASE_DIR, at GET /ping and POST /invocations on port
8080, or on SAGEMAKER_BIND_TO_PORT, until SIGTERM."""
GRACE_SECONDS = 7
"""Grace period in seconds for requests that are open when SIGTERM arrives: `docker stop` kills after 10."""
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep a connection, so that the server never closes one just as a request arrives."""


CODE = Path("code", "inference.py")
"""Where the SDK packs a user's inference code within the model's folder."""
PROGRAM_VARIABLE = "SAGEMAKER_PROGRAM"
SERVED = "this image serves models of its built-in trainer alone, from model.json and model.safetensors"
OTHERWISE = "expected such a model, or an image for inference code, such as SageMaker's for PyTorch"


def main() -> None:
    """Serve the model in the contract's folder until SIGTERM, then exit."""
    answer_options(HELP)
    log_to_stdout()
    interruption = Interruption()
    code = 0
    try:
        interruption.install()
        refuse_arguments("serve")
        _serve()
    except Terminated:
        logger.info("SIGTERM received: stopped")
    except BaseException as error:
        failure = failure_of(error)
        if not isinstance(error, TrainingError):
            print_traceback(error)
        logger.error("%s", failure)
        code = failure.exit_code
    interruption.ignore()
    logging.shutdown()
    sys.stdout.flush()
    # Not a regular exit, which would wait for threads whose results nobody needs any more.
    os._exit(code)


def check_servable(model: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a model that brings code of its own, which this image would not run, and one without the trainer's files.

    Raises:
        UserError: with what is served.
    """
    if (model / CODE).is_file():
        raise UserError(f"{model / CODE} would not be run: {SERVED}; {OTHERWISE}")
    if program := environment.get(PROGRAM_VARIABLE, "").strip():
        raise UserError(
            f"environment variable {PROGRAM_VARIABLE}={shown(program)} names inference code, which would not be run: "
            f"{SERVED}; {OTHERWISE}"
        )
    if not (model / "model.json").is_file() and model.is_dir() and any(model.iterdir()):
        found = ", ".join(sorted(path.name for path in model.iterdir())[:5])
        raise UserError(
            f"{model} holds no model.json but {found}, as a script-mode job leaves it: {SERVED}; {OTHERWISE}"
        )


def _serve() -> None:
    logger.info("subset-trainer %s", __version__)
    settings = Settings.read()
    check_servable(contract.model_directory())
    # Imported after the settings are checked, because torch takes seconds to import.
    import uvicorn

    from subset_trainer.serving.app import application
    from subset_trainer.serving.bounds import BODIES, Protocol, Requests
    from subset_trainer.serving.predictor import Predictor

    # The port opens only once the model is loaded, so that a server that answers /ping can answer all requests.
    predictor = Predictor.load(contract.model_directory(), settings.image_pixels)
    # What is there stays. The collector would go through all of it again and again while a request's rows are read, and
    # take more than half of the time.
    gc.freeze()
    logger.info(
        "serving a model of %s data, %d classes, on %s, port %d",
        predictor.preprocessing.name,
        len(predictor.preprocessing.classes),
        predictor.describe(),
        settings.port,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    open_requests = Requests(min(BODIES, memory_available() // 4))

    class Server(uvicorn.Server):
        """It goes on to listen, and answers 503, until the requests that are open at SIGTERM are answered."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await open_requests.finish(GRACE_SECONDS)
            await super().shutdown(sockets)

    Server(
        uvicorn.Config(
            application(predictor, settings, open_requests),
            host="0.0.0.0",  # noqa: S104  the container's only way to be reached
            port=settings.port,
            http=Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
        )
    ).run()


if __name__ == "__main__":
    main()
