import csv

import numpy as np
import pandas as pd
import pytest
from conftest import TASK

from lib.errors import DataError, ParameterError
from lib.score import submission
from lib.task.attributes import parse

IDS = [f"{k:x}.jpg" for k in np.random.default_rng(0).permutation(40)]
GOOD = pd.DataFrame({"ImageID": IDS, "ans": np.arange(40) % 18})


def table_of(labels, task=TASK):
    """The prediction table, shuffled, that is sure of these labels."""
    sure = np.eye(len(task.classes()))[np.asarray(labels)]
    return pd.DataFrame(sure, pd.Index(IDS, name="key"), task.columns()).sample(
        frac=1, random_state=0
    )


def task_of(answer_format, attributes=None):
    attributes = attributes or {
        "glasses": {"classes": ["yes", "no"]},
        "hair": {"classes": ["black", "fair", "grey"]},
    }
    answer = {"format": answer_format, "columns": ["photo", "answer"]}
    return parse({"attributes": attributes, "answer": answer}, "people", "people.yaml")


@pytest.fixture
def sample(tmp_path):
    pd.DataFrame({"ImageID": IDS, "ans": 0}).to_csv(tmp_path / "info.csv", index=False)
    return tmp_path / "info.csv"


def answers(*changed):
    """Return the good answers, changed in the given (row, value) places."""
    column = GOOD["ans"].astype(object)
    for row, value in changed:
        column[row] = value
    return GOOD.assign(ans=column)


BAD = {
    "columns are": GOOD.rename(columns={"ans": "answer"}),
    r"columns are \['ans', 'ImageID'\]": GOOD[["ans", "ImageID"]],
    "columns are .*index": GOOD.rename_axis("index").reset_index(),
    rf"missing: 1 rows \({IDS[39]}\)": GOOD.iloc[:39],
    rf"unknown: 1 rows \({IDS[3]} \)": GOOD.assign(
        ImageID=GOOD["ImageID"].replace(IDS[3], IDS[3] + " ")
    ),
    rf"repeated: 1 rows \({IDS[5]}\)": pd.concat([GOOD, GOOD.iloc[[5]]]),
    f"row 1 is '{IDS[39]}' where the sample has '{IDS[0]}'": GOOD.iloc[::-1],
    rf"gaps: 2 rows \({IDS[1]}: '', {IDS[2]}: ''\)": answers((1, ""), (2, None)),
    "outside the classes.*'3.5'": answers((4, 3.5)),
    "outside the classes.*3, not 3.0": GOOD.assign(ans=GOOD["ans"].astype(float)),
    "outside the classes.*'cat'": answers((4, "cat")),
    rf"outside the classes: 2 rows \({IDS[0]}: '18', {IDS[9]}: '-1'\).*0 to 17": answers(
        (0, 18), (9, -1)
    ),
    "all 40 rows answer 0": GOOD.assign(ans=0),
}


@pytest.mark.parametrize("kind", ["frame", "file"])
@pytest.mark.parametrize("message", BAD)
def test_bad_submissions_are_refused_with_their_first_rows(message, kind, tmp_path):
    bad = BAD[message]
    if kind == "file":
        bad.to_csv(tmp_path / "bad.csv", index=False)
        bad = tmp_path / "bad.csv"
    with pytest.raises(DataError, match=message):
        submission.check(bad, IDS, TASK)


def test_labels_that_are_not_uploaded_may_all_be_the_same():
    submission.check(GOOD.assign(ans=0), IDS, TASK, uploaded=False)
    with pytest.raises(DataError, match="outside the classes"):
        submission.check(GOOD.assign(ans=18), IDS, TASK, uploaded=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; it needs a header with ImageID"),
        (b"ImageID,ans\na,1,2\n", r"1 rows \(2\) have not 2 fields"),
        (b"ImageID,ans\na,1,\nb,2,\n", r"2 rows \(a,1,, b,2,\) end in a comma too many"),
        (b"\xff\xfe\x00PK", "not text in UTF-8, it seems to be UTF-16"),
        (b"ImageID;ans\na;1\n", "has no column ImageID.*separate fields by commas"),
    ],
)
def test_files_that_are_no_table_are_refused(content, message, tmp_path):
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        submission.check(tmp_path / "bad.csv", IDS, TASK)


def test_answers_of_the_sample_are_never_read(sample):
    sample.write_text("ImageID,ans\n" + "".join(f"{key},not even a number\n" for key in IDS))
    assert submission.sample_ids(sample, TASK) == IDS
    sample.write_text("ImageID\n" + "\n".join(IDS))  # and need not be there
    assert submission.sample_ids(sample, TASK) == IDS
    sample.write_text("ImageID,ans\n" + "".join(f"{key},0,\n" for key in IDS))
    assert submission.sample_ids(sample, TASK) == IDS  # a comma too many shifts nothing


def test_a_wrong_sample_is_refused(sample):
    with pytest.raises(DataError, match=r"there is no file .*none\.csv"):
        submission.sample_ids(sample.with_name("none.csv"), TASK)
    sample.write_text("id,path\n1,a\n")
    with pytest.raises(DataError, match="no column ImageID; it has id, path"):
        submission.sample_ids(sample, TASK)
    sample.write_text("ImageID\na\na\n")
    with pytest.raises(DataError, match="repeats 1 photos"):
        submission.sample_ids(sample, TASK)


def test_command_line(sample, tmp_path, capsys):
    path = submission.write("first", table_of(GOOD["ans"]), IDS, TASK, tmp_path)
    assert submission.main(["check", str(path), "--sample", str(sample)]) == 0
    assert capsys.readouterr().out == f"{path}: valid, 40 rows\n"
    GOOD.assign(ans=3).to_csv(tmp_path / "bad.csv", index=False)
    wrong = ["check", str(tmp_path / "bad.csv"), "--sample", str(sample)]
    assert submission.main([*wrong, "--task", "mask"]) == 2
    assert "all 40 rows answer 3" in capsys.readouterr().err
    assert submission.main([*wrong, "--task", "digits"]) == 2
    assert "no column path; it has ImageID, ans (checked for task 'digits': --task names" in (
        capsys.readouterr().err
    )
    assert submission.main([*wrong, "--task", "maks"]) == 2
    assert "did you mean 'mask'?" in capsys.readouterr().err


def test_written_in_the_order_of_the_test_photos(tmp_path):
    path = submission.write("mine", table_of(GOOD["ans"]), IDS, TASK, tmp_path)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["ImageID", "ans"]
    assert rows == [[key, str(k % 18)] for k, key in enumerate(IDS)]
    assert not list(tmp_path.glob(".*.tmp"))
    pd.testing.assert_frame_equal(
        pd.read_parquet(path.with_suffix(".parquet")), table_of(GOOD["ans"])
    )


@pytest.mark.parametrize(
    ("answer_format", "header", "second"),
    [
        ("index", ["photo", "answer"], ["4"]),
        ("name", ["photo", "answer"], ["no fair"]),
        ("attributes", ["photo", "glasses", "hair"], ["no", "fair"]),
        (
            "probabilities",
            ["photo", "yes black", "yes fair", "yes grey", "no black", "no fair", "no grey"],
            ["0", "0", "0", "0", "1", "0"],
        ),
    ],
)
def test_every_answer_format_is_written_and_accepted(answer_format, header, second, tmp_path):
    task = task_of(answer_format)
    labels = np.arange(40) % 6
    labels[1] = 4
    path = submission.write("mine", table_of(labels, task), IDS, task, tmp_path)
    submission.check(path, IDS, task)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == header
    assert rows[2][0] == IDS[1]
    assert [text.removesuffix(".0") for text in rows[2][1:]] == second


def test_wrong_names_and_probabilities_are_refused(tmp_path):
    task = task_of("attributes")
    frame = submission.answers(table_of(np.arange(40) % 6, task).loc[IDS], task)
    with pytest.raises(DataError, match=r"outside the classes.*'bald'.*3 names \(black, fair"):
        submission.check(frame.assign(hair=frame["hair"].replace("grey", "bald")), IDS, task)
    task = task_of("probabilities")
    frame = submission.answers(table_of(np.arange(40) % 6, task).loc[IDS], task)
    with pytest.raises(DataError, match="no probabilities.*'2'"):
        submission.check(frame.assign(**{"no fair": "2"}), IDS, task)
    with pytest.raises(DataError, match="of label that do not sum to 1"):
        submission.check(frame.assign(**{"no fair": "0.5"}), IDS, task)


def test_a_task_without_a_label_table_answers_by_attribute(tmp_path):
    classes = {name: {"classes": [f"{name}{k}" for k in range(9)]} for name in "abc"}
    task, rng = task_of("probabilities", classes), np.random.default_rng(0)
    parts = [pd.DataFrame(rng.dirichlet(np.ones(9), 40), IDS, task.columns(name)) for name in "abc"]
    table = pd.concat(parts, axis=1).rename_axis("key")
    path = submission.write("mine", table, IDS, task, tmp_path)
    written = pd.read_csv(path, index_col="photo")
    np.testing.assert_allclose(written, table, rtol=1e-6)
    names = submission.answers(table, task_of("attributes", classes))
    assert names.loc[3, "b"] == f"b{table[task.columns('b')].iloc[3].argmax()}"


def test_bad_predictions_leave_no_file(tmp_path):
    good = table_of(GOOD["ans"])
    for bad in (good.iloc[1:], pd.concat([good, good.iloc[:1]]), good.rename({IDS[0]: "x"})):
        with pytest.raises(DataError):
            submission.write("mine", bad, IDS, TASK, tmp_path)
    with pytest.raises(DataError, match="no test photos, so there is nothing to submit"):
        submission.write("mine", good[:0], [], TASK, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_submission_is_never_overwritten(tmp_path):
    good = table_of(GOOD["ans"])
    path = submission.write("first", good, IDS, TASK, tmp_path)
    before = path.stat().st_mtime_ns
    submission.write("first", good, IDS, TASK, tmp_path)
    with pytest.raises(ParameterError, match="choose another `submission` name"):
        submission.write("first", table_of((GOOD["ans"] + 1) % 18), IDS, TASK, tmp_path)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "ledger", "two words"])
def test_names_that_are_no_file_names_are_refused(name, tmp_path):
    with pytest.raises(ParameterError, match="submission="):
        submission.write(name, table_of(GOOD["ans"]), IDS, TASK, tmp_path)


def test_answers_are_the_decided_ones_and_the_kept_table_has_the_probabilities(tmp_path):
    table, decided = table_of(GOOD["ans"]), table_of((GOOD["ans"] + 1) % 18)
    path = submission.write("mine", table, IDS, TASK, tmp_path, decided)
    written = pd.read_csv(path)["ans"].tolist()
    assert written == ((GOOD["ans"] + 1) % 18).tolist()
    pd.testing.assert_frame_equal(pd.read_parquet(path.with_suffix(".parquet")), table)
