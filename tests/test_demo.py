"""Demo data: exactly the competition's layout, deterministic, with known truth."""

import json
import re
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lib import artefacts
from lib.data.competition import STEMS
from lib.data.index import build_images
from lib.demo import digits, examples
from lib.demo import people as demo
from lib.demo import table as glasses
from lib.demo.__main__ import main
from lib.demo.folder import for_each, whole_folder
from lib.demo.leaderboard import leaderboard
from lib.demo.portrait.camera import random_session, random_shot, session_shot
from lib.demo.portrait.clothes import MASK_PLACES, MASK_STYLES
from lib.demo.portrait.person import CLEAR, HARD, random_person
from lib.demo.portrait.photo import render
from lib.demo.table import FRAMES, HAIRS
from lib.errors import ArtefactError, DataError, ParameterError
from lib.score import runs
from lib.task.attributes import TASKS

GENDERS, AGE = demo.GENDERS, demo.AGE
SMALL = {"people": 12, "eval_people": 6, "seed": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return demo.make(tmp_path_factory.mktemp("data") / "demo", **SMALL, workers=1)


def read(data: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(data / name, dtype={"id": str})


def named_census(seed: int, people: int = 100) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return demo.plant_errors(
        demo.name_people(demo.draw_census(rng, people, natural=False), seed), rng
    )


def photos(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith("._"))


def hashes(data: Path) -> dict[str, str]:
    return {
        str(file.relative_to(data)): artefacts.file_hash(file)
        for file in data.rglob("*")
        if file.is_file()
    }


def test_same_seed_gives_the_same_bytes(tmp_path, monkeypatch):
    def flat(person, shot):  # shows what was chosen; drawing is tested below
        return np.full((512, 384, 3), (person.texture_seed + shot.noise_seed) % 256, np.uint8)

    monkeypatch.setattr(demo, "render", flat)
    first, second = (
        hashes(demo.make(tmp_path / name, **SMALL, workers=1)) for name in ("first", "second")
    )
    assert first == second


def test_photos_do_not_depend_on_the_workers(tmp_path):
    people = demo.rows_of(named_census(seed=3, people=6))[:2]
    for workers in (1, 2):
        root = tmp_path / str(workers)
        write = partial(demo.write_train_person, root=root, seed=3, shortcut=False, hard=True)
        for_each(write, people, workers, "people")
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def test_train_has_seven_photos_per_folder_with_mixed_suffixes_and_junk(data):
    table, images = read(data, "train/train.csv"), data / "train" / "images"
    assert list(table.columns) == ["id", "gender", "race", "age", "path"]
    assert {folder.name for folder in photos(images)} == set(table.path)
    files = [photos(images / path) for path in table.path]
    assert all({file.stem for file in seven} == set(STEMS) for seven in files)
    assert all(len(seven) == 7 for seven in files)
    assert {file.suffix for seven in files for file in seven} == {".jpg", ".jpeg", ".png"}
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
    for file in [
        *photos(data / "eval" / "images")[:2],
        *photos(data / "train" / "images")[0].glob("normal*"),
    ]:
        assert cv2.imread(str(file), cv2.IMREAD_UNCHANGED).shape == (512, 384, 3)


def test_eval_reveals_nothing(data):
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
    masks = pd.crosstab(behind.person, demo.TASK.decode(answers.ans)["mask"])
    assert (masks == [5, 1, 1]).all(axis=None)


def test_every_gender_and_age_group_is_recorded(data):
    table = read(data, "train/train.csv")
    assert len(table.assign(group=AGE.group(table.age)).groupby(["gender", "group"])) == 6


@pytest.mark.parametrize("people", [6, 7, 30, 100])
def test_few_people_still_fill_every_cell(people):
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


def test_planted_errors_contradict_what_was_drawn():
    census = named_census(seed=1, people=60)
    planted = demo.planted_table(census).merge(census, left_on="person", right_on="path")
    assert sorted(planted.field) == ["age", "gender", "gender", "mask", "mask", "mask", "mask"]
    gender, age = planted[planted.field == "gender"], planted[planted.field == "age"]
    assert (gender.true == [GENDERS[g] for g in gender.gender]).all()
    assert (gender.recorded != gender.true).all()
    assert age.true.astype(int).equals(age.age)
    assert (AGE.group(age.true.astype(int)) != AGE.group(age.recorded.astype(int))).all()
    honest = census[census.plant == ""]
    assert (honest.gender == honest.recorded_gender).all()
    assert (honest.age == honest.recorded_age).all()


def test_planted_errors_are_in_the_tables(data):
    planted = read(data, "private/planted.csv")
    table = read(data, "train/train.csv").set_index("path")
    assert set(planted.person) <= set(table.index)
    for row in planted[planted.field != "mask"].itertuples():
        assert str(table.loc[row.person, row.field]) == str(row.recorded)


def wall_reveals(shortcut: bool, seed: int) -> float:
    """Return for how many people a majority vote by the wall finds gender and age group, 0..1."""
    rows = []
    for cell, k in product(range(6), range(12)):
        rng, age = np.random.default_rng((seed, cell, k)), (22, 45, 60)[cell % 3]
        person = random_person(rng, cell // 3, age, cell if shortcut else None)
        rows.append((str(person.wall), cell))
    votes = pd.DataFrame(rows, columns=["wall", "cell"]).value_counts().groupby("wall").max()
    return votes.sum() / len(rows)


def grey_overlap(cues) -> float:
    """Return the share of pairs in which a person of 45 is greyer than one of 60."""

    def greys(age):
        people = (
            random_person(np.random.default_rng(k), k % 2, age, cues=cues) for k in range(300)
        )
        return np.array([person.grey for person in people])

    return (greys(45)[:, None] > greys(60)).mean()


def test_hard_people_of_different_ages_look_alike_more_often():
    assert grey_overlap(HARD) > max(0.1, 2 * grey_overlap(CLEAR))


def light_and_sharpness(shots) -> np.ndarray:
    """Return the standard deviations of brightness and sharpness over photos of one person."""
    drawn = [render(random_person(np.random.default_rng(1), 0, 30), shot) for shot in shots]
    sharp = [cv2.Laplacian(photo, cv2.CV_32F).std() for photo in drawn]
    return np.array([np.std([photo.mean() for photo in drawn]), np.std(sharp)])


def test_hard_photos_vary_between_people_more_than_within_one():
    rng = np.random.default_rng(0)
    easy = light_and_sharpness([random_shot(rng) for _ in range(12)])
    one = random_session(rng)
    within = light_and_sharpness([session_shot(rng, session=one) for _ in range(12)])
    others = [session_shot(rng, session=random_session(rng)) for _ in range(12)]
    assert (light_and_sharpness(others) > 1.5 * np.maximum(easy, within)).all()


def test_scenery_reveals_the_label_only_with_the_shortcut():
    assert wall_reveals(shortcut=True, seed=0) == 1
    assert wall_reveals(shortcut=False, seed=0) < 0.45


def test_age_shows_in_wrinkles_and_grey_hair():
    ages = [18 + k % 43 for k in range(300)]
    people = [random_person(np.random.default_rng(k), k % 2, age) for k, age in enumerate(ages)]
    rows = [(person.wrinkles, person.grey) for person in people]
    traits = pd.DataFrame(rows, columns=["wrinkles", "grey"]).assign(age=ages)
    assert traits.corr(method="spearman").age[["wrinkles", "grey"]].min() > 0.85


def test_a_photo_depends_only_on_person_and_shot():
    person = random_person(np.random.default_rng(0), 1, 40)
    shot = random_shot(np.random.default_rng(1), "nose", "pattern")
    photo = render(person, shot)
    assert photo.dtype == np.uint8
    assert (photo == render(person, shot)).all()


def test_photos_of_a_seed_stay_the_same_over_versions():
    person = random_person(np.random.default_rng(7), 0, 50)
    traits = [person.wrinkles, person.grey, person.jaw, person.nose, person.texture_seed]
    assert traits == pytest.approx(
        [0.7690783, 0.1326712, 1.1616733, 1.1696845, 1063068495], rel=1e-6
    )
    photo = render(person, random_shot(np.random.default_rng(8), "wear", "surgical"))
    assert photo.mean() == pytest.approx(135.108, abs=0.01)


def test_a_finished_set_is_kept_and_another_is_refused(data):
    before = (data / "train" / "train.csv").stat().st_mtime_ns
    assert demo.make(data, **SMALL) == data
    assert (data / "train" / "train.csv").stat().st_mtime_ns == before
    with pytest.raises(ArtefactError, match="remove it or choose another"):
        demo.make(data, **SMALL | {"seed": 4})


def test_a_parameter_newer_than_the_folder_counts_as_its_default(tmp_path):
    record = tmp_path / "private" / "params.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"people": 12, "eval_people": 6, "seed": 3, "natural": False}))
    assert demo.make(tmp_path, **SMALL) == tmp_path
    for other in ({"hard": True}, {"shortcut": True}):
        with pytest.raises(ArtefactError, match="remove it or choose another"):
            demo.make(tmp_path, **SMALL | other)
    with pytest.raises(ArtefactError, match="'layout': 'table'"):
        glasses.make(tmp_path, people=12, eval_people=6, seed=3)
    record.write_text("{}")
    with pytest.raises(ArtefactError, match="'digits': 1797"):
        digits.make(tmp_path)


def test_a_failed_build_leaves_nothing(tmp_path):
    def stop_half_way():
        with whole_folder(tmp_path / "demo", {}) as root:
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
    assert (leaderboard(tmp_path / "right.csv", data) == 1).all(axis=None)
    board = leaderboard(tmp_path / "unmasked.csv", data)
    assert board.index.tolist() == ["all", "public", "private"]
    assert board.accuracy["all"] == pytest.approx(5 / 7)  # worn masks: the first 6 of 18 classes
    assert board.macro_f1["all"] == pytest.approx(6 / 18 * (2 * 5 / 7) / (5 / 7 + 1))


def test_leaderboard_refuses_other_photos(data, tmp_path):
    read(data, "private/answers.csv").iloc[1:].to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(DataError, match="rows"):
        leaderboard(tmp_path / "short.csv", data)


def test_report_compares_out_of_fold_with_the_leaderboard(data, tmp_path, capsys):
    run, csv = run_that_knows_the_planted_errors(data, tmp_path), tmp_path / "mine.csv"
    scores = {"oof_score": 0.7, "oof_score_without_tta": 0.6}
    csv.with_suffix(".json").write_text(json.dumps(scores))
    read(data, "private/answers.csv").to_csv(csv, index=False)
    main(["report", "--run", str(run), "--submission", str(csv), "--data", str(data)])
    printed = capsys.readouterr().out
    assert "synthetic people" in printed
    assert re.search("fold 0 +0.512$", printed, re.MULTILINE)
    for row in ("without TTA +0.600", "with TTA +0.700", "demo leaderboard, all +1.000"):
        assert re.search(row, printed)
    assert printed.endswith("label errors: 5 of 5 are among the first 15 candidates (1.00)\n")


def run_that_knows_the_planted_errors(data: Path, folder: Path) -> Path:
    """Write a run whose out-of-fold table gives the true classes a probability of 0.9."""
    images, _ = build_images(data, folder / "work", demo.TASK, "competition", {})
    true = images[images.split == "train"].copy()
    for row in read(data, "private/planted.csv").itertuples():
        chosen = (true.person == row.person) & (
            true.file.str.contains(row.recorded) | (row.field != "mask")
        )
        true.loc[chosen, row.field] = demo.TASK[row.field].parse(row.true)
    label = demo.TASK.encode(demo.TASK.groups(true)).to_numpy(int)
    shares = np.where(np.arange(18) == label[:, None], 0.9, 0.1 / 17)
    oof = pd.DataFrame(shares, true.index, demo.TASK.columns())
    run = folder / "run"
    artefacts.write_table(runs.oof_table(oof, images.loc[oof.index], 0), run / "oof.parquet")
    artefacts.write_json({"folds": [{"fold": 0, "macro_f1": 0.51234}]}, run / "metrics.json")
    params = {"task": "mask", "learn": [], "work_dir": str(folder / "work")}
    artefacts.write_json(params, run / "params.yaml")
    (run / "task.yaml").write_text((TASKS / "mask.yaml").read_text())
    return run


def test_notebook_reads_every_photo_with_what_is_recorded(data):
    train = demo.read_train(data)
    assert len(train) == 12 * 7
    assert train.groupby("person").file.nunique().eq(7).all()
    assert all((data / file).is_file() for file in train.file)


@pytest.fixture
def drawn(monkeypatch):
    """Let examples be what they are drawn from, a person and a shot."""
    monkeypatch.setattr(examples, "render", lambda person, shot: (person, shot))


def test_examples_of_masks_are_of_one_person_in_the_style_and_place_that_they_name(drawn):
    shown = examples.masks(5)
    assert {(shot.style, shot.mask) for _, shot in shown.values()} == set(
        product(MASK_STYLES, MASK_PLACES)
    )
    assert all(name == f"{shot.style}\n{shot.mask}" for name, (_, shot) in shown.items())
    assert len({id(person) for person, _ in shown.values()}) == 1


def test_examples_of_glasses_and_hair_are_drawn_as_they_are_named(drawn):
    shown = examples.glasses(5)
    assert len(shown) == len(FRAMES) * len(HAIRS)
    for name, (person, _) in shown.items():
        hair, worn = re.fullmatch(r"(\w+) hair\nglasses: (\w+)", name).groups()
        assert person.glasses == FRAMES[worn]
        assert person.hair.tolist() == list(HAIRS[hair])


def test_examples_of_ages_are_two_people_who_grow_older(drawn):
    shown = examples.ages(5)
    for gender in GENDERS:
        people = [person for name, (person, _) in shown.items() if name.startswith(gender + " ")]
        assert len(people) == 9
        assert len({person.texture_seed for person in people}) == 1
        assert people[0].wrinkles < people[-1].wrinkles
