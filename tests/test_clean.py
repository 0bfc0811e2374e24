"""``--clean``: what would be deleted is said first, and nothing else ever goes."""

import os
import platform
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from conftest import PARAMS

from lib.runner import chain
from lib.workers import one_process


@pytest.fixture
def place(tmp_path):
    """Two runs, their crops, and crops that no run needs."""
    for name, more in {"whole": {"crop": "whole"}, "next": {"init_from": "whole"}}.items():
        write_run(tmp_path, name, **more)
    for name in ("whole_keep_112x112", "face_m0.25_keep_112x112", "face_m0.5_keep_112x112"):
        write_cache(tmp_path / "work/one", name)
    write_cache(tmp_path / "work/two", "center_keep_112x112")
    rows = {"name": ["first", "second"], "runs": ["whole;next", "next"]}
    pd.DataFrame(rows).to_csv(tmp_path / "ledger.csv", index=False)
    return tmp_path


def write_run(place, name, **more):
    folder = place / "runs" / name
    folder.mkdir(parents=True)
    params = {**PARAMS, "work_dir": str(place / "work/one"), "submissions_dir": str(place), **more}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "best.pt").write_bytes(b"\0" * 3_000_000)


def write_cache(work, name):
    (work / "crops" / name).mkdir(parents=True)
    (work / "crops" / name / "pixels.npy").write_bytes(b"\0" * 2_000_000)
    (work / "images.parquet").touch()


def clean(place, *argv):
    return chain.main(["--clean", *map(str, argv), "-p", f"runs_dir={place}/runs"])


def rows(text):
    return [line.split() for line in text.splitlines() if " MB " in line]


def caches(place):
    return sorted(path.name for path in place.glob("work/*/crops/*") if path.is_dir())


KEPT = ["face_m0.25_keep_112x112", "whole_keep_112x112"]
SPARE = ["center_keep_112x112", "face_m0.5_keep_112x112"]


def test_a_run_is_listed_with_its_size_and_its_users_then_deleted(place, capsys):
    assert clean(place, place / "runs/whole") == 0
    out = capsys.readouterr().out
    assert rows(out)[0][:3] == ["3.0", "MB", f"{place}/runs/whole"]
    assert "(used by next, submission first)" in out
    assert "Nothing was deleted" in out
    assert (place / "runs/whole/best.pt").exists()
    assert clean(place, place / "runs/whole", "--yes") == 0
    assert f"deleted {place}/runs/whole\n" in capsys.readouterr().out
    assert [path.parent.name for path in place.glob("runs/*/best.pt")] == ["next"]


@pytest.mark.parametrize(("folder", "spare"), [("work", SPARE), ("work/one", SPARE[1:])])
def test_crops_that_no_run_needs_are_deleted(place, capsys, folder, spare):
    assert clean(place, place / folder) == 0
    listed = [row[2].rpartition("/")[2] for row in rows(capsys.readouterr().out)]
    assert sorted(listed) == spare
    assert caches(place) == sorted(KEPT + SPARE)
    assert clean(place, place / folder, "--yes") == 0
    assert caches(place) == sorted({*KEPT, *SPARE} - set(spare))
    capsys.readouterr()
    assert clean(place, place / folder, "--yes") == 0
    assert capsys.readouterr().out == "nothing to delete\n"


def test_crops_of_added_people_and_of_runs_one_folder_deeper_are_needed(place):
    write_run(place, "tiny/deep", crop="center", extra_data=[str(place / "work/two")])
    assert clean(place, place / "work", "--yes") == 0
    assert caches(place) == [SPARE[0], *KEPT]


def test_a_build_that_was_interrupted_is_kept_as_long_as_its_crops_are_needed(place):
    for name in (*KEPT, *SPARE):
        write_cache(place / "work/one", f".{name}.a.host.7.building")
    assert clean(place, place / "work", "--yes") == 0
    assert caches(place) == sorted([*KEPT, *(f".{name}.a.host.7.building" for name in KEPT)])


def test_a_linked_work_folder_is_the_same_folder(place):
    (place / "link").symlink_to(place / "work")
    assert clean(place, place / "link", "--yes") == 0
    assert caches(place) == KEPT


def test_of_a_link_only_the_link_goes(place, capsys):
    write_run(place, "elsewhere")
    (place / "runs/elsewhere").rename(place / "elsewhere")
    (place / "runs/elsewhere").symlink_to(place / "elsewhere")
    assert clean(place, place / "runs/elsewhere", "--yes") == 0
    assert rows(capsys.readouterr().out)[0][0] == "0.0"
    assert not (place / "runs/elsewhere").exists()
    assert (place / "elsewhere/best.pt").exists()


def test_what_a_dead_process_left_is_listed_and_deleted(place, capsys):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f".x.{platform.node()}.{pid}.tmp" for pid in (dead.pid, os.getpid())]
    for name in names:
        (place / "work/one/crops" / name).write_bytes(b"\0" * 1_000_000)
    assert clean(place, place / "work") == 0
    listed = f"1.0 MB  {place}/work/one/crops/{names[0]}  (left by a dead process)\n"
    out = capsys.readouterr().out
    assert listed in out
    assert "Nothing was deleted" in out
    assert clean(place, place / "work", "--yes") == 0
    assert [(place / "work/one/crops" / name).exists() for name in names] == [False, True]
    assert listed in (out := capsys.readouterr().out)
    assert f"deleted {place}/work/one/crops/{names[0]}\n" in out


def test_a_run_in_training_is_not_deleted(place, capsys):
    with one_process(place / "runs/whole/fold1"):
        assert clean(place, place / "runs/whole", "--yes") == 2
    assert "runs/whole is being trained (fold1): stop that first" in capsys.readouterr().err
    assert (place / "runs/whole/best.pt").exists()


def test_what_was_left_in_a_run_goes_with_it(place, capsys):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (place / f"runs/whole/.x.{platform.node()}.{dead.pid}.tmp").touch()
    assert clean(place, place / "runs/whole", "--yes") == 0
    assert len(rows(capsys.readouterr().out)) == 1
    assert not (place / "runs/whole").exists()


@pytest.mark.parametrize("folder", [".", "runs", "missing", "work/one/crops"])
def test_other_folders_are_refused(place, capsys, folder):
    assert clean(place, place / folder, "--yes") == 2
    assert "neither a run (with params.yaml) nor a work folder" in capsys.readouterr().err
    assert caches(place) == sorted(KEPT + SPARE)


def test_a_run_that_does_not_say_its_crops_stops_the_cleaning(place, capsys):
    (place / "runs/next/params.yaml").write_text("crop: face\n")
    assert clean(place, place / "work", "--yes") == 2
    assert "runs/next/params.yaml does not say which crops" in capsys.readouterr().err
    assert caches(place) == sorted(KEPT + SPARE)


@pytest.mark.parametrize(
    "argv", [["--clean", "x", "a.yaml", "--then", "b"], ["--clean", "x", "-p", "seed=1"], ["--yes"]]
)
def test_cleaning_is_no_part_of_a_run(argv):
    with pytest.raises(SystemExit, match="2"):
        chain.main(argv)
