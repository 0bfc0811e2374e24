"""Demo data: the competition's layout to the letter, deterministic, with known truth."""

import json
import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lib import artefacts
from lib.demo import demo, portrait
from lib.errors import ArtefactError, DataError, ParameterError
from lib.task import labels

SMALL = {"people": 12, "eval_people": 6, "seed": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return demo.make(tmp_path_factory.mktemp("data") / "demo", **SMALL, workers=1)


def read(data: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(data / name, dtype={"id": str})


def named_census(seed: int, people: int = 100) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return demo.plant_errors(demo.name_people(demo.draw_census(rng, people, natural=False), seed), rng)


def photos(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith("._"))


def hashes(data: Path) -> dict[str, str]:
    return {str(file.relative_to(data)): artefacts.file_hash(file) for file in data.rglob("*") if file.is_file()}


def test_same_seed_gives_the_same_bytes(tmp_path, monkeypatch):
    def flat(person, shot):  # shows what was drawn; painting is tested below
        return np.full((512, 384, 3), (person.texture_seed + shot.noise_seed) % 256, np.uint8)

    monkeypatch.setattr(portrait, "paint_photo", flat)
    first, second = (hashes(demo.make(tmp_path / name, **SMALL, workers=1)) for name in ("first", "second"))
    assert first == second


def test_photos_do_not_depend_on_the_workers(tmp_path):
    people = demo.rows_of(named_census(seed=3, people=6))[:2]
    for workers in (1, 2):
        paint = partial(demo.write_train_person, root=tmp_path / str(workers), seed=3, shortcut=False)
        demo.spread(paint, people, workers, "people")
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def test_train_has_seven_photos_a_folder_with_mixed_suffixes_and_junk(data):
    table, images = read(data, "train/train.csv"), data / "train" / "images"
    assert list(table.columns) == ["id", "gender", "race", "age", "path"]
    assert {folder.name for folder in photos(images)} == set(table.path)
    assert all({file.stem for file in photos(images / path)} == set(demo.STEMS) for path in table.path)
    assert all(len(photos(images / path)) == 7 for path in table.path)
    assert {file.suffix for path in table.path for file in photos(images / path)} == {".jpg", ".jpeg", ".png"}
    assert any(file.name.startswith("._") for file in images.rglob("*"))


def test_paths_repeat_the_table_and_ids_are_text_that_the_real_data_do_not_use(data):
    table = read(data, "train/train.csv")
    assert (table.path == table.id + "_" + table.gender + "_Asian_" + table.age.astype(str)).all()
    assert table.id.str.fullmatch(r"09\d{5}(-[12])?").all()  # the real ones have six digits
    assert table.id.str.endswith(("-1", "-2")).any()
    assert sorted(table.age[table.id.duplicated(keep=False)]) == [19, 20]


def test_sets_of_two_seeds_share_no_id_and_no_folder():
    first, second = (named_census(seed) for seed in (0, 1))
    assert first.id.min() == "0900001"
    assert second.id.str.fullmatch(r"09\d{5}(-[12])?").all()
    assert not set(first.id) & set(second.id)
    assert not set(first.path) & set(second.path)


def test_photos_are_384_by_512_in_colour(data):
    for file in [*photos(data / "eval" / "images")[:2], *photos(data / "train" / "images")[0].glob("normal*")]:
        assert cv2.imread(str(file), cv2.IMREAD_UNCHANGED).shape == (512, 384, 3)


def test_eval_tells_nothing(data):
    info = read(data, "eval/info.csv")
    assert list(info.columns) == ["ImageID", "ans"]
    assert (info.ans == 0).all()
    assert info.ImageID.str.fullmatch(r"[0-9a-f]{40}\.jpg").all()
    assert {file.name for file in photos(data / "eval" / "images")} == set(info.ImageID)
    assert not info.ImageID.is_monotonic_increasing


def test_answers_hold_every_class_and_halves_share_no_person(data):
    answers, behind = read(data, "private/answers.csv"), read(data, "private/eval_people.csv")
    assert answers.ImageID.equals(read(data, "eval/info.csv").ImageID)
    assert set(answers.ans) == set(range(18))
    assert set(behind.half) == {"public", "private"}
    assert (behind.groupby("person").half.nunique() == 1).all()
    masks = (
        answers.assign(mask=labels.decode(answers.ans)[0], person=behind.person).groupby(["person", "mask"]).size().unstack()
    )
    assert (masks == [5, 1, 1]).all(axis=None)


def test_every_gender_and_age_group_is_recorded(data):
    table = read(data, "train/train.csv")
    assert len(table.assign(group=labels.age_group(table.age)).groupby(["gender", "group"])) == 6


@pytest.mark.parametrize("people", [6, 7, 30, 100])
def test_few_people_still_inhabit_every_cell(people):
    census = demo.draw_census(np.random.default_rng(0), people, natural=True)
    assert (len(census), census.cell.nunique()) == (people, 6)


def test_default_shares():
    census = demo.draw_census(np.random.default_rng(0), 100, natural=False)
    assert census.cell.value_counts().sort_index().tolist() == [20, 20, 10] * 2
    assert census.age.between(18, 60).all()
    assert (census.age == 60).sum() == 20


def test_natural_shares_are_those_of_the_real_data():
    census = demo.draw_census(np.random.default_rng(0), 2700, natural=True)
    assert census.cell.value_counts().sort_index().tolist() == [549, 410, 83, 732, 817, 109]
    assert (census.age == 60).sum() == 192
    expected = {57: 106, 58: 159, 59: 85}
    assert all(abs((census.age == year).sum() - count) < 40 for year, count in expected.items())


def test_planted_errors_contradict_what_was_painted():
    census = named_census(seed=1, people=60)
    planted = demo.planted_table(census).merge(census, left_on="person", right_on="path")
    assert sorted(planted.field) == ["age", "gender", "gender", "mask", "mask", "mask", "mask"]
    gender, age = planted[planted.field == "gender"], planted[planted.field == "age"]
    assert (gender.true == [labels.GENDERS[g] for g in gender.gender]).all()
    assert (gender.recorded != gender.true).all()
    assert age.true.astype(int).equals(age.age)
    assert (labels.age_group(age.true.astype(int)) != labels.age_group(age.recorded.astype(int))).all()
    honest = census[census.plant == ""]
    assert (honest.gender == honest.recorded_gender).all()
    assert (honest.age == honest.recorded_age).all()


def test_planted_errors_are_in_the_tables(data):
    planted, table = read(data, "private/planted.csv"), read(data, "train/train.csv").set_index("path")
    assert set(planted.person) <= set(table.index)
    for row in planted[planted.field != "mask"].itertuples():
        assert str(table.loc[row.person, row.field]) == str(row.recorded)


def wall_tells(shortcut: bool, seed: int) -> float:
    """Share of people whose gender and age group a majority vote by wall and clothes gets right."""
    rows = []
    for cell in range(6):
        for k in range(12):
            age = (22, 45, 60)[cell % 3]
            scenery = cell if shortcut else None
            person = portrait.draw_person(np.random.default_rng((seed, cell, k)), cell // 3, age, scenery)
            rows.append((str(person.wall), cell))
    votes = pd.DataFrame(rows, columns=["wall", "cell"]).value_counts().groupby("wall").max()
    return votes.sum() / len(rows)


def test_scenery_tells_the_label_only_when_the_shortcut_is_planted():
    assert wall_tells(shortcut=True, seed=0) == 1
    assert wall_tells(shortcut=False, seed=0) < 0.45


def test_age_shows_in_wrinkles_and_grey_hair():
    people = [portrait.draw_person(np.random.default_rng(k), k % 2, 18 + k % 43) for k in range(300)]
    traits = pd.DataFrame(
        {"age": [p.age for p in people], "wrinkles": [p.wrinkles for p in people], "grey": [p.grey for p in people]}
    )
    assert traits.corr(method="spearman").age[["wrinkles", "grey"]].min() > 0.85


def test_a_photo_depends_on_person_and_shot_alone():
    person = portrait.draw_person(np.random.default_rng(0), 1, 40)
    shot = portrait.draw_shot(np.random.default_rng(1), "nose", "pattern")
    photo = portrait.paint_photo(person, shot)
    assert photo.dtype == np.uint8
    assert (photo == portrait.paint_photo(person, shot)).all()


def test_a_finished_set_is_kept_and_another_is_refused(data):
    before = (data / "train" / "train.csv").stat().st_mtime_ns
    assert demo.make(data, **SMALL) == data
    assert (data / "train" / "train.csv").stat().st_mtime_ns == before
    with pytest.raises(ArtefactError, match="remove it or choose another"):
        demo.make(data, **SMALL | {"seed": 4})


def test_a_failed_build_leaves_nothing(tmp_path):
    def stop_half_way():
        with demo.whole_folder(tmp_path / "demo") as root:
            (root / "half").write_text("")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []


def test_too_few_people_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="at least 6"):
        demo.make(tmp_path / "demo", people=5)


def test_leaderboard_scores_all_and_both_halves(data, tmp_path):
    answers = read(data, "private/answers.csv")
    answers.sample(frac=1, random_state=0).to_csv(tmp_path / "right.csv", index=False)
    answers.assign(ans=answers.ans % 6).to_csv(tmp_path / "unmasked.csv", index=False)
    assert (demo.leaderboard(tmp_path / "right.csv", data) == 1).all(axis=None)
    board = demo.leaderboard(tmp_path / "unmasked.csv", data)
    assert board.index.tolist() == ["all", "public", "private"]
    assert board.accuracy["all"] == pytest.approx(5 / 7)  # the masks worn, the first 6 of 18 classes
    assert board.macro_f1["all"] == pytest.approx(6 / 18 * (2 * 5 / 7) / (5 / 7 + 1))


def test_leaderboard_refuses_other_photos(data, tmp_path):
    read(data, "private/answers.csv").iloc[1:].to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(DataError, match="rows"):
        demo.leaderboard(tmp_path / "short.csv", data)


def test_report_sets_out_of_fold_beside_the_leaderboard(data, tmp_path, capsys):
    run, csv = tmp_path / "run", tmp_path / "mine.csv"
    run.mkdir()
    (run / "metrics.json").write_text(json.dumps({"folds": [{"fold": 0, "macro_f1": 0.5}], "oof_macro_f1": 0.6}))
    csv.with_suffix(".json").write_text(json.dumps({"oof_macro_f1": 0.7, "oof_macro_f1_without_tta": 0.6}))
    read(data, "private/answers.csv").to_csv(csv, index=False)
    demo.main(["report", "--run", str(run), "--submission", str(csv), "--data", str(data)])
    printed = capsys.readouterr().out
    assert "synthetic people" in printed
    for row in ("fold 0 +0.5", "without TTA +0.6", "with TTA +0.7", "demo leaderboard, all +1.0"):
        assert re.search(row, printed)
