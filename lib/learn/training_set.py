"""Who is trained on, and as what: everything here touches training folds alone; validation keeps people and official labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import artefacts
from lib.data.dataset import ATTRIBUTE_COLUMNS, load_images
from lib.errors import ArtefactError, DataError, ParameterError
from lib.face.crops import Crops, open_crops
from lib.task import targets
from lib.task.labels import AGE_GROUPS, ATTRIBUTES, OLD_FROM, PROBABILITIES, SHAPE, by_attribute, marginals


def with_crops(images: pd.DataFrame, crops: Crops, split: str) -> pd.DataFrame:
    """Return the photos of a split that have a crop; those that could not be read have none."""
    return images[(images["split"] == split) & images.index.isin(crops.keys)]


def test_keys(images: pd.DataFrame, crops: Crops) -> pd.Index:
    """Return the test photos; DataError, before hours of training, when one cannot be read: a submission needs each."""
    keys = images.index[images["split"] == "eval"]
    lost = keys.difference(crops.keys)
    if len(lost):
        raise DataError(
            f"{len(lost)} test photos cannot be read, such as {list(lost[:3])}, and a submission needs each: copy them again, "
            "then run notebooks 01 and 02"
        )
    return keys


def first_people(photos: pd.DataFrame, people: int, seed: int) -> pd.DataFrame:
    """Return the photos of ``people`` people, spread over gender x age group in turn (0: everyone)."""
    if not people:
        return photos
    table = photos.groupby("person")[["gender", "age_group"]].first().sample(frac=1, random_state=seed)
    turn = table.groupby(["gender", "age_group"]).cumcount().sort_values(kind="stable")
    return photos[photos["person"].isin(turn.index[:people])]


def shuffle_labels(photos: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Give every photo the labels of a random other one: what is learnt then must score at chance on official labels."""
    order = np.random.default_rng(seed).permutation(len(photos))
    return photos.assign(**{column: photos[column].to_numpy()[order] for column in ATTRIBUTE_COLUMNS})


def hard_targets(photos: pd.DataFrame) -> Tensor:
    """Return the joint one-hot targets (N, 3, 2, 43) of labelled photos."""
    return targets.joint(*(photos[column].to_numpy(int) for column in ("mask", "gender", "age")))


class Source(NamedTuple):
    """Photos that are trained on: where their crops are, which, and their joint soft targets (N, 3, 2, 43)."""

    name: str
    crops: Crops
    keys: pd.Index
    targets: Tensor


def of_people(name: str, photos: pd.DataFrame, crops: Crops, drop_ages: Sequence[int]) -> Source:
    """Return labelled photos as a source, without people of the ages listed."""
    kept = photos[~photos["age"].isin(list(drop_ages))]
    return Source(name, crops, kept.index, hard_targets(kept))


def joined_targets(sources: Sequence[Source]) -> Tensor:
    """Return the targets (N, 3, 2, 43) of all sources, in their order."""
    return torch.cat([source.targets for source in sources])


def overview(sources: Sequence[Source]) -> pd.DataFrame:
    """Return a row a source: photos, and the share of each age group among their targets."""
    ages = [targets.grouped(source.targets, OLD_FROM).sum((1, 2)).mean(0).tolist() for source in sources]
    counts = pd.Series([len(source.keys) for source in sources], [source.name for source in sources], name="photos")
    return pd.concat([counts, pd.DataFrame(ages, counts.index, list(AGE_GROUPS))], axis=1).rename_axis("source")


def classes(sources: Sequence[Source], task: str, old_from: int) -> np.ndarray:
    """Return the class (N,) that a sampler balances: the most likely of the 18 labels, or of the one attribute of ``task``."""
    labels = targets.grouped(joined_targets(sources), old_from).flatten(1).argmax(1).numpy()
    return labels if task == "all" else by_attribute(labels)[task]


def outsiders(work_dirs: Sequence[str], images: pd.DataFrame, geometry: Mapping) -> tuple[list[tuple], pd.DataFrame]:
    """Return (name, photos, crops) of other sets' training people less those already known here, and who those are."""
    found = [_outsiders(artefacts.resolve(work_dir), images, geometry) for work_dir in work_dirs]
    known = [known for *_, known in found] or [pd.DataFrame(columns=["person", "set", "known by"])]
    return [others for *others, _ in found], pd.concat(known, ignore_index=True)


def _outsiders(folder: Path, images: pd.DataFrame, geometry: Mapping) -> tuple[str, pd.DataFrame, Crops, pd.DataFrame]:
    crops = open_crops(folder, **geometry)
    photos = with_crops(load_images(folder), crops, "train")
    known = _known(photos, images)
    return folder.name, photos[~photos["person"].isin(known["person"])], crops, known.assign(set=folder.name)


def _known(photos: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """List people who are in ``images`` by folder name, id or a photo's content: validation may have them."""
    reasons = {
        "folder name": photos["person"].isin(images["person"]),
        "id": photos["id"].isin(images.loc[images["split"] == "train", "id"]),
        "photo": photos["sha256"].isin(images["sha256"].dropna()),
    }
    rows = [pd.DataFrame({"person": photos.loc[found, "person"].unique(), "known by": why}) for why, found in reasons.items()]
    return pd.concat(rows).drop_duplicates("person")


def pseudo_labelled(table: Path, thresholds: Mapping[str, float], crops: Crops, people: pd.DataFrame, old_from: int) -> Source:
    """Return the test photos that a submission is sure of, with its probabilities as soft targets.

    ``table`` is the submission's test table; a photo counts where each attribute's largest probability reaches its
    threshold. Years inside a group are spread as among ``people``; the groups are those of the
    cut that the runs behind it were trained with, which must be the one of this training, ``old_from``.
    """
    if not table.exists():
        raise ArtefactError(f"{table} is missing: write that submission with notebook 04 first")
    if set(thresholds) != set(ATTRIBUTES):
        raise ParameterError(f"pseudo_thresholds={dict(thresholds)} needs exactly the keys {', '.join(ATTRIBUTES)}")
    predictions = pd.read_parquet(table)
    likeliest = {name: frame.max(axis=1) for name, frame in marginals(predictions).items()}
    sure = np.logical_and.reduce([likeliest[name] >= level for name, level in thresholds.items()])
    if not sure.any():
        raise DataError(f"no test photo of {table.name} reaches pseudo_thresholds={dict(thresholds)}: lower them")
    groups = torch.tensor(predictions.loc[sure, list(PROBABILITIES)].to_numpy(), dtype=torch.float32).reshape(-1, *SHAPE)
    year_shares = hard_targets(people).sum((0, 1, 2))
    return Source(
        "pseudo-labelled test photos", crops, predictions.index[sure], targets.from_groups(groups, year_shares, old_from)
    )
