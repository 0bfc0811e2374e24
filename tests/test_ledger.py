import csv
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from lib.errors import ArtefactError, DataError
from lib.score import ledger

FACTS = {
    "runs": ["a", "b"],
    "method": "hard",
    "weights": [2.0, 1.0],
    "tta": "hflip",
    "metric": "macro_f1",
    "oof_score": 0.712345,
    "oof_score_without_tta": 0.7,
}
CHOICE = {"decision": "offsets", "recommended": "soft, argmax", "why": "it is simple"}


def record(path, **more):
    ledger.record(path, **{**FACTS, "test_photos_used": False, "choice": CHOICE, **more})


def csv_named(name, folder):
    path = folder / f"{name}.csv"
    path.write_text(f"ImageID,ans\n{name}.jpg,0\n")
    return path


@pytest.fixture
def first(tmp_path):
    return csv_named("first", tmp_path)


def test_labels_of_other_photos_have_facts_and_no_row(first):
    record(first, other_photos="work/more", test_photos_used=True)
    assert not (first.parent / ledger.FILE).exists()
    facts = json.loads(first.with_suffix(".json").read_text())
    assert (facts["other_photos"], facts["test_photos_used"]) == ("work/more", True)


def test_record_writes_the_ledger_and_the_facts(first):
    record(first, test_photos_used=True)
    row = ledger.read(first.parent).iloc[0]
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    assert tuple(row.index) == ledger.COLUMNS
    known = row.drop(["time", "commit", "public", "private"]).to_dict()
    assert known == {
        "name": "first", "runs": "a;b", "method": "hard", "tta": "hflip", "metric": "macro_f1",
        "oof_score": 0.71235, "sha256": digest, "test_photos_used": "yes",
    }  # fmt: skip
    assert pd.Timestamp(row["time"]).utcoffset() == pd.Timedelta(0)
    assert row[["public", "private"]].isna().all()
    assert json.loads(first.with_suffix(".json").read_text()) == {
        **FACTS,
        **CHOICE,
        "sha256": digest,
        "test_photos_used": True,
        "other_photos": "",
    }


def test_what_the_user_typed_into_the_ledger_stays(first):
    record(first)
    path = first.with_name("ledger.csv")
    typed = path.read_text().rstrip("\n") + '0.7100,".70 (late, alas)"'  # and no last newline
    header, row = typed.replace(",,0.7100", ",0.7100").splitlines()
    typed = f"{header},note\n{row},keep me"  # and a column of the user's own
    path.write_text(typed)
    record(csv_named("second", first.parent))
    assert path.read_text().startswith(typed + "\nsecond,")
    assert [len(fields) for fields in csv.reader(path.read_text().splitlines())] == [13] * 3
    said = r"private of 1 rows \(first: '\.70 \(late, alas\)'\) is not a number"
    with pytest.raises(DataError, match=said):
        ledger.read(first.parent)


@pytest.mark.parametrize(
    ("metric", "read"), [("log_loss", [-0.9, -0.8]), ("accuracy", [0.9, -0.8])]
)
def test_a_log_loss_is_negative_however_it_was_typed(first, metric, read):
    record(first, metric=metric, oof_score=-0.85)
    path = first.with_name("ledger.csv")
    path.write_text(path.read_text().rstrip("\n,") + ",0.9,-0.8\n")
    row = ledger.read(first.parent).loc[0]
    assert row[["public", "private"]].tolist() == read
    assert row["oof_score"] == -0.85


def test_rows_that_end_in_a_comma_do_not_shift_the_columns(first):
    record(first)
    path = first.with_name("ledger.csv")
    header, row = path.read_text().splitlines()
    path.write_text(f"{header}\n{row},\n")
    assert ledger.read(first.parent).loc[0, "oof_score"] == 0.71235
    record(csv_named("second", first.parent))
    assert list(ledger.read(first.parent)["name"]) == ["first", "second"]


def test_the_same_submission_is_recorded_once_even_at_the_same_time(first):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: record(first), range(16)))
    assert len(ledger.read(first.parent)) == 1


def test_different_submissions_at_the_same_time_are_all_recorded(tmp_path):
    paths = [csv_named(f"s{k}", tmp_path) for k in range(12)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, paths))
    assert sorted(ledger.read(tmp_path)["name"]) == sorted(path.stem for path in paths)


def test_a_ledger_that_lost_columns_and_a_missing_submission_are_refused(first):
    with pytest.raises(ArtefactError, match="write the submission first"):
        record(first.with_name("second.csv"))
    assert ledger.read(first.parent).empty
    first.with_name("ledger.csv").write_text("name;time\n")
    with pytest.raises(DataError, match=r"has no column name, time.*separate fields by commas"):
        record(first)


def test_an_older_ledger_is_refused_and_says_what_to_change(first):
    old = "name,time,runs,method,tta,oof_macro_f1,sha256,commit,test_photos_used,public,private"
    rows = "\nold,2026-01-01T00:00:00+00:00,a,soft,none,0.70000,ab,cd,no,0.69,0.68\n"
    path = first.with_name("ledger.csv")
    path.write_text(old + rows)
    for use in (record, lambda path: ledger.read(path.parent)):
        with pytest.raises(DataError, match="rename its column 'oof_macro_f1' to 'oof_score'"):
            use(first)
    assert path.read_text() == old + rows
    fixed = old.replace("oof_macro_f1", "metric,oof_score")
    path.write_text(fixed + rows.replace(",none,", ",none,macro_f1,"))
    record(first)
    assert ledger.read(first.parent)[["oof_score", "public"]].to_numpy().tolist()[0] == [0.7, 0.69]
    assert list(ledger.read(first.parent)["metric"]) == ["macro_f1", "macro_f1"]


def test_the_ledger_says_whether_test_photos_were_judged_together(tmp_path):
    for name, learned, together in (("a", False, False), ("b", False, True), ("c", True, True)):
        record(csv_named(name, tmp_path), test_photos_used=learned, together=together)
    assert ledger.read(tmp_path)["test_photos_used"].tolist() == ["no", "together", "yes"]
