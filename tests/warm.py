"""The ``train`` program without its start: a process that has imported torch and the trainer forks for each job.

A cold start takes 2.5 seconds of processor time for imports alone. Here one parent for each pytest process does them
once. A job is a fork of it: a process of its own, with its own directory, environment, stdout and stderr, that calls
``entrypoint.main`` and ends as the installed program does. To a test it is what :class:`subprocess.Popen` starts: a
child of the test's own process, with its pid for signals and its exit code.

What a fork cannot show keeps the cold program: what is read when Python or a library starts (PYTHONPATH, limits,
mounts), the first moments of the process, and what an import costs or prints.
"""

import atexit
import ctypes
import gc
import importlib
import inspect
import io
import json
import logging
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRAIN = Path(sys.executable).with_name("train")
IMPORTED = (
    "captum.attr",
    "cleanlab.filter",
    "numpy.random",
    "pandas",
    "pyarrow.parquet",
    "scipy.cluster.vq",
    "subset_trainer.entrypoint",
    "subset_trainer.job",
    "subset_trainer.training.parallel.launcher",
    "subset_trainer.script_mode",
)
"""What a job imports sooner or later, but for what reads its environment while it is imported."""
SET_CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, of prctl(2)
LARGEST_REQUEST = 1 << 20
FIRST = "WARM_FIRST"
"""Variable of a job's environment: a file of Python that it runs before the program."""


class Train(subprocess.Popen[str]):
    """``Popen`` of the program ``train``, which takes its options, and forks from the warm parent."""

    def __init__(self, **options: Any) -> None:
        super().__init__([str(TRAIN)], **options)

    def _execute_child(self, *arguments: Any) -> None:
        """What of ``Popen`` differs: how the process comes to be."""
        bound = inspect.signature(getattr(subprocess.Popen, "_execute_child")).bind(self, *arguments)  # noqa: B009
        given = bound.arguments
        streams = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        environment = os.environ if given["env"] is None else given["env"]
        request = {
            "directory": os.fspath(given["cwd"] or Path.cwd()),
            "environment": {os.fspath(name): os.fspath(value) for name, value in environment.items()},
        }
        files = [number if stream == -1 else stream for number, stream in enumerate(streams)]
        self.pid = _parent().fork(request, files)
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        getattr(self, "_close_pipe_fds")(*(given[name] for name in ends))  # noqa: B009


class _Parent:
    """The warm process, and the line to it."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # One thread: a pool of threads does not survive a fork.
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._lock = threading.Lock()

    def alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, request: dict[str, Any], files: Sequence[int]) -> int:
        """The pid of a job that was started, which is a child of this process."""
        # An orphan becomes the child of its nearest ancestor that takes orphans: the job's own parent ends at once.
        self._take_orphans(True)
        with self._lock:
            self._take_orphans(True)
            try:
                socket.send_fds(self._line, [json.dumps(request).encode()], files)
                answer = self._line.recv(100)
            finally:
                self._take_orphans(False)
        assert answer, "the warm parent has ended: its stderr says why"
        return int(answer)

    def _take_orphans(self, yes: bool) -> None:
        assert self._libc.prctl(SET_CHILD_SUBREAPER, int(yes), 0, 0, 0) == 0, os.strerror(ctypes.get_errno())

    def close(self) -> None:
        self._line.close()
        self._process.wait()


_parents: dict[int, _Parent] = {}
"""By the process that started it: one that was forked from it gets its own."""


def _parent() -> _Parent:
    found = _parents.get(os.getpid())
    if found is None or not found.alive():
        found = _parents[os.getpid()] = _Parent()
        atexit.register(found.close)
    return found


# In the warm parent


def _wait_for_a_job(line: socket.socket) -> bool:
    """Fork for each request until the line is closed: True in a fork, which is to be a job, False in the parent."""
    while True:
        message, files, _, _ = socket.recv_fds(line, LARGEST_REQUEST, 3)
        if not message:
            return False
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            job = os.fork()
            if job == 0:
                for unused in (reading, writing, line.detach()):
                    os.close(unused)
                _become(json.loads(message), files)
                return True
            os.write(writing, str(job).encode())
            os._exit(0)
        os.waitpid(between, 0)
        line.send(os.read(reading, 100))
        for file in (reading, writing, *files):
            os.close(file)


def _become(request: dict[str, Any], files: Sequence[int]) -> None:
    """What the program finds when it is started: its streams, directory, environment and arguments."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for name, number in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        raw = io.FileIO(number, "w", closefd=False)
        # As PYTHONUNBUFFERED has it. What is known of the old one, whether it can seek, need not hold for this one.
        new = io.TextIOWrapper(raw, old.encoding, old.errors, write_through=True)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [str(TRAIN)]
    # What was drawn or looked up before the fork would be the same in every job.
    sys.modules["numpy"].random.seed()
    tempfile.tempdir = None
    if first := os.environ.get(FIRST):
        runpy.run_path(first)


def _serve(line: socket.socket) -> bool:
    sys.path[0] = str(TRAIN.parent)
    for name in IMPORTED:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    # pyarrow's jemalloc has a thread that it ends before a fork and starts again after it.
    others = threads - {Path("/proc/self/comm").read_text().strip(), "jemalloc_bg_thd"}
    assert not others, f"a fork would not have these threads: {others}"
    assert not logging.root.handlers, "an import has set up the log, which is the job's"
    gc.collect()
    gc.freeze()
    return _wait_for_a_job(line)


if __name__ == "__main__":
    if _serve(socket.socket(fileno=int(sys.argv[1]))):
        from subset_trainer import entrypoint

        entrypoint.main()
