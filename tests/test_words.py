"""The words check of ``make lint`` finds what is out of place, and nothing else."""

import json

import pytest
import words


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a mask, and MASKS; masked", ["mask", "MASKS", "masked"]),
        ("age_group = drop_ages[n_masks]", ["age", "ages", "masks"]),
        ("class AgeGroup(GenderHead):", ["Age", "Gender"]),
        ("attn_mask=ageOf(x)", ["mask", "age"]),
        ("an 18-way head; sizes (3, 2, 43)", ["18", "43"]),
    ],
)
def test_words_of_the_task_are_found_inside_identifiers_too(line, found):
    assert words.task_words(line) == found


@pytest.mark.parametrize(
    "line",
    [
        "image, page, average, percentage, manage, Stage, engaged, damask, masking, agenda",
        "resnet18, 0.18, 18.5, 180, 2018, 18,900, 1.43, seed_43, x43",
        "cv2.GC_INIT_WITH_MASK, cv2.MASK",
    ],
)
def test_other_words_and_numbers_pass(line):
    assert words.task_words(line) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("beside theirs, and MENDED", ["beside", "theirs", "MENDED"]),
        ("learnt_samples", ["learnt"]),
        ("it leans to the bright side", ["bright side"]),
        ("109 photos a second", ["photos a second"]),
        ("macro F1 .546 or -.006, p=.5", [".546", ".006", ".5"]),
    ],
)
def test_dialect_and_numbers_without_their_zero_are_found(line, found):
    assert words.dialect(line) == found


@pytest.mark.parametrize(
    "line",
    [
        "recommend, amendment, besides, unpainted, for a photo or a second look",
        "0.546, 3.11, f'{share:.0%} {score:+.3f}', .ci/run, x.0, Table.T",
    ],
)
def test_standard_english_passes(line):
    assert words.dialect(line) == []


def test_places_are_named_and_exempt_modules_pass(tmp_path):
    write(tmp_path / "lib/learn/heads.py", "import cv2\n\nage = 60\n")
    write(tmp_path / "lib/task/ordered.py", "age = 43\n")
    write(tmp_path / "lib/data/competition.py", "mask = 18\n")
    write(tmp_path / "docs/bench.md", "twice as fast\nas theirs\n")
    assert list(words.findings(tmp_path)) == [
        "lib/learn/heads.py:3: age",
        "docs/bench.md:2: theirs",
    ]


def test_notebooks_may_name_the_task_in_their_parameters_only(tmp_path):
    cells = [
        cell("03-01", 'learn = ["age"]  # whom to learn from', tags=["parameters"]),
        cell("03-02", "# One\nages = learn"),
    ]
    write(tmp_path / "notebooks/03_train.ipynb", json.dumps({"cells": cells}))
    write(tmp_path / "notebooks/00_demo.ipynb", json.dumps({"cells": [cell("00-01", "age")]}))
    assert list(words.findings(tmp_path)) == [
        "notebooks/03_train.ipynb:03-02:2: ages",
        "notebooks/03_train.ipynb:03-01:1: whom",
    ]


def cell(name, source, tags=()):
    return {
        "id": name,
        "metadata": {"tags": list(tags)},
        "source": source.splitlines(keepends=True),
    }


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
