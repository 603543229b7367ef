"""The seam to CUDA: what its lines call exists in this torch and takes these arguments, as far as a CPU can tell.

Nothing here says what a GPU does: `torch.cuda` is replaced by calls that check their arguments against the real one's.
"""

import ast
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu import device, faults
from benchmarks.gpu.device import Cuda, Rehearsal
from subset_trainer.training.devices import Machine

PROPERTIES = {
    "name": "a GPU",
    "major": 9,
    "minor": 0,
    "total_memory": 8 * 2**30,
    "multi_processor_count": 132,
}


class Event:
    """Of a second's length."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: "Event") -> float:
        return 1000.0


class Stream:
    def wait_stream(self, other: "Stream") -> None: ...


class Graph:
    replayed = 0

    def replay(self) -> None:
        Graph.replayed += 1


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, tuple[Any, ...]]]]:
    """The calls of `torch.cuda`'s functions, which do nothing."""
    made: list[tuple[str, tuple[Any, ...]]] = []

    def replace(name: str, answer: Any) -> None:
        signature = inspect.signature(getattr(torch.cuda, name))

        def call(*arguments: Any, **named: Any) -> Any:
            signature.bind(*arguments, **named)
            made.append((name, arguments))
            return answer

        monkeypatch.setattr(torch.cuda, name, call)

    for name, answer in {
        "is_available": True,
        "device_count": 1,
        "get_device_name": "a GPU",
        "get_device_capability": (9, 0),
        "get_arch_list": ["sm_90"],
        "get_device_properties": SimpleNamespace(**PROPERTIES),
        "synchronize": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 3 * 2**20,
        "set_sync_debug_mode": None,
        "set_per_process_memory_fraction": None,
        "current_stream": Stream(),
    }.items():
        replace(name, answer)

    @contextmanager
    def within(thing: Any) -> Iterator[None]:
        made.append(("within", (type(thing).__name__,)))
        yield

    for real, stand_in in (
        (torch.cuda.Event, Event),
        (torch.cuda.Stream, Stream),
        (torch.cuda.CUDAGraph, Graph),
    ):
        methods = [
            name for name in vars(stand_in) if not name.startswith("_") and callable(getattr(stand_in, name))
        ]
        assert all(hasattr(real, name) for name in methods)
        monkeypatch.setattr(torch.cuda, real.__name__, stand_in)
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, within)
    flags: list[tuple[Any, str]] = [(torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "allow_tf32")]
    flags += [(torch.backends.cuda.matmul, "allow_tf32")]
    before = [getattr(module, name) for module, name in flags]
    yield made
    for (module, name), value in zip(flags, before, strict=True):
        setattr(module, name, value)


def test_every_line_of_the_seam_makes_calls_that_torch_has(
    calls: list[tuple[str, tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_driver", lambda: "580.0")
    here = Cuda()
    assert here.machine == Machine(torch.device("cuda", 0), torch.bfloat16)
    assert here.identity().keys() == Rehearsal().identity().keys()
    assert here.identity()["memory_gib"] == 8.0

    done: list[int] = []
    assert here.seconds(lambda: done.append(1), times=4) == 0.25
    assert len(done) == 4
    assert here.peak_mib(lambda: done.append(1)) == 3.0

    before = Graph.replayed
    replay = here.captured(lambda: done.append(2))
    assert done.count(2) == device.WARM_UP + 1  # and once while it is captured
    replay()
    assert (Graph.replayed, done.count(2)) == (before + 1, device.WARM_UP + 1)
    assert [given[0] for name, given in calls if name == "within"] == ["Stream", "Graph"]

    with here.warning():
        pass
    assert [given[0] for name, given in calls if name == "set_sync_debug_mode"] == ["warn", "default"]
    device.limit_memory(2.0)
    assert ("set_per_process_memory_fraction", (0.25, 0)) in calls


def test_properties_are_those_that_torch_gives() -> None:
    real = getattr(torch._C, "_CudaDeviceProperties", None)
    if real is None:
        pytest.skip("this torch was built without CUDA")
    assert all(hasattr(real, name) for name in PROPERTIES)


@pytest.mark.parametrize(
    "file", sorted(Path(device.__file__).parent.glob("*.py")), ids=lambda path: path.name
)
def test_every_name_below_torch_exists(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id == "torch":
            found: Any = torch
            for name in reversed(names):
                if not isinstance(found, type(torch)):
                    break  # of a class or an object, which other tests call
                assert hasattr(found, name), f"{file.name}: torch.{'.'.join(reversed(names))}"
                found = getattr(found, name)


def test_a_synchronisation_is_found_where_the_trainer_makes_it() -> None:
    from subset_trainer.training.divergence import finite

    places: list[str] = []
    with device.synchronisations(Rehearsal(), places.append):
        torch.ones(3).sum()
        assert not places
        finite(torch.nn.Linear(2, 2))
    (place,) = places
    assert place.startswith("container_src/subset_trainer/training/divergence.py:") and place.endswith(
        " finite"
    )


def test_a_gpu_without_code_is_one_of_an_architecture_that_no_gpu_runs() -> None:
    from subset_trainer.errors import UserError
    from subset_trainer.training.devices import check_capability

    for capability in ((7, 5), (8, 0), (9, 0), (10, 0), (12, 0)):
        with pytest.raises(UserError, match="has no code"):
            check_capability("a GPU", capability, faults.OTHER_ARCHITECTURES)
