"""The selection library for a script of one's own in the image."""

from pathlib import Path

from tests.image.conftest import Image, script_job
from tests.library import readme_script


def test_a_script_of_one_s_own_trains_with_the_library_s_loader(image: Image, tmp_path: Path) -> None:
    done = image.run("train", options=script_job(tmp_path, readme_script()))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "26 True 1000" in done.stdout


def test_its_table_of_strategies_is_printed_without_torch(image: Image) -> None:
    code = "import sys, runpy; runpy.run_module('subset_selection.catalogue', run_name='__main__'); "
    shown = image.output("python", "-c", code + "print('torch' in sys.modules)")
    assert "| `glister` |" in shown and shown.splitlines()[-1] == "False"
