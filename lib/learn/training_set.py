"""Who is trained on, and with which labels; validation keeps people and labels as recorded.

A run learns from people of its own set (``TrainingSet``), of other sets, and from test photos that
an earlier submission has labelled. Corrections act on what is learned, never on what is scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from torch import Tensor

from lib import artefacts
from lib.data import folds
from lib.data.index import load_images
from lib.data.relabel import relabel
from lib.errors import ArtefactError, DataError
from lib.face.crops import Crops, build_crops, geometry, open_crops
from lib.face.faces import load_faces
from lib.learn.samplers import Classes
from lib.task import tables, targets
from lib.task.attributes import Task

SURE = 0.9  # least probability of an attribute without a threshold of its own


class Source(NamedTuple):
    """Photos to learn from: where their crops are, which ones, and their soft targets (N, ...)."""

    name: str
    crops: Crops
    keys: pd.Index
    targets: Tensor


@dataclass(frozen=True)
class TrainingSet:
    """The people of a set: ``recorded`` has the official labels, ``learned`` those trained on.

    Both have a row per photo that has a crop. ``changes`` lists what came of each correction.
    """

    task: Task
    images: pd.DataFrame
    crops: Crops
    recorded: pd.DataFrame
    learned: pd.DataFrame
    changes: pd.DataFrame
    drop: Mapping[str, Sequence]

    @property
    def test_keys(self) -> pd.Index:
        """The test photos; DataError, before hours of training, when one of them has no crop."""
        keys = self.images.index[self.images["split"] == "eval"]
        if len(lost := keys.difference(self.crops.keys)):
            raise DataError(
                f"{len(lost)} test photos cannot be read, such as {list(lost[:3])}, and a "
                "submission needs each: copy them again, then run notebooks 01 and 02"
            )
        return keys

    def source(self, keys: pd.Index | None = None) -> Source:
        """Return the photos of ``keys`` (None: all) with the labels that are trained on."""
        photos = self.learned if keys is None else self.learned.loc[keys]
        return people_source(self.task, "people of this set", photos, self.crops, self.drop)


def load(params: Mapping, task: Task) -> TrainingSet:
    """Return who a run is trained on; crops of a geometry that is new are made first."""
    images = load_images(params["work_dir"])
    with PartialState().main_process_first():  # the other processes find the crops made
        faces, cut = load_faces(params["work_dir"]), geometry(params)
        crops = build_crops(images, faces, params["data_dir"], params["work_dir"], **cut)
    photos = with_crops(images, crops, "train")
    recorded = first_people(task, photos, params["people_limit"], params["seed"])
    corrected, changes = relabel(images, params["relabel"], task)
    learned = corrected.loc[recorded.index]
    if params["shuffle_labels"]:
        learned = shuffle_labels(task, learned, params["seed"])
    return TrainingSet(task, images, crops, recorded, learned, changes, params["drop"])


def with_crops(images: pd.DataFrame, crops: Crops, split: str) -> pd.DataFrame:
    """Return the photos of a split that have a crop; those that could not be read have none."""
    return images[(images["split"] == split) & images.index.isin(crops.keys)]


def first_people(task: Task, photos: pd.DataFrame, people: int, seed: int) -> pd.DataFrame:
    """Return the photos of ``people`` people, drawn from each stratum in turn (0: everyone)."""
    if not people:
        return photos
    rows = folds.balanced_over(photos, task).sort_index(kind="stable")
    order = rows.sample(frac=1, random_state=seed)
    turn = order.groupby(task.strata(order)).cumcount().sort_values(kind="stable")
    return photos[photos["person"].isin(turn.index.unique()[:people])]


def shuffle_labels(task: Task, photos: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Give every photo the labels of a random other one: a run on them must score at chance."""
    order = np.random.default_rng(seed).permutation(len(photos))
    columns = [*task.names, "label"]
    return photos.assign(**{column: photos[column].to_numpy()[order] for column in columns})


def people_source(
    task: Task, name: str, photos: pd.DataFrame, crops: Crops, drop: Mapping[str, Sequence]
) -> Source:
    """Return labelled photos as a source, without those whose recorded value is to be dropped."""
    for attribute, values in task.checked_drop(drop).items():
        photos = photos[~photos[attribute].isin(values)]
    return Source(name, crops, photos.index, targets.one_hot(task, photos))


def sources(params: Mapping, data: TrainingSet, keys: pd.Index) -> list[Source]:
    """Return all that a fold learns from: the set's own photos of ``keys``, and those added."""
    return [data.source(keys), *added(params, data, keys)[0]]


def depends_on_validation(params: Mapping, data: TrainingSet, person_folds: pd.Series) -> list[str]:
    """Return the sources of folds that change when the labels of the validated people change.

    Whatever training counts, such as the weights of classes, it counts in its sources: where these
    stay the same, it uses no statistics of the people who are scored.
    """
    found = []
    for fold in folds.numbers(person_folds):
        training, validation = folds.divide(data.recorded, person_folds, fold)
        other = replace(data, learned=_mirrored(data.task, data.learned, validation.index))
        both = [sources(params, each, training.index) for each in (data, other)]
        found += [f"fold {fold}: {a.name}" for a, b in zip(*both, strict=True) if not _same(a, b)]
    return found


def _mirrored(task: Task, photos: pd.DataFrame, keys: pd.Index) -> pd.DataFrame:
    """Return photos with other labels for ``keys``: each number mirrored in its range."""
    changed = photos.copy()
    for name, attribute in task.attributes.items():
        ends = 2 * attribute.first + attribute.size - 1
        changed.loc[keys, name] = ends - photos.loc[keys, name]
    return changed


def _same(one: Source, other: Source) -> bool:
    return one.keys.equals(other.keys) and torch.equal(one.targets, other.targets)


def added(
    params: Mapping, data: TrainingSet, keys: pd.Index | None = None
) -> tuple[list[Source], pd.DataFrame]:
    """Return the sources besides the set's own people, and the people left out of other sets.

    Left out is who may be validated: known by folder name, by id, or by an identical photo.
    ``keys`` are the set's own photos that are trained on (None: all).
    """
    sets = [_other_set(work_dir, params, data) for work_dir in params["extra_data"]]
    known = [known for _, known in sets] or [pd.DataFrame(columns=["person", "set", "known by"])]
    sources = [source for source, _ in sets]
    if params["pseudo_labels"]:
        sources.append(pseudo_labelled(params, data, keys))
    return sources, pd.concat(known, ignore_index=True)


def _other_set(work_dir: str, params: Mapping, data: TrainingSet) -> tuple[Source, pd.DataFrame]:
    folder = artefacts.resolve(work_dir)
    crops = open_crops(folder, **geometry(params))
    photos = with_crops(load_images(folder), crops, "train")
    known = _known(photos, data.images)
    others = photos[~photos["person"].isin(known["person"])]
    source = people_source(data.task, folder.name, others, crops, data.drop)
    return source, known.assign(set=folder.name)


def _known(photos: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """List people of ``photos`` who are in ``images`` by folder name, id or a photo's content."""
    train = images[images["split"] == "train"]
    reasons = {
        "folder name": photos["person"].isin(images["person"]),
        "id": photos["id"].isin(train["id"]),
        "photo": photos["sha256"].isin(images["sha256"].dropna()),
    }
    rows = [
        pd.DataFrame({"person": photos.loc[found, "person"].unique(), "known by": why})
        for why, found in reasons.items()
    ]
    return pd.concat(rows).drop_duplicates("person")


def pseudo_labelled(params: Mapping, data: TrainingSet, keys: pd.Index | None = None) -> Source:
    """Return the photos that an earlier submission is sure of, its probabilities as targets.

    They are the test photos, or those of the work folder ``pseudo_data`` that this set lacks.
    A photo counts where the largest probability of each attribute reaches its threshold. Inside a
    class numbers are spread as in the set's own photos of ``keys`` (None: all). The submission's
    runs must have had the same cuts.
    """
    name, crops, photos = _pseudo_photos(params, data)
    predictions = _submitted(params)
    predictions = predictions[predictions.index.isin(photos)]
    sure = predictions[_sure(data.task, predictions, params["pseudo_thresholds"])]
    if sure.empty:
        raise DataError(
            f"submission {params['pseudo_labels']!r} labels {len(predictions)} of the {name} (not "
            "counting copies of photos of this set), and none reaches pseudo_thresholds="
            f"{params['pseudo_thresholds']} ({SURE} by default): lower them, or name the "
            "pseudo_data that it was made for"
        )
    classes = {
        part: torch.tensor(sure[data.task.columns(part)].to_numpy(), dtype=torch.float32)
        for part in tables.parts(sure, data.task)
    }
    soft = targets.spread(data.task, classes, data.source(keys).targets, params["cuts"])
    return Source(f"pseudo-labelled {name}", crops, sure.index, soft)


def _pseudo_photos(params: Mapping, data: TrainingSet) -> tuple[str, Crops, pd.Index]:
    """Return name, crops and keys of the photos that may be pseudo-labelled.

    Copies of photos of this set are left out of others: they would be scored, or be test photos.
    """
    if not params["pseudo_data"]:
        return "test photos", data.crops, data.images.index
    folder = artefacts.resolve(params["pseudo_data"])
    photos = load_images(folder)
    known = photos["sha256"].isin(data.images["sha256"].dropna())
    return f"photos of {folder.name}", open_crops(folder, **geometry(params)), photos.index[~known]


def _submitted(params: Mapping) -> pd.DataFrame:
    """Return the probabilities of the submission that labels photos; it says what made it too."""
    table = artefacts.resolve(params["submissions_dir"]) / f"{params['pseudo_labels']}.parquet"
    for path in [table, *([table.with_suffix(".json")] if params["pseudo_data"] else [])]:
        if not path.exists():
            raise ArtefactError(f"{path} is missing: write that submission with notebook 04 first")
    return artefacts.read_parquet(table, "write that submission with notebook 04 again")


def _sure(task: Task, predictions: pd.DataFrame, thresholds: Mapping[str, float]) -> np.ndarray:
    task.learned(list(thresholds))  # names only attributes that there are
    return np.logical_and.reduce(
        [
            tables.probabilities(predictions, task, name).max(axis=1) >= thresholds.get(name, SURE)
            for name in task.names
        ]
    )


def joined_targets(sources: Sequence[Source]) -> Tensor:
    """Return the targets (N, ...) of all sources, in their order."""
    return torch.cat([source.targets for source in sources])


def overview(task: Task, sources: Sequence[Source]) -> pd.DataFrame:
    """Return a row per source: its photos, and how its targets are shared among the classes."""
    rows = {}
    for source in sources:
        shares = [targets.grouped(task, source.targets, name, {}).mean(0) for name in task.names]
        rows[source.name] = [len(source.keys), *torch.cat(shares).tolist()]
    columns = ["photos", *(text for name in task.names for text in task.classes(name))]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("source")


def classes(
    task: Task, sources: Sequence[Source], learn: Sequence[str], cuts: targets.Cuts
) -> Classes:
    """Return what a sampler balances: the likeliest classes of what is learned."""
    likeliest = targets.likeliest(task, joined_targets(sources), task.checked_cuts(cuts))
    learned = {name: likeliest[name] for name in task.learned(learn)}
    people = {name: learned[name] for name in task.per("person") if name in learned}
    labels = task.encode(learned)
    return Classes(labels, task.encode(people) if people else np.zeros_like(labels))
