"""The title of a report names the run, its strategy and its data."""

from pathlib import Path

from subset_trainer.job import naming


def test_data_is_called_as_its_only_file_or_as_the_folder_that_was_linked(tmp_path: Path) -> None:
    flowers = tmp_path / "flowers"
    for split in ("training", "validation"):
        for name in ("daisy", "rose"):
            (flowers / split / name).mkdir(parents=True)
    # As on the platform, where the channel has no other name.
    assert naming.name_of(flowers / "training") is None
    for name, target in (("whole", flowers), ("part", flowers / "training")):
        (tmp_path / name).symlink_to(target, target_is_directory=True)
        assert naming.name_of(tmp_path / name) == "flowers"
    one = tmp_path / "one"
    one.mkdir()
    assert naming.name_of(one) is None
    assert naming.name_of(tmp_path / "gone") is None
    (one / "prices.csv").touch()
    assert naming.name_of(one) == "prices.csv"
    (one / "more.csv").touch()
    assert naming.name_of(one) is None
