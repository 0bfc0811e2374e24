import csv
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from lib.errors import ArtefactError, DataError, ParameterError
from lib.score import submission

IDS = [f"{k:x}.jpg" for k in np.random.default_rng(0).permutation(40)]
GOOD = pd.DataFrame({"ImageID": IDS, "ans": np.arange(40) % 18})
FACTS = {
    "runs": ["a", "b"],
    "method": "hard",
    "weights": [2.0, 1.0],
    "tta": "hflip",
    "oof_macro_f1": 0.712345,
    "oof_macro_f1_without_tta": 0.7,
}


@pytest.fixture
def sample(tmp_path):
    pd.DataFrame({"ImageID": IDS, "ans": 0}).to_csv(tmp_path / "info.csv", index=False)
    return tmp_path / "info.csv"


@pytest.fixture
def room(tmp_path, sample):
    """A submissions folder with one submission in it, "first"."""
    submission.write("first", GOOD.set_index("ImageID")["ans"], sample, tmp_path / "submissions")
    return tmp_path / "submissions"


def answers(*changed):
    """Return the good answers as text, changed in the given (row, value) places."""
    column = GOOD["ans"].astype(object)
    for row, value in changed:
        column[row] = value
    return GOOD.assign(ans=column)


BAD = {
    "columns are": GOOD.rename(columns={"ans": "answer"}),
    r"columns are \['ans', 'ImageID'\]": GOOD[["ans", "ImageID"]],
    "columns are .*index": GOOD.rename_axis("index").reset_index(),
    rf"missing: 1 rows \({IDS[39]}\)": GOOD.iloc[:39],
    rf"not in the sample: 1 rows \({IDS[3]} \)": GOOD.assign(ImageID=GOOD["ImageID"].replace(IDS[3], IDS[3] + " ")),
    rf"repeated: 1 rows \({IDS[5]}\)": pd.concat([GOOD, GOOD.iloc[[5]]]),
    f"row 1 is '{IDS[39]}' where the sample has '{IDS[0]}'": GOOD.iloc[::-1],
    rf"gaps: 2 rows \({IDS[1]}: '', {IDS[2]}: ''\)": answers((1, ""), (2, None)),
    "not integers.*'3.5'": answers((4, 3.5)),
    "not integers.*3 instead of 3.0": GOOD.assign(ans=GOOD["ans"].astype(float)),
    "not integers.*'cat'": answers((4, "cat")),
    rf"outside the classes: 2 rows \({IDS[0]}: '18', {IDS[9]}: '-1'\).*0 to 17": answers((0, 18), (9, -1)),
    "ans is 0 in all 40 rows": GOOD.assign(ans=0),
}


@pytest.mark.parametrize("kind", ["frame", "file"])
@pytest.mark.parametrize("message", BAD)
def test_bad_submissions_are_refused_with_their_first_rows(message, kind, sample, tmp_path):
    bad = BAD[message]
    if kind == "file":
        bad.to_csv(tmp_path / "bad.csv", index=False)
        bad = tmp_path / "bad.csv"
    with pytest.raises(DataError, match=message):
        submission.check(bad, sample)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"ImageID,ans\na,1,2\n", r"row 1: \['a', '1', '2'\].*not 2 fields"),
        (b"\xff\xfe\x00PK", "not CSV text in UTF-8"),
        (b"ImageID;ans\na;1\n", "columns are"),
    ],
)
def test_files_that_are_no_table_are_refused(content, message, sample, tmp_path):
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        submission.check(tmp_path / "bad.csv", sample)


def test_answers_of_the_sample_are_never_read(sample):
    sample.write_text("ImageID,ans\n" + "".join(f"{key},not even a number\n" for key in IDS))
    submission.check(GOOD, sample)
    assert list(submission.sample_ids(sample)) == IDS
    sample.write_text("ImageID\n" + "\n".join(IDS))  # and need not be there
    submission.check(GOOD, sample)


def test_a_wrong_sample_is_refused(sample):
    with pytest.raises(DataError, match=r"there is no .*none\.csv"):
        submission.check(GOOD, sample.with_name("none.csv"))
    sample.write_text("id,path\n1,a\n")
    with pytest.raises(DataError, match=r"not the competition's info\.csv"):
        submission.check(GOOD, sample)


def test_command_line(sample, room, capsys):
    assert submission.main(["check", str(room / "first.csv"), "--sample", str(sample)]) == 0
    assert capsys.readouterr().out == f"{room / 'first.csv'}: valid, 40 rows, 18 of 18 classes\n"
    GOOD.assign(ans=3).to_csv(room / "bad.csv", index=False)
    assert submission.main(["check", str(room / "bad.csv"), "--sample", str(sample)]) == 2
    assert "ans is 3 in all 40 rows" in capsys.readouterr().err


def test_written_in_the_order_of_the_sample(sample, tmp_path):
    predictions = GOOD.set_index("ImageID")["ans"].sample(frac=1, random_state=0)
    path = submission.write("mine", predictions, sample, tmp_path)
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [["ImageID", "ans"], *([key, str(k % 18)] for k, key in enumerate(IDS))]
    assert not list(tmp_path.glob(".*.tmp"))


def test_bad_predictions_leave_no_file(sample, tmp_path):
    predictions = GOOD.set_index("ImageID")["ans"]
    for bad in (
        predictions.iloc[1:],
        pd.concat([predictions, predictions.iloc[:1]]),
        predictions.rename({IDS[0]: "x"}),
        predictions + 1,
    ):
        with pytest.raises(DataError):
            submission.write("mine", bad, sample, tmp_path)
    assert not (tmp_path / "mine.csv").exists()


def test_a_submission_is_never_overwritten(sample, room):
    predictions, before = GOOD.set_index("ImageID")["ans"], (room / "first.csv").stat().st_mtime_ns
    submission.write("first", predictions, sample, room)
    with pytest.raises(ParameterError, match="choose another `submission` name"):
        submission.write("first", (predictions + 1) % 18, sample, room)
    assert (room / "first.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "ledger", "two words"])
def test_names_that_are_no_file_names_are_refused(name, sample, tmp_path):
    with pytest.raises(ParameterError, match="submission="):
        submission.write(name, GOOD.set_index("ImageID")["ans"], sample, tmp_path)


def test_record_writes_the_ledger_and_the_facts(room):
    submission.record("first", room, **FACTS, test_photos_used=True)
    row = submission.read_ledger(room).iloc[0]
    digest = hashlib.sha256((room / "first.csv").read_bytes()).hexdigest()
    assert list(row.index) == submission.LEDGER_COLUMNS
    assert dict(row[["name", "runs", "method", "tta", "oof_macro_f1", "sha256", "test_photos_used"]]) == {
        "name": "first", "runs": "a;b", "method": "hard", "tta": "hflip", "oof_macro_f1": 0.71235, "sha256": digest,
        "test_photos_used": "yes",
    }  # fmt: skip
    assert pd.Timestamp(row["time"]).utcoffset() == pd.Timedelta(0)
    assert row[["public", "private"]].isna().all()
    assert json.loads((room / "first.json").read_text()) == {**FACTS, "sha256": digest}


def test_what_the_user_typed_into_the_ledger_stays(room, sample):
    submission.record("first", room, **FACTS)
    ledger = room / "ledger.csv"
    typed = ledger.read_text().rstrip("\n") + '0.7100,".70 (late, alas)"'  # no newline at the end, as editors do
    typed = typed.replace(",,0.7100", ",0.7100")
    header, row = typed.splitlines()
    typed = f"{header},note\n{row},keep me"  # and a column of the user's own
    ledger.write_text(typed)
    submission.write("second", (GOOD.set_index("ImageID")["ans"] + 1) % 18, sample, room)
    submission.record("second", room, **FACTS)
    assert ledger.read_text().startswith(typed + "\nsecond,")
    assert [len(fields) for fields in csv.reader(ledger.read_text().splitlines())] == [12] * 3
    with pytest.raises(DataError, match=r"private of 1 rows \(first: '\.70 \(late, alas\)'\) is no number"):
        submission.read_ledger(room)


def test_the_same_submission_is_recorded_once_even_at_the_same_time(room):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: submission.record("first", room, **FACTS), range(16)))
    assert len(submission.read_ledger(room)) == 1


def test_different_submissions_at_the_same_time_are_all_recorded(room, sample):
    names = [f"s{k}" for k in range(12)]
    for k, name in enumerate(names):
        submission.write(name, (GOOD.set_index("ImageID")["ans"] + k) % 18, sample, room)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: submission.record(name, room, **FACTS), names))
    assert sorted(submission.read_ledger(room)["name"]) == sorted(names)


def test_a_ledger_that_lost_columns_and_a_missing_submission_are_refused(room):
    with pytest.raises(ArtefactError, match="write the submission first"):
        submission.record("second", room, **FACTS)
    assert submission.read_ledger(room).empty
    (room / "ledger.csv").write_text("name;time\n")
    with pytest.raises(DataError, match="lacks the columns"):
        submission.record("first", room, **FACTS)
