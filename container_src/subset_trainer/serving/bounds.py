"""Bounds on what clients may hold of the server: connections without a request, bodies, and requests after SIGTERM."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from subset_trainer.serving.errors import RequestError

HEAD_SECONDS = 10.0
"""From a connection's beginning, or a request's first byte, to the end of the request's headers."""
BODY_SECONDS = 60.0
"""From there to the body's end: as long as SageMaker waits for an answer."""
TIMES_BODY = 8
"""A request takes up to so many times its body in memory while it is read. Measured with CSV of 50 MB: 7."""
BODIES = 1 << 30
"""Bytes that requests take at a time, where there is memory for four times as much."""
ROOM_SECONDS = 50.0
"""How long a request waits for room for its body."""
DISCARD_SECONDS = 10.0
"""How long the body of a request that got no room is read, and not kept, before the answer."""


class Protocol(H11Protocol):
    """HTTP/1.1, with a limit on the time that a request's headers take."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._deadline is None:
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Requests:
    """The requests that are being answered, and the bytes that they take, `most` at a time. One that takes more is
    answered alone."""

    def __init__(self, most: int = BODIES) -> None:
        self.most = most
        self.held = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.stopping = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[None]:
        """Answer a request that takes so many bytes.

        Raises:
            RequestError: the server is stopping, or others hold the room for too long.
        """
        if self.stopping:
            raise RequestError(503, "request: the server is stopping; send the request again.")
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._take(size)
            try:
                yield
            finally:
                async with self._changed:
                    self.held -= size
                    self._changed.notify_all()
        finally:
            self.tasks.discard(task)

    async def _take(self, size: int) -> None:
        try:
            async with asyncio.timeout(ROOM_SECONDS), self._changed:
                await self._changed.wait_for(lambda: not self.held or self.held + size <= self.most)
                self.held += size
        except TimeoutError:
            raise RequestError(
                503,
                "request: other requests take all of the server's memory for them; send the request again.",
            ) from None

    async def finish(self, seconds: float) -> None:
        """Answer no new request, and wait so long for those that are being answered; then break them off."""
        self.stopping = True
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1)
