"""The benchmark of data larger than memory: what it makes, what it reads of control groups, and what it refuses."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import big as benchmark
from benchmarks.big import (
    Group,
    cases,
    check,
    described,
    group_of,
    growth,
    make_group,
    make_shards,
    parser,
    part_of,
)
from subset_trainer.data.splits import stratified_split
from subset_trainer.errors import UserError
from subset_trainer.training import plan

STAT = {
    1: "cache 900\nrss 300\nshmem 50\ntotal_cache 950\ntotal_rss 400\ntotal_shmem 70\n",
    2: "anon 300\nfile 900\nshmem 50\n",
}
MOST = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}
EVENTS = {1: "memory.oom_control", 2: "memory.events"}


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(benchmark, "SHARD", 4)
    (tmp_path / "shards").mkdir()
    make_shards(tmp_path / "shards", 10, 16)
    return tmp_path / "shards"


def test_shards_hold_images_of_their_classes_and_no_two_are_alike(shards: Path) -> None:
    names, contents = [], set()
    for path in sorted(shards.iterdir()):
        with tarfile.open(path) as archive:
            for member in archive:
                opened = archive.extractfile(member)
                assert opened is not None
                contents.add(content := opened.read())
                names.append(member.name)
                with Image.open(io.BytesIO(content)) as image:
                    assert (image.format, image.size) == ("JPEG", (16, 16))
    assert names == [f"class{number % 10}/{number:08}.jpg" for number in range(10)]
    assert len(contents) == 10
    assert [path.name for path in sorted(shards.iterdir())] == [
        f"shard-{number:05}.tar" for number in range(3)
    ]


def test_a_part_has_the_first_shards(shards: Path, tmp_path: Path) -> None:
    part = part_of(shards, tmp_path / "part", 8)
    assert sorted(path.name for path in part.iterdir()) == ["shard-00000.tar", "shard-00001.tar"]
    assert not any(path.is_symlink() for path in part.iterdir())


@pytest.mark.parametrize("version", [1, 2])
def test_the_most_that_a_group_had_is_kept(version: int, tmp_path: Path) -> None:
    def say(stat: str, most: int, killed: int) -> None:
        (tmp_path / "memory.stat").write_text(stat)
        (tmp_path / MOST[version]).write_text(f"{most}\n")
        (tmp_path / EVENTS[version]).write_text(f"low 0\noom_kill {killed}\n")

    group = Group(tmp_path)
    group.look()  # nothing is there yet
    say(STAT[version], 2000, 0)
    group.look()
    say(STAT[version].replace("00", "0"), 2500, 3)
    group.look()
    expected = 470 if version == 1 else 350
    assert (group.peak, group.highest, group.killed) == (expected, 2500, 3)


def test_a_group_of_version_1_lies_below_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "memory/own").mkdir(parents=True)
    (tmp_path / "proc").write_text("5:devices:/\n4:memory:/own\n0::/\n")
    group = make_group(7, tmp_path, tmp_path / "proc")
    assert group.path.parent == tmp_path / "memory/own"
    assert (group.path / "memory.limit_in_bytes").read_text() == "7"
    assert not (group.path / "memory.memsw.limit_in_bytes").exists()  # the kernel counts no swap here
    assert not list(make_group(None, tmp_path, tmp_path / "proc").path.iterdir())


def test_a_group_of_version_2_lies_where_memory_is_handed_on(tmp_path: Path) -> None:
    (tmp_path / "slice/own").mkdir(parents=True)
    (tmp_path / "slice/own/cgroup.subtree_control").write_text("")
    (tmp_path / "slice/cgroup.subtree_control").write_text("cpu memory\n")
    (tmp_path / "proc").write_text("0::/slice/own\n")
    group = make_group(7, tmp_path, tmp_path / "proc")
    assert group.path.parent == tmp_path / "slice"
    assert (group.path / "memory.max").read_text() == "7"


def test_who_may_make_no_group_is_told(tmp_path: Path) -> None:
    (tmp_path / "proc").write_text("0::/own\n")
    with pytest.raises(UserError) as error:
        make_group(7, tmp_path, tmp_path / "proc")
    assert str(error.value) == (
        "no control group of this machine limits memory; run this as root, or with --image and Docker"
    )
    (tmp_path / "memory").write_text("a file, where no folder can be made")
    (tmp_path / "proc").write_text("4:memory:/\n")
    with pytest.raises(UserError) as error:
        make_group(7, tmp_path, tmp_path / "proc")
    assert str(error.value) == (
        f"a control group cannot be made in {tmp_path}/memory (Not a directory); run this as root, or with --image and "
        "Docker"
    )


def test_where_a_container_s_memory_is_shown(tmp_path: Path) -> None:
    assert group_of("4:memory:/docker/ab\n0::/x\n", tmp_path) == (tmp_path / "memory/docker/ab", 1)
    assert group_of("0::/system.slice/d.scope\n", tmp_path) == (tmp_path / "system.slice/d.scope", 2)


def test_what_a_run_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "output/data").mkdir(parents=True)
    rows = [
        {
            "subset_size": size,
            "epoch:seconds": 2.0,
            "selection:seconds": size / 100,
            "validation:accuracy": 0.5,
        }
        for size in (100, 300, 200)
    ]
    (tmp_path / "output/data/history.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "output/data/summary.json").write_text('{"seconds": {"loading": 3.0, "report": 0.0}}')
    (tmp_path / "train.log").write_text("INFO training channel: streamed from files, because 1.0 GB …\n")
    row = described(tmp_path)
    assert (row["images_per_second"], row["selection_seconds"], row["loading_seconds"]) == (100, 2, 3)
    assert (row["streamed"], row["memory_mapped"]) == (True, False)


def test_growth_is_of_the_runs_within_the_limit() -> None:
    rows = [
        {"limit_mb": limit, "images": images, "peak_mb": peak}
        for limit, images, peak in ((None, 1000, 900), (500, 1000, 400), (500, 4000, 403), (500, 2000, 405))
    ]
    assert growth(rows) == 1000
    assert growth(rows[:2]) == 0


def test_each_strategy_runs_from_memory_and_at_every_size() -> None:
    options = parser().parse_args(["--images", "3000", "--limit-mb", "10", "--sizes", "4,1"])
    assert [(case.strategy, case.images, case.limit) for case in cases(options)] == [
        (strategy, images, limit)
        for strategy in ("rs2", "glister")
        for images, limit in ((3000, None), (3000, 10_000_000), (12_000, 10_000_000))
    ]


@pytest.mark.parametrize("images", [1_000, 20_000, 83_000])
def test_every_batch_is_full(images: int) -> None:
    train, _ = stratified_split(np.arange(images) % benchmark.CLASSES, 0.02, 0)
    share = benchmark.fraction(images, 0.05, 0.02)
    picks = plan.budget(len(train), share)
    assert picks % benchmark.BATCH == 0 and abs(picks - 0.05 * len(train)) <= benchmark.BATCH / 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "1500"], "--images 1500: expected a multiple of 1,000, the images of a shard"),
        (
            ["--images", "1000", "--side", "32", "--limit-mb", "7"],
            "--images 1000 of 32 pixels take 3 MB, which fit within --limit-mb 7; expected more than half of the "
            "limit, so that they are streamed",
        ),
        (
            ["--images", "2000", "--side", "32", "--limit-mb", "7"],
            "--images 2000 of 32 pixels take 6 MB; expected less than half of the 12 MB that are available, so that "
            "one run holds them in memory",
        ),
    ],
)
def test_what_would_show_nothing_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        check(parser().parse_args(arguments), lambda: 12_000_000)
    assert str(error.value) == message


def test_a_wrong_argument_is_an_error_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--imges", "3"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
