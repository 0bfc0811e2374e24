"""On a disk of 2 MB: one clear error, and what was there before is whole."""

import subprocess
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import torch
from test_crops import build, photos  # noqa: F401, a fixture
from test_run import write_notebook

from lib import artefacts
from lib.errors import ArtefactError
from lib.learn import loop
from lib.runner import chain, parameters

FULL = "the disk is full, .* was not written: free some space"


@pytest.fixture
def disk(tmp_path):
    """Return a folder that is a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    made = 1
    with suppress(FileNotFoundError):
        made = subprocess.run(mount, capture_output=True).returncode
    if made:
        pytest.skip("only root can mount a small disk, and only where it is allowed")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_a_table_that_does_not_fit_leaves_the_earlier_one(disk, name):
    small = pd.DataFrame({"a": [1, 2]})
    artefacts.write_table(small, disk / name)
    before = (disk / name).read_bytes()
    large = pd.DataFrame(np.random.default_rng(0).random((100_000, 4)), columns=list("abcd"))
    with pytest.raises(ArtefactError, match=FULL):
        artefacts.write_table(large, disk / name)
    assert (disk / name).read_bytes() == before
    assert files(disk) == [name]


def test_a_checkpoint_that_does_not_fit_leaves_the_earlier_one(disk):
    loop.save({"a": torch.ones(3)}, disk / "best.pt")
    with pytest.raises(ArtefactError, match=rf"{disk}/best\.pt was not written"):
        loop.save({"a": torch.ones(1_000_000)}, disk / "best.pt")
    assert torch.load(disk / "best.pt")["a"].tolist() == [1, 1, 1]
    assert files(disk) == ["best.pt"]


@pytest.mark.parametrize("known", [True, False], ids=["before", "meanwhile"])
def test_crops_that_do_not_fit_leave_the_earlier_ones(disk, photos, monkeypatch, known):  # noqa: F811
    images, faces, data, _ = photos
    small = build((images, faces, data, disk)).pixels.copy()
    if not known:  # another process fills the disk after the check
        monkeypatch.setattr(artefacts, "check_space", lambda *arguments: None)
    with pytest.raises(ArtefactError, match="are needed and|the disk is full"):
        build((images, faces, data, disk), image_size=[640, 640])
    assert [path.name for path in (disk / "crops").iterdir() if path.is_dir()] == [
        "face_m0.25_keep_32x32"
    ]
    np.testing.assert_array_equal(build((images, faces, data, disk)).pixels, small)


def test_a_notebook_that_does_not_fit_is_one_line(disk, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path)
    path = tmp_path / "01_eda.ipynb"
    write_notebook(
        path,
        f"work_dir = '{disk}'  # tables\nlines = 9  # of 100 bytes",
        "print(('x' * 99 + chr(10)) * lines)",
    )
    (tmp_path / "a.yaml").write_text("stages: [eda]\n")
    assert chain.main([str(tmp_path / "a.yaml")]) == 0
    before = (disk / "01_eda.ipynb").read_bytes()
    assert chain.main([str(tmp_path / "a.yaml"), "-p", "lines=30000"]) == 1
    err = capfd.readouterr().err
    assert f"eda failed: the disk is full, {disk}/01_eda.ipynb was not written" in err
    assert "Traceback" not in err
    assert (disk / "01_eda.ipynb").read_bytes() == before
    assert not list(disk.glob(".*"))
