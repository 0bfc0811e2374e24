"""Artefacts are written whole or not at all, whatever else happens on the machine."""

import errno
import os
import platform
import re
import subprocess
import sys

import pandas as pd
import pytest

from lib import artefacts
from lib.errors import ArtefactError


def write_half(path):
    with artefacts.atomic(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_error_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "table.csv"
    artefacts.write_table(pd.DataFrame({"a": [1]}), path)
    with pytest.raises(ArtefactError, match=r"the disk is full, .*table\.csv was not written"):
        write_half(path)
    assert pd.read_csv(path).a.tolist() == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_the_system_says_so_itself(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    message = "the disk is full"
    with pytest.raises(ArtefactError, match=message), artefacts.atomic(tmp_path / "x"):
        (tmp_path / "full").write_text("x" * 100_000)


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "table.parquet"
    table = pd.DataFrame({"file": ["a", "b"], "score": [0.5, 1.0]}, pd.Index(["p", "q"], name="k"))
    artefacts.write_table(table.astype({"score": "Float64"}), path)
    return path


def test_a_whole_cache_is_returned_and_a_missing_one_is_none_without_a_word(parquet, capsys):
    pd.testing.assert_frame_equal(artefacts.read_cache(parquet), pd.read_parquet(parquet))
    assert artefacts.read_cache(parquet.with_name("gone.parquet")) is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"PAR1", b"key,score\n", "half"])
def test_a_cache_cut_short_empty_or_of_text_is_told_and_made_again(parquet, capsys, content):
    whole = parquet.read_bytes()
    parquet.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    assert artefacts.read_cache(parquet) is None
    assert re.search(r"table\.parquet cannot be read \(.+\): made again", capsys.readouterr().out)
    with pytest.raises(ArtefactError, match="run the stage 'eda'"):
        artefacts.read_table(parquet.parent, parquet.name, "eda", "01_eda")


def test_any_changed_byte_gives_a_table_or_is_told(parquet):
    whole = parquet.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        parquet.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        refused += artefacts.read_cache(parquet) is None
    assert refused > 20


def test_temporary_names_tell_host_and_process(tmp_path):
    with artefacts.atomic(tmp_path / "x.csv") as temporary:
        assert platform.node() in temporary.name
        assert str(os.getpid()) in temporary.name
        temporary.write_text("1")
    assert (tmp_path / "x.csv").read_text() == "1"


def test_leftovers_of_dead_processes_go_and_those_of_others_stay(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    dead, host = done.stdout.strip(), platform.node()
    names = {
        f".x.csv.{host}.{dead}.tmp": False,
        f".x.csv.{host}.{os.getpid()}.tmp": True,
        f".x.csv.elsewhere.{dead}.tmp": True,
    }
    for name in names:
        (tmp_path / name).write_text("half")
    artefacts.remove_leftovers(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_equal_states_are_equal_files(tmp_path):
    import torch

    from lib.learn.loop import save

    for name in ("one.pt", "other.pt"):
        save({"a": torch.arange(5.0)}, tmp_path / name)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()


def test_a_commit_is_marked_when_tracked_code_differs_from_it(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    monkeypatch.setattr(artefacts, "PROJECT", tmp_path)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "demo.yaml").write_text("epochs: 1\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--message", "first")
    (tmp_path / "params" / "mine.yaml").write_text("epochs: 2\n")
    assert len(artefacts.git_commit()) == 10
    (tmp_path / "params" / "demo.yaml").write_text("epochs: 2\n")
    assert artefacts.git_commit().endswith("+")
