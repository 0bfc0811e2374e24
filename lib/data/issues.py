"""What is not as it should be in a data set, and which photos are copies; nothing is changed."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from lib.data.audit import CHANNELS
from lib.data.photos import LARGEST, TURNED
from lib.task.attributes import Task

BITS, COLOUR = 6, 0.01  # how far the hashes and the colours of nearly identical photos are apart
FLAT = 0.02  # a picture whose channels all vary less is uniform: its hash is noise
UNUSED = dict.fromkeys(["extra file", "hidden file"], "not used") | {
    "link": "leads to a folder, or out of the folder of photos: not read, copy the file"
}
Found = tuple[str, str, str]  # kind, subject (a key, person, id or file), detail


def find_issues(
    images: pd.DataFrame,
    files: pd.DataFrame,
    people: pd.DataFrame,
    task: Task,
    layout_issues: Callable[[pd.DataFrame, pd.DataFrame, Task], list[Found]],
) -> pd.DataFrame:
    """Return a row per finding: kind, subject, detail."""
    used = set(images.file)
    unused = files[[file not in used for file in files.file]]
    special = layout_issues(people, unused, task)
    told = {subject for _, subject, _ in special}
    found = [
        *_by_photo(images, told & set(people.index[people.photos == 0])),
        *_outside(images, people, task),
        *_differing(images, task),
        *special,
        *_shared(people, task),
    ]
    strangers = told - set(people.index)
    others = unused[~unused.file.isin(told) & ~unused.folder.isin(strangers)]
    kinds = np.select([others.link, others.hidden], ["link", "hidden file"], "extra file")
    found += [(kind, file, UNUSED[kind]) for kind, file in zip(kinds, others.file, strict=True)]
    return pd.DataFrame(found, columns=["kind", "subject", "detail"], dtype=str)


def _by_photo(images: pd.DataFrame, empty: set[str]) -> list[Found]:
    """List photos; those of people in ``empty``, who have none at all, are not told one by one."""
    missing = images.index[(images.status == "missing") & ~images.person.isin(empty)]
    turned = images.orientation[images.orientation.isin(TURNED)]
    moving = images.frames[images.frames > 1]
    unreadable = images.index[images.status == "unreadable"]
    lost = f"does not decode, or has over {LARGEST} pixels: not trained on"
    return [
        *(("missing photo", key, "no such file") for key in missing),
        *(("unreadable photo", key, lost) for key in unreadable),
        *(
            ("turned photo", key, f"EXIF orientation {k}: used upright")
            for key, k in turned.items()
        ),
        *(("several frames", key, f"{k} frames: the first is used") for key, k in moving.items()),
    ]


def _outside(images: pd.DataFrame, people: pd.DataFrame, task: Task) -> list[Found]:
    """List people, or photos, with a number outside the range of an ordered attribute."""
    photos = images[images.split == "train"]
    tables = {"person": people, "photo": photos}
    return [
        (f"{name} outside the range", subject, f"{value}: counts as the nearest in the range")
        for per, table in tables.items()
        for name in task.per(per)
        for subject, value in table[name].items()
        if value not in task[name].recorded
    ]


def _differing(images: pd.DataFrame, task: Task) -> list[Found]:
    """List people whose photos disagree about what is recorded per person."""
    groups = images[images.split == "train"].groupby("person", sort=False)
    return [
        (f"{name} differs within a group", person, ", ".join(map(task[name].text, values)))
        for name in task.per("person")
        for person, values in groups[name].unique().items()
        if len(values) > 1
    ]


def _shared(people: pd.DataFrame, task: Task) -> list[Found]:
    folders = shared_ids(people, task).reset_index().groupby("id").person.agg(", ".join)
    return [("id used twice", ident, persons) for ident, persons in folders.items()]


def shared_ids(people: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the people whose id is shared; ``differs`` names what is recorded differently."""
    shared = people[people.id.duplicated(keep=False)].sort_values("id", kind="stable")
    recorded = [name for name in task.names if name in shared]
    shared = shared.assign(**{name: shared[name].map(task[name].text) for name in recorded})
    counts = shared.groupby("id")[shared.columns.drop(["id", "photos"])].transform("nunique")
    return shared.assign(differs=[", ".join(counts.columns[row > 1]) for row in counts.to_numpy()])


ALL = "all photos"
MANY = 20  # states that can still be told apart side by side


def state_names(task: Task) -> tuple[str, ...]:
    """Return the names of what can be recorded of a photo by itself; one, ALL, for too many."""
    names = task.combinations(task.per("photo"))
    return names if 1 < len(names) <= MANY else (ALL,)


def states(images: pd.DataFrame, task: Task) -> pd.Series:
    """Return the state of each photo, <NA> where nothing is recorded of it."""
    names, texts = task.per("photo"), state_names(task)
    if texts == (ALL,):
        return pd.Series(ALL, images.index)
    known = images[images[names].notna().all(axis=1)]
    codes = task.encode({name: task[name].group(known[name]) for name in names}).astype(int)
    return codes.map(dict(enumerate(texts))).reindex(images.index)


def colour_statistics(images: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return mean and std by RGB channel (0..1) of each state and of all training photos."""
    photos = images[(images.split == "train") & (images.status == "ok")]
    state = states(photos, task)
    groups = {name: photos[state == name] for name in state_names(task)} | {ALL: photos}
    rows = {name: _moments(group) for name, group in groups.items() if len(group)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=CHANNELS)
    return table.assign(photos=[len(groups[name]) for name in rows])


def _moments(photos: pd.DataFrame) -> np.ndarray:
    """Return mean and std over the pixels of all photos, from those of each photo."""
    mean, std = photos[CHANNELS[:3]].to_numpy(float), photos[CHANNELS[3:]].to_numpy(float)
    overall = mean.mean(axis=0)
    return np.r_[overall, np.sqrt((std**2 + mean**2).mean(axis=0) - overall**2)]


def _exact_pairs(photos: pd.DataFrame) -> pd.DataFrame:
    """Pair each photo with the first of the same bytes."""
    first = photos.reset_index().groupby("sha256").key.transform("first").to_numpy()
    pairs = pd.DataFrame({"first": first, "second": photos.index, "match": "exact", "bits": 0})
    return pairs[pairs["first"] != pairs.second]


def _near_pairs(photos: pd.DataFrame) -> pd.DataFrame:
    """Pair different photos near in colour (by a k-d tree) and in their hashes."""
    unique = photos[(photos[CHANNELS[3:]] > FLAT).any(axis=1)].drop_duplicates("sha256")
    pairs = cKDTree(unique[CHANNELS]).query_pairs(COLOUR, p=np.inf, output_type="ndarray")
    hashes = unique.dhash.to_numpy(np.uint64)
    distance = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
    near = distance <= BITS
    first, second = (unique.index[side] for side in pairs[near].T)
    facts = {"match": "near", "bits": distance[near]}
    return pd.DataFrame({"first": first, "second": second, **facts})


def duplicates(images: pd.DataFrame) -> pd.DataFrame:
    """Return pairs of photos that are copies: first, second (keys), match, bits, where, same_label.

    "exact" means the same bytes; "near" a re-saved or resized copy: difference hashes at most
    BITS of 64 apart, means and standard deviations by channel within COLOUR, not uniform.
    ``where``: one person, between people, within eval, train and eval (no same_label: <NA>).
    """
    photos = images[images.status == "ok"]
    pairs = [_exact_pairs(photos), _near_pairs(photos)]
    pairs = pd.concat(pairs, ignore_index=True)
    a, b = (photos.loc[pairs[side]].reset_index(drop=True) for side in ("first", "second"))
    cases = [a.split != b.split, a.split == "eval", a.person == b.person]
    where = np.select(cases, ["train and eval", "within eval", "one person"], "between people")
    return pairs.assign(where=where, same_label=a.label == b.label)
