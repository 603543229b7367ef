"""SageMaker's hosting contract over HTTP: /ping, /invocations, and batch transform's /execution-parameters."""

import asyncio
import contextlib
import logging
import traceback
from functools import partial

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from subset_trainer.data.images.decoding import MemoryShortError, OversizedImageError
from subset_trainer.errors import UserError
from subset_trainer.serving import bounds, requests, responses
from subset_trainer.serving.bounds import Requests
from subset_trainer.serving.errors import RequestError
from subset_trainer.serving.predictor import Predictor
from subset_trainer.serving.settings import MIB, MOST_MIB, PAYLOAD_VARIABLE, Settings

logger = logging.getLogger(__name__)

BATCH_MIB = 100
"""Batch transform's limit on the total size of its concurrent requests."""


def application(predictor: Predictor, settings: Settings, open_requests: Requests | None = None) -> Starlette:
    """The application that answers requests, which `open_requests` keeps.

    For an error that the client can fix, the response says what was expected. Any other error is reported without
    details. The content of requests is never logged.
    """
    # Each request is read and decoded on one processor; the model runs for one request at a time.
    threads = anyio.CapacityLimiter(settings.threads)
    open_requests = open_requests or Requests()

    async def ping(request: Request) -> Response:
        return Response(status_code=503 if open_requests.stopping else 200)

    async def execution_parameters(request: Request) -> Response:
        largest = settings.payload_mib or BATCH_MIB
        return JSONResponse(
            {
                "MaxConcurrentTransforms": max(1, min(settings.threads, BATCH_MIB // largest)),
                # Images are sent one at a time, because an image file cannot be split into records or joined from them.
                "BatchStrategy": "MULTI_RECORD" if predictor.preprocessing.divisible else "SINGLE_RECORD",
                "MaxPayloadInMB": largest,
            }
        )

    async def answer(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
            raise RequestError(415, f"request: Content-Encoding is {encoding[:40]!r}; expected none.")
        form = requests.form_of(content_type, predictor.preprocessing)
        answer_in, verbose = responses.accepted(request.headers.get("accept"), form)
        async with open_requests.room(_claimed(request, settings.payload_mib)):
            body = await _body(request, settings.payload_mib)
            found = await anyio.to_thread.run_sync(
                partial(_answer_or_error, predictor, body, content_type, answer_in, verbose),
                limiter=threads,
                # An image that is being decoded does not hold up the end.
                abandon_on_cancel=True,
            )
        if isinstance(found, UserError):
            return await _refusal(request, found)  # raised here, it would hold the body by this frame
        return Response(found, headers={"Content-Type": answer_in})

    async def invocations(request: Request) -> Response:
        try:
            try:
                return await answer(request)
            except UserError as error:
                return await _refusal(request, error)
        except asyncio.CancelledError:
            # After SIGTERM, when the grace period for open requests is over.
            return PlainTextResponse("the server is stopping: send the request again", 503)
        except ClientDisconnect:
            return Response(status_code=400)  # the client has disconnected
        except Exception as error:
            # The exception's message may quote the request, so only the position in the code is logged.
            places = "; ".join(
                f"{frame.filename}:{frame.lineno} in {frame.name}"
                for frame in traceback.extract_tb(error.__traceback__)
            )
            logger.error("a request failed with %s at %s", type(error).__name__, places)
            return PlainTextResponse("internal error; the log says where", 500)

    return Starlette(
        routes=[
            Route("/ping", ping),
            Route("/execution-parameters", execution_parameters),
            Route("/invocations", invocations, methods=["POST"]),
        ]
    )


def _claimed(request: Request, limit_mib: int) -> int:
    """The bytes that a request may take, for its body (as the headers claim, or the limit) and for reading it."""
    limit = (limit_mib or BATCH_MIB) * MIB
    length = request.headers.get("content-length", "")
    claimed = int(length) if length.isdecimal() else limit
    return bounds.TIMES_BODY * (min(claimed, limit) if limit_mib else claimed)


async def _body(request: Request, limit_mib: int) -> bytes:
    """Read a request's body without keeping more than the allowed size.

    Raises:
        RequestError: the body is too large, too slow, or empty.
    """
    limit, body, size = limit_mib * MIB or None, bytearray(), 0
    try:
        async with asyncio.timeout(bounds.BODY_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if limit is None or size <= limit:
                    body += piece
                elif size > MOST_MIB * MIB:
                    break
    except TimeoutError:
        raise RequestError(
            408,
            f"request: {size:,} bytes of the body came in {bounds.BODY_SECONDS:.0f} s; expected all of it.",
        ) from None
    # Raised only after the whole body has arrived: a client that gets an earlier answer may see a broken connection.
    if limit is not None and size > limit:
        raise RequestError(
            413,
            f"request: the body is larger than {limit_mib} MiB; expected a smaller one, or a larger {PAYLOAD_VARIABLE} "
            "in the model's environment.",
        )
    if not body:
        raise RequestError(400, "request: the body is empty; expected examples.")
    return bytes(body)


async def _refusal(request: Request, error: UserError) -> Response:
    status, headers = 400, None
    if isinstance(error, RequestError):
        status, headers = error.status, {"Connection": "close"} if error.status in (408, 503) else None
        # Of these no body is read: a client that is still sending it when the connection closes may not see why.
        if status == 503 and request.headers.get("expect", "").lower() != "100-continue":
            await _discard(request)
    elif isinstance(error, OversizedImageError | MemoryShortError):
        status = 413
    return PlainTextResponse(_sendable(str(error)), status, headers)


async def _discard(request: Request) -> None:
    """Read a refused request's body, and keep nothing of it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(bounds.DISCARD_SECONDS):
            async for _ in request.stream():
                pass


def _answer_or_error(
    predictor: Predictor, body: bytes, content_type: str, answer_in: str, verbose: bool
) -> bytes | UserError:
    try:
        return _answer(predictor, body, content_type, answer_in, verbose)
    except UserError as error:
        # Frames of its traceback hold all that the request took, in cycles that live until the garbage is collected.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return error


def _answer(predictor: Predictor, body: bytes, content_type: str, answer_in: str, verbose: bool) -> bytes:
    probabilities = predictor.probabilities(requests.batches(body, content_type, predictor.preprocessing))
    if not len(probabilities):
        raise UserError("request: the body holds no example; expected some.")
    return responses.encode(probabilities, predictor.preprocessing.classes, answer_in, verbose)


def _sendable(sentence: str) -> str:
    """Text that UTF-8 can encode: JSON may contain lone surrogates."""
    return sentence.encode("utf-8", "backslashreplace").decode()
