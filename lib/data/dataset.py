"""The photos of one data set: which should exist, which do, what is in them, and whose recorded labels are doubted.

``build_images`` is the entry: it leaves ``images.parquet``, one row a photo with the index ``key``, and ``issues.parquet``.
A person is a folder (``path`` of train.csv), never an ``id``: ids repeat. Ids are text, their leading zeros matter.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from scipy.spatial import cKDTree
from tqdm import tqdm

from lib.task import labels
from lib.artefacts import resolve, write_table
from lib.errors import ArtefactError, DataError
from lib.data.photos import STEMS
from lib.workers import thread_pool

SUFFIXES = (".jpg", ".jpeg", ".png")
FOLDER = r"(?P<id>.+)_(?P<gender>[^_]+)_(?P<race>[^_]+)_(?P<age>\d+)"  # how a person's folder is named
ATTRIBUTE_COLUMNS = ["mask", "gender", "age", "age_group", "label"]
CHANNELS = [f"{statistic}_{channel}" for statistic in ("mean", "std") for channel in "rgb"]
FLAT = 0.02  # a picture whose channels all vary less is uniform: its hash is noise
CHUNK = 2048  # photos measured between two saves: what an interrupted audit loses
PHOTO_COLUMNS = ["width", "height", "sha256", "dhash", "brightness", *CHANNELS]
FILE_COLUMNS = ["file", "bytes", "modified"]  # a photo with these unchanged is not read again
RELABEL_COLUMNS = ["id", "field", "from", "to"]
RELABEL_CODES = {name: {text: code for code, text in enumerate(labels.ATTRIBUTES[name])} for name in ("mask", "gender")} | {
    "age": {str(year): int(year) for year in labels.YEARS}
}


# Reading the tables


def _read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read ``columns`` of a CSV as text, no other column; DataError when the file or one of them is missing."""
    if not path.is_file():
        raise DataError(f"{path} not found: data_dir must hold train/train.csv, train/images/, eval/info.csv and eval/images/")
    table = pd.read_csv(path, dtype=str, keep_default_na=False, usecols=lambda name: name in columns)
    if missing := [name for name in columns if name not in table]:
        raise DataError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(columns)}")
    return table


def _refuse(wrong: pd.Series, what: str, mend: str) -> None:
    """Raise a DataError naming the first few of ``wrong``, if there are any."""
    if len(wrong):
        raise DataError(f"{what}: {', '.join(map(repr, wrong.head(5)))} ({len(wrong)} in all); {mend}")


def read_people(path: Path) -> pd.DataFrame:
    """Return train.csv with a row a person: person (the folder), id, gender (0, 1), race, age, age_group."""
    table = _read_csv(path, ["id", "gender", "race", "age", "path"]).rename(columns={"path": "person"})
    _refuse(table.person[table.person.duplicated()], f"{path}: path repeated", "each person has one folder and one row")
    _refuse(table.gender[~table.gender.isin(labels.GENDERS)], f"{path}: unknown gender", f"use {' or '.join(labels.GENDERS)}")
    _refuse(table.age[~table.age.str.fullmatch(r"\d{1,3}")], f"{path}: age is not an integer", "give whole years")
    table["age"] = table.age.astype(int)
    table["age_group"] = labels.age_group(table.age)
    return table.assign(gender=table.gender.map(labels.GENDERS.index))


# Index: which photos there should be, and their files


def _walk(folder: str | Path) -> Iterator[os.DirEntry]:
    """Yield the files below a folder in the order of their names."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _walk(entry.path)
        elif entry.is_file():
            yield entry


def scan(data_dir: Path, split: str) -> pd.DataFrame:
    """List the files of a split: file (from ``data_dir``), person (their folder), stem, photo, bytes, modified (ns).

    ``photo`` says whether the name is a photo's: macOS leaves ``._*`` twins that only look like them.
    """
    root = data_dir / split / "images"
    if not root.is_dir():
        raise DataError(f"{root} not found: data_dir must hold the photos in train/images/<path>/ and eval/images/")
    rows = []
    for entry in _walk(root):
        path = entry.path[len(str(root)) + 1 :].replace(os.sep, "/")
        stem, suffix = os.path.splitext(entry.name)
        photo = suffix.lower() in SUFFIXES and not stem.startswith(".")
        rows.append((f"{split}/images/{path}", path[: -len(entry.name) - 1], stem, photo, entry.stat()))
    files = pd.DataFrame(rows, columns=["file", "person", "stem", "photo", "stat"]).astype({"file": str, "photo": bool})
    stats = files.pop("stat")
    return files.assign(bytes=[stat.st_size for stat in stats], modified=[stat.st_mtime_ns for stat in stats])


def _train_photos(data_dir: Path) -> pd.DataFrame:
    """Return seven rows a person of train.csv; of two files with one stem the first by name is taken."""
    stems = pd.DataFrame({"stem": list(STEMS), "mask": list(STEMS.values())})
    expected = read_people(data_dir / "train/train.csv").merge(stems, how="cross")
    files = scan(data_dir, "train").query("photo").drop_duplicates(["person", "stem"])
    photos = expected.merge(files[["person", "stem", *FILE_COLUMNS]], on=["person", "stem"], how="left")
    label = labels.encode(photos["mask"], photos.gender, photos.age_group)
    return photos.assign(split="train", key=photos.person + "/" + photos.stem, label=label)


def _eval_photos(data_dir: Path) -> pd.DataFrame:
    """Return a row an ImageID of info.csv, in its order; no other column of that file is read."""
    path = data_dir / "eval/info.csv"
    keys = _read_csv(path, ["ImageID"]).ImageID
    _refuse(keys[keys.duplicated()], f"{path}: ImageID repeated", "each photo has one row")
    files = scan(data_dir, "eval")[FILE_COLUMNS]
    photos = pd.DataFrame({"key": keys, "file": "eval/images/" + keys}).merge(files, on="file", how="left")
    return photos.assign(split="eval", file=photos.file.where(photos.bytes.notna()))


def index(data_dir: str | Path) -> pd.DataFrame:
    """Return a row a photo that should exist, train then eval, with index ``key``; no picture is opened.

    Columns: split, person, id, file, mask, gender, age, age_group, label (Int64, <NA> for eval), race, bytes, modified (ns)
    and status, "missing" where there is no such file. The official labels, as recorded in train.csv.
    """
    data_dir = resolve(data_dir)
    photos = pd.concat([_train_photos(data_dir), _eval_photos(data_dir)], ignore_index=True).set_index("key")
    photos["status"] = np.where(photos.file.isna(), "missing", "ok")
    texts = ["split", "person", "id", "file", "race", "status"]
    integers = [*ATTRIBUTE_COLUMNS, "bytes", "modified"]
    photos = photos.astype(dict.fromkeys(integers, "Int64")).fillna(dict.fromkeys(texts, ""))
    return photos[["split", "person", "id", "file", *ATTRIBUTE_COLUMNS, "race", "bytes", "modified", "status"]]


def people(images: pd.DataFrame) -> pd.DataFrame:
    """Return a row a training person (index ``person``): id, gender, age, age_group, race, photos (files that exist)."""
    train = images[images.split == "train"]
    table = train.groupby("person", sort=False)[["id", "gender", "age", "age_group", "race"]].first()
    return table.assign(photos=(train.status != "missing").groupby(train.person).sum())


# Audit: what is in the files


def difference_hash(gray: np.ndarray) -> int:
    """Return 64 bits that say where brightness rises from left to right on an 8 by 9 reduction of ``gray`` (H, W)."""
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def measure(path: str) -> dict:
    """Measure one photo, read once and decoded at half size: size, hashes, brightness (0..255), RGB mean and std (0..1).

    Sizes are of the picture as stored, orientation tags ignored. OpenCV refuses a truncated JPEG or PNG: "unreadable".
    """
    data = Path(path).read_bytes()
    found = {"status": "unreadable", "sha256": hashlib.sha256(data).hexdigest()}
    flags = cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if picture is None:
        return found
    width, height = Image.open(io.BytesIO(data)).size
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    mean, std = (values.ravel()[::-1] / 255 for values in cv2.meanStdDev(picture))
    found |= {"status": "ok", "width": width, "height": height, "dhash": difference_hash(gray), "brightness": gray.mean()}
    return found | dict(zip(CHANNELS, [*mean, *std], strict=True))


def _measured(files: pd.DataFrame, data_dir: Path, workers: int) -> Iterator[pd.DataFrame]:
    """Yield the measurements of ``files`` (columns FILE_COLUMNS), a frame every CHUNK photos."""
    with thread_pool(workers) as pool:
        rows = pool.map(measure, [str(data_dir / file) for file in files.file])
        rows = iter(tqdm(rows, total=len(files), desc="audit", unit="photo"))
        for start in range(0, len(files), CHUNK):
            chunk = files.iloc[start : start + CHUNK]
            table = pd.DataFrame(list(islice(rows, CHUNK)), index=chunk.index, columns=["status", *PHOTO_COLUMNS])
            yield pd.concat([chunk, table.astype({"width": "Int64", "height": "Int64", "dhash": "UInt64"})], axis=1)


def audit(images: pd.DataFrame, data_dir: str | Path, cache: Path | None = None, workers: int = 0) -> pd.DataFrame:
    """Return ``images`` with the columns of ``measure``; status turns "unreadable" where a file does not decode.

    ``cache`` is a parquet file of earlier measurements: a file of the same name, size and time is not read again, and an
    interrupted call continues. ``workers`` threads; 0 means one a core.
    """
    present = images.loc[images.status != "missing", FILE_COLUMNS]
    if present.empty:
        raise DataError(f"{data_dir}: none of the photos named by train/train.csv and eval/info.csv exists below images/")
    known = pd.read_parquet(cache) if cache and cache.exists() else pd.DataFrame(columns=FILE_COLUMNS)
    fresh = present[~pd.MultiIndex.from_frame(present).isin(pd.MultiIndex.from_frame(known[FILE_COLUMNS]))]
    parts = [known] if len(known) else []
    for part in _measured(fresh, resolve(data_dir), workers or os.cpu_count()) if len(fresh) else ():
        parts.append(part)
        if cache:
            write_table(pd.concat(parts, ignore_index=True), cache)
    measured = pd.concat(parts).drop_duplicates("file", keep="last").set_index("file")
    status = images.file.map(measured.status).fillna(images.status)
    return images.assign(status=status).join(measured[PHOTO_COLUMNS], on="file")


def build_images(data_dir: str | Path, work_dir: str | Path, workers: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index and audit a data set; write ``images.parquet`` and ``issues.parquet`` to ``work_dir`` and return both.

    Only new and changed files are read when it is called again.
    """
    work_dir = resolve(work_dir)
    images = audit(index(data_dir), data_dir, work_dir / "audit.parquet", workers)
    issues = find_issues(images, data_dir)
    write_table(images, work_dir / "images.parquet")
    write_table(issues, work_dir / "issues.parquet")
    return images, issues


def load_images(work_dir: str | Path) -> pd.DataFrame:
    """Return ``images.parquet`` of a work folder; ArtefactError when notebook 01 has not made it."""
    path = resolve(work_dir) / "images.parquet"
    if not path.exists():
        raise ArtefactError(f"{path} not found: run the stage 'eda' (notebooks/01_eda.ipynb) with this work_dir first")
    return pd.read_parquet(path)


# What is wrong


def _issues(kind: str, subjects: pd.Series, details: pd.Series | str) -> pd.DataFrame:
    """Return a frame kind, subject, detail, a row a subject."""
    return pd.DataFrame({"kind": kind, "subject": subjects, "detail": details}).astype(str)


def _contradictions(persons: pd.DataFrame) -> pd.DataFrame:
    """List people whose folder name says another id, gender, race or age than train.csv."""
    recorded = persons.assign(gender=persons.gender.map(lambda code: labels.GENDERS[code])).astype(str)
    named = recorded.index.to_series().str.extract(f"^{FOLDER}$")
    unnamed = named.index[named.id.isna()].to_series()
    found = [_issues("folder not named id_gender_race_age", unnamed, "nothing to compare with train.csv")]
    for field in named:
        differs = named.index[named.id.notna() & (named[field] != recorded[field])]
        details = "folder " + named[field][differs] + ", train.csv " + recorded[field][differs]
        found.append(_issues(f"folder contradicts {field}", differs.to_series(), details))
    return pd.concat(found)


def find_issues(images: pd.DataFrame, data_dir: str | Path) -> pd.DataFrame:
    """Return what is not as it should be: kind, subject (a key, person, id or file), detail. Nothing here is mended."""
    files = pd.concat([scan(resolve(data_dir), split) for split in ("train", "eval")], ignore_index=True)
    used, persons = set(images.file), people(images)
    unused = files[[file not in used for file in files.file]]
    junk = unused.stem.str.startswith(".")
    stray = ~junk & (unused.person != "") & ~unused.person.isin(persons.index)
    second = unused.photo & ~stray & (unused.person != "") & unused.stem.isin(STEMS)
    folders = unused[stray].groupby("person").size()
    empty = persons.index[persons.photos == 0].to_series()
    missing = images[images.status == "missing"].query("person not in @empty").index.to_series()
    twice = persons[persons.id.duplicated(keep=False)].reset_index().groupby("id").person.agg(", ".join)
    found = [
        _issues("missing photo", missing, "no such file"),
        _issues("unreadable photo", images.index[images.status == "unreadable"].to_series(), "does not decode"),
        _issues("row without a folder", empty, "in train.csv, no photo in train/images"),
        _issues("folder without a row", folders.index.to_series(), folders.astype(str) + " files, not in train.csv"),
        _issues("second file of one photo", unused.file[second], "not used: the first by name is"),
        _issues("extra file", unused.file[~junk & ~stray & ~second], "not used"),
        _issues("junk file", unused.file[junk], "not used"),
        _issues("id used twice", twice.index.to_series(), twice),
        _contradictions(persons),
    ]
    return pd.concat(found, ignore_index=True)


def colour_statistics(images: pd.DataFrame) -> pd.DataFrame:
    """Return mean and std by RGB channel (0..1) over all pixels of each mask state and of all training photos."""
    photos = images[(images.split == "train") & (images.status == "ok")]
    photos = pd.concat([photos.assign(state=photos["mask"].map(dict(enumerate(labels.MASKS)))), photos.assign(state="all")])
    means, stds = (photos[[f"{name}_{channel}" for channel in "rgb"]].to_numpy() for name in ("mean", "std"))
    moments = pd.DataFrame(np.hstack([means, stds**2 + means**2]), columns=CHANNELS).groupby(photos.state.to_numpy()).mean()
    moments[CHANNELS[3:]] = np.sqrt(moments[CHANNELS[3:]].to_numpy() - moments[CHANNELS[:3]].to_numpy() ** 2)
    return moments.loc[[*labels.MASKS, "all"]].assign(photos=photos.state.value_counts())


def shared_ids(persons: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``people`` whose id has several folders; ``differs`` names what is recorded differently."""
    shared = persons[persons.id.duplicated(keep=False)].sort_values("id")
    counts = shared.groupby("id")[["gender", "age", "race"]].transform("nunique")
    return shared.assign(differs=[", ".join(counts.columns[row > 1]) for row in counts.to_numpy()])


# Duplicates


def _exact_pairs(photos: pd.DataFrame) -> pd.DataFrame:
    """Pair each photo with the first of the same bytes."""
    first = photos.reset_index().groupby("sha256").key.transform("first").to_numpy()
    pairs = pd.DataFrame({"first": first, "second": photos.index, "match": "exact", "bits": 0})
    return pairs[pairs["first"] != pairs.second]


def _near_pairs(photos: pd.DataFrame, bits: int, colour: float) -> pd.DataFrame:
    """Pair photos of different bytes whose colour statistics lie within ``colour`` and hashes within ``bits``.

    The statistics are looked up in a k-d tree, so that hashes are compared for neighbours alone, not for all pairs.
    """
    unique = photos[(photos[CHANNELS[3:]] > FLAT).any(axis=1)].drop_duplicates("sha256")
    i, j = cKDTree(unique[CHANNELS]).query_pairs(colour, p=np.inf, output_type="ndarray").T
    hashes = unique.dhash.to_numpy(np.uint64)
    distance = np.bitwise_count(hashes[i] ^ hashes[j])
    near = distance <= bits
    i, j = i[near], j[near]
    return pd.DataFrame({"first": unique.index[i], "second": unique.index[j], "match": "near", "bits": distance[near]})


def duplicates(images: pd.DataFrame, bits: int = 6, colour: float = 0.01) -> pd.DataFrame:
    """Return pairs of photos that are copies: first, second (keys), match, bits, where, same_label.

    "exact" means the same bytes; "near" a re-saved or resized copy: difference hashes at most ``bits`` of 64 apart and means
    and standard deviations by channel within ``colour``. A uniform picture is near nothing. ``where``: one person,
    between people, within eval, train and eval. ``same_label``: <NA> where eval takes part.
    """
    photos = images[images.status == "ok"]
    pairs = pd.concat([_exact_pairs(photos), _near_pairs(photos, bits, colour)], ignore_index=True)
    a, b = (photos.loc[pairs[side], ["split", "person", "label"]].reset_index(drop=True) for side in ("first", "second"))
    cases = [a.split != b.split, a.split == "eval", a.person == b.person]
    where = np.select(cases, ["train and eval", "within eval", "one person"], "between people")
    return pairs.assign(where=where, same_label=a.label == b.label)


# Labels that people doubt: corrected for training folds alone


def read_relabel(files: Sequence[str | Path]) -> pd.DataFrame:
    """Return the rows id, field, from, to of relabel files; DataError for an unknown value or two answers to one question."""
    tables = [_read_csv(resolve(file), RELABEL_COLUMNS) for file in files]
    rows = pd.concat([pd.DataFrame(columns=RELABEL_COLUMNS), *tables], ignore_index=True).drop_duplicates(ignore_index=True)
    _refuse(rows.field[~rows.field.isin(RELABEL_CODES)], "relabel: unknown field", f"use one of {', '.join(RELABEL_CODES)}")
    for side in ("from", "to"):
        wrong = [value not in RELABEL_CODES[field] for field, value in zip(rows.field, rows[side], strict=True)]
        _refuse(rows[side][wrong], f"relabel: unknown value in {side!r}", "mask: wear, incorrect, normal; gender: male, female")
    _refuse(rows.id[rows.duplicated(["id", "field", "from"])], "relabel: two answers for one value of id", "keep one")
    return rows


def _outcome(row: pd.Series, theirs: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Return which of the photos ``theirs`` (all of one id) a relabel row changes, and what to say of it."""
    recorded, code = theirs[row.field], RELABEL_CODES[row.field]
    chosen = (recorded == code[row["from"]]).to_numpy(bool)
    if theirs.empty or chosen.any():
        return chosen, f"applied to {chosen.sum()} photos" if len(theirs) else "no such id"
    if (recorded == code[row.to]).any():
        return chosen, f"already {row.to}"
    asked = f"{row.id!r}, {row.field}, from {row['from']!r} to {row.to!r}"
    raise DataError(f"relabel: {asked}: recorded is code {recorded.iloc[0]}, neither of them; correct the row or drop it")


def relabel(images: pd.DataFrame, files: Sequence[str | Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the images with labels corrected by relabel files, and each row of the files with its outcome.

    A row holds for all training photos of its id (text) whose *recorded* value is ``from``: two rows swap two masks.
    For training folds alone: validation scores the labels as recorded, and images.parquet keeps them.
    """
    rows, changed = read_relabel(files), images.copy()
    outcomes = []
    for _, row in rows.iterrows():
        theirs = images[(images.split == "train") & (images.id == row.id)]
        chosen, outcome = _outcome(row, theirs)
        changed.loc[theirs.index[chosen], row.field] = RELABEL_CODES[row.field][row.to]
        outcomes.append(outcome)
    train = changed.index[changed.split == "train"]
    mask, gender, age = (changed.loc[train, field].to_numpy(int) for field in ("mask", "gender", "age"))
    changed.loc[train, "age_group"] = labels.age_group(age)
    changed.loc[train, "label"] = labels.encode(mask, gender, changed.loc[train, "age_group"].to_numpy(int))
    return changed, rows.assign(outcome=pd.Series(outcomes, dtype=str))
