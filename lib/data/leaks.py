"""Leaks: what lets a score say more than it knows, found and counted, with what it means."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.data.folds import ALWAYS_TRAINED
from lib.data.issues import duplicates

SHOWN = 3  # examples of each kind
TEST, ADDED = "test", "added"  # roles of photos, besides those of the folds
MEANING = {  # at most 50 characters, which is what pandas shows
    "people in two folds": "their models know them: make folds by person",
    "ids in two folds": "perhaps one human being: look at the photos",
    "identical photos in two folds": "trained on and scored: leave one of them out",
    "nearly identical photos in two folds": "perhaps one photo, saved twice: look at the pair",
    "identical photos in training and test": "flatters the leaderboard, not this run's score",
    "nearly identical photos in training and test": "perhaps one photo, saved twice: look at it",
    "added photos of scored people": "known by person or id: do not train on them",
    "added photos identical to scored ones": "trained on and scored: do not train on them",
    "added photos nearly identical to scored ones": "perhaps one photo, saved twice: look at it",
    "backbones normalised by other statistics": "take those of the pretraining, not of the data",
    "training that depends on validation": "counts scored people: count in training alone",
    "best epochs chosen on scored people": "too high by what lies between best and nested",
}


def report(
    images: pd.DataFrame,
    person_folds: pd.Series,
    added: Sequence[pd.DataFrame] = (),
    backbone: Any = None,
    histories: Mapping[int, pd.DataFrame] | None = None,
    depends: Sequence[str] = (),
) -> pd.DataFrame:
    """Return a row per kind of leak, found or not: count, examples, and what it means.

    ``person_folds`` is indexed by person. ``added`` are parts of images tables, trained on in every
    fold: photos of other sets, or pseudo-labelled ones. ``backbone`` is a model's, ``histories``
    are a run's. ``depends`` is what ``training_set.depends_on_validation`` has found.
    """
    photos = _with_roles(images, person_folds, added)
    own = photos[~photos["role"].isin([TEST, ADDED])]
    found = {
        "people in two folds": _in_two_folds(person_folds.groupby(level=0)),
        "ids in two folds": _in_two_folds(own[own["id"] != ""].groupby("id")["fold"]),
        **_copies(photos),
        "added photos of scored people": _known(photos),
        "backbones normalised by other statistics": normalised_otherwise(backbone),
        "training that depends on validation": list(depends),
        "best epochs chosen on scored people": _chosen(epoch_choice(histories or {})),
    }
    rows = [(kind, len(found[kind]), _some(found[kind]), text) for kind, text in MEANING.items()]
    return pd.DataFrame(rows, columns=["kind", "count", "examples", "what it means"])


def _some(found: list[str]) -> str:
    return ", ".join(found[:SHOWN]) + (", …" if len(found) > SHOWN else "")


def _with_roles(
    images: pd.DataFrame, person_folds: pd.Series, added: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    """Return the readable photos with role and fold; a person in two folds has rows for both."""
    folds = pd.DataFrame({"person": person_folds.index, "fold": person_folds.to_numpy()})
    train = images.reset_index().merge(folds.drop_duplicates(), on="person")
    tables = [train.assign(role="fold " + train["fold"].astype(str))]
    others = [(TEST, images[images["split"] == "eval"]), *((ADDED, table) for table in added)]
    tables += [table.reset_index().assign(role=r, fold=ALWAYS_TRAINED) for r, table in others]
    photos = pd.concat(tables, ignore_index=True)
    return photos[photos["status"] == "ok"]


def _in_two_folds(folds) -> list[str]:
    counts = folds.nunique()
    return counts.index[counts > 1].tolist()


def _copies(photos: pd.DataFrame) -> dict[str, list[str]]:
    """Return by kind of leak the pairs of photos that are alike and have two roles."""
    unique = photos.drop_duplicates("sha256").set_index("sha256", drop=False).rename_axis("key")
    near = duplicates(unique.drop(columns="key"))[["first", "second"]]
    same = pd.DataFrame({"first": unique.index, "second": unique.index})
    found: dict[str, list[str]] = {}
    for how, pairs in {"identical": same, "nearly identical": near}.items():
        both = _roles_of(pairs, photos)
        roles, scored = both[["role", "role_2"]], both[["fold", "fold_2"]].max(axis=1) >= 0
        added, test = ((roles == role).any(axis=1) for role in (ADDED, TEST))
        kinds = {
            f"{how} photos in two folds": ~added & ~test,
            f"{how} photos in training and test": ~added & test,
            f"added photos {how} to scored ones": added & scored,
        }
        found |= {kind: both["names"][chosen].tolist() for kind, chosen in kinds.items()}
    return found


def _roles_of(pairs: pd.DataFrame, photos: pd.DataFrame) -> pd.DataFrame:
    """Return each pair of contents with the photos of two roles that have them."""
    first = photos.drop_duplicates(["sha256", "role"])[["sha256", "key", "role", "fold"]]
    both = pairs.merge(first, left_on="first", right_on="sha256")
    both = both.merge(first, left_on="second", right_on="sha256", suffixes=("", "_2"))
    once = (both["first"] != both["second"]) | (both["role"] < both["role_2"])
    both = both[once & (both["role"] != both["role_2"])]
    return both.assign(names=both["key"] + " = " + both["key_2"])


def _known(photos: pd.DataFrame) -> list[str]:
    """Return added photos whose person or id is scored in some fold."""
    added, scored = photos[photos["role"] == ADDED], photos[photos["fold"] >= 0]
    person, ident = (added[name].isin(set(scored[name]) - {""}) for name in ("person", "id"))
    return added["key"][person | ident].tolist()


def normalised_otherwise(backbone: Any) -> list[str]:
    """Return the statistics of backbones that are not those of their pretraining."""
    found = []
    for k, model in enumerate(backbone.models if backbone is not None else []):
        for name in ("mean", "std"):
            used = getattr(backbone, f"{name}{k}").cpu().numpy().ravel() / 255
            if not np.allclose(used, model.pretrained_cfg[name]):
                found.append(f"{name} {used.round(3).tolist()} of backbone {k}")
    return found


def epoch_choice(histories: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return by fold the ``best`` epoch's score, and ``nested``: at the epoch best in other folds.

    Nobody who is scored by the second has chosen the epoch. It is NaN where there is one fold.
    """
    scores = pd.DataFrame({k: table.set_index("epoch")["score"] for k, table in histories.items()})
    scores = scores.dropna(axis=1, how="all")
    common = scores.dropna()
    nested = {
        fold: common[fold][common.drop(columns=fold).mean(axis=1).idxmax()]
        for fold in scores
        if len(scores.columns) > 1
    }
    both = {"best": scores.max(), "nested": pd.Series(nested, dtype=float)}
    return pd.DataFrame(both).sort_index()


def _chosen(choice: pd.DataFrame) -> list[str]:
    rows = choice.itertuples()
    return [f"fold {fold}: best {best:.3f}, nested {nested:.3f}" for fold, best, nested in rows]
