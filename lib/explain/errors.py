"""Where a model errs: by what is known of a photo, how sure it is, and what an error costs.

Every table takes an out-of-fold table ``oof`` (index: key) of a run or of an ensemble. Intervals
are the middle 95 % of a bootstrap over people (``lib.score.intervals``).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.errors import DataError
from lib.score import intervals, metrics
from lib.score.ensemble import combine, complete
from lib.score.metrics import wrong
from lib.score.predict import viewed
from lib.score.runs import Run
from lib.task.attributes import LABEL, Attribute, Task
from lib.task.tables import attributes, parts, probabilities

CONFIDENCE_BINS = 15  # of equal width, as in Guo et al. 2017
FEWEST = 5  # people that an interval needs: with fewer it would only say who they are


def out_of_fold(
    members: Mapping[str, Run], task: Task, vote: str, weights: Sequence[float], tta: str
) -> pd.DataFrame:
    """Return the out-of-fold table of one run as it is, or of several as notebook 04 combines them.

    DataError when nobody was validated.
    """
    oof, test = (
        {name: viewed(run, split, tta) for name, run in members.items()}
        for split in ("oof", "test")
    )
    if any(table.empty for table in oof.values()):
        raise DataError(
            f"runs={list(members)}: nobody was validated, so no error is known; "
            "train with split: kfold or holdout"
        )
    if len(oof) == 1:
        return next(iter(oof.values()))
    return combine(complete(oof, task), complete(test, task), task, vote, weights)[0]


def names(oof: pd.DataFrame, task: Task) -> list[str]:
    """Return what is analysed: the label, where it says more than an attribute, and attributes."""
    whole = [LABEL] if parts(oof, task) == [LABEL] and len(task.names) > 1 else []
    return [*whole, *attributes(oof, task)]


def scores(oof: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the task's metric of all parts, and of each attribute, with intervals."""
    points, weights = metrics.summary(oof, task), intervals.resample(intervals.strata(oof, task))
    names = {"everything": "", **{name: name for name in attributes(oof, task)}}
    drawn = {row: intervals.scores(oof, task, weights, name=name) for row, name in names.items()}
    found = {row: points[name or task.metric] for row, name in names.items()}
    return pd.DataFrame({task.metric: found}).join(intervals.interval(pd.DataFrame(drawn)))


def rates(wrong: pd.Series, groups: pd.Series, oof: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the share of True in each group, with ``low``, ``high``, ``photos`` and ``people``.

    The three frames are aligned on the key; a photo whose group is missing is left out. Groups of
    fewer than FEWEST people have no interval.
    """
    facts = pd.DataFrame({"group": groups.reindex(oof.index), "wrong": wrong, "person": oof.person})
    by_person = facts.groupby(["person", "group"], observed=True)["wrong"].agg(["sum", "size"])
    everyone = np.unique(oof["person"])  # the order in which ``strata`` lists people
    errors, photos = (by_person[of].unstack().reindex(everyone).fillna(0) for of in ("sum", "size"))
    weights = intervals.resample(intervals.strata(oof, task))
    with np.errstate(invalid="ignore"):  # a draw without anyone of a group says nothing of it
        drawn = (weights @ errors.to_numpy(float)) / (weights @ photos.to_numpy(float))
    found = pd.DataFrame({"share": errors.sum() / photos.sum()})
    found = found.join(intervals.interval(pd.DataFrame(drawn, columns=found.index)))
    found["photos"], found["people"] = photos.sum().astype(int), (photos > 0).sum()
    found.loc[found["people"] < FEWEST, ["low", "high"]] = np.nan
    return found


def recorded(oof: pd.DataFrame, task: Task, images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the error rate by recorded number, of each ordered attribute that the table has."""
    odd = wrong(oof, task)
    return {
        name: rates(odd[name], images[name].reindex(oof.index).astype(int), oof, task)
        for name in odd
        if task[name].ordered
    }


def factors(
    oof: pd.DataFrame, task: Task, images: pd.DataFrame, faces: pd.DataFrame, bins: int
) -> dict[str, pd.Series]:
    """Return what photos are grouped by: classes recorded per photo, detection, brightness.

    Brightness is the mean grey value in ``bins`` groups of about as many photos each.
    """
    photos = images.loc[oof.index]
    states = {
        name: pd.Series(np.take(task[name].classes, codes.astype(int)), codes.index)
        for name, codes in task.groups(photos).items()
        if task[name].per == "photo"
    }
    light = pd.qcut(photos["brightness"].astype(float), bins, duplicates="drop", precision=0)
    edges = light.cat.rename_categories(lambda span: f"{span.left:.0f} to {span.right:.0f}")
    return {**states, "detection": faces["status"].reindex(oof.index), "brightness": edges}


def by_factor(oof: pd.DataFrame, task: Task, groups: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Return the error ``rates`` of every attribute: a row per factor, group and attribute."""
    odd = wrong(oof, task)
    found = {
        (factor, name): rates(odd[name], group, oof, task)
        for factor, group in groups.items()
        for name in odd
    }
    return pd.concat(found, names=["factor", "attribute", "group"]).reset_index()


def confidence(oof: pd.DataFrame, task: Task, name: str) -> pd.DataFrame:
    """Return the probability of the predicted class, and whether it is right, of each photo."""
    chances = probabilities(oof, task, name).to_numpy(float)
    right = chances.argmax(axis=1) == metrics.truth(oof, task)[name]
    return pd.DataFrame({"confidence": chances.max(axis=1), "right": right}, oof.index)


def reliability(oof: pd.DataFrame, task: Task, name: str) -> pd.DataFrame:
    """Return a row per bin of confidence: ``confidence`` (mean), ``right`` (share), interval."""
    sure = confidence(oof, task, name)
    bins = _bins(sure["confidence"])
    found = rates(sure["right"], bins, oof, task).rename(columns={"share": "right"})
    return found.assign(confidence=sure["confidence"].groupby(bins).mean()).rename_axis("bin")


def _bins(confidence: pd.Series) -> pd.Series:
    """Return the bin of each confidence: bin k holds those above k / 15, up to (k + 1) / 15."""
    return np.ceil(confidence * CONFIDENCE_BINS).clip(1, CONFIDENCE_BINS).astype(int) - 1


def calibration_error(oof: pd.DataFrame, task: Task, name: str) -> pd.Series:
    """Return the expected calibration error: ``ece``, ``low`` and ``high``.

    That is the mean distance between confidence and share of right photos over bins, weighted by
    their photos. Guo et al. 2017, On calibration of modern neural networks, arXiv 1706.04599.
    """
    sure = confidence(oof, task, name)
    gaps = (sure["confidence"] - sure["right"]).groupby([oof["person"], _bins(sure["confidence"])])
    sums = gaps.sum().unstack(fill_value=0.0).to_numpy()
    photos = oof.groupby("person").size().to_numpy()
    weights = intervals.resample(intervals.strata(oof, task))
    drawn = np.abs(weights @ sums).sum(axis=1) / (weights @ photos)
    ece = np.abs(sums.sum(axis=0)).sum() / photos.sum()
    low, high = intervals.interval(drawn).iloc[0]
    return pd.Series({"ece": ece, "low": low, "high": high}, name=name)


def calibration(oof: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the ``calibration_error`` of the label and of each attribute of the table."""
    return pd.DataFrame([calibration_error(oof, task, name) for name in names(oof, task)])


def worst(oof: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the photo on which each person is most confidently wrong, the surest first.

    Columns: ``person``, ``confidence`` (the largest probability of a wrong class of an attribute),
    ``wrong_photos``, ``photos`` (of that person), ``errors`` (what was said, and what is recorded).
    """
    odd = wrong(oof, task)
    guess, true = (of(oof, task)[list(odd)] for of in (metrics.predicted, metrics.truth))
    sure, lines = pd.Series(0.0, oof.index), pd.Series("", oof.index)
    for name in odd:
        chances, rows = probabilities(oof, task, name).to_numpy(float), np.arange(len(oof))
        said, was = chances[rows, guess[name]], chances[rows, true[name]]
        sure = sure.where(~odd[name] | (sure > said), said)
        says, truly = (np.take(task[name].classes, codes[name]) for codes in (guess, true))
        told = zip(says, said, truly, was, strict=True)
        text = [f"{a} {p:.2f}\nis {b} {q:.2f}\n" for a, p, b, q in told]
        lines += pd.Series(text, oof.index).where(odd[name], "")
    counts = odd.any(axis=1).groupby(oof["person"]).agg(wrong_photos="sum", photos="size")
    facts = pd.DataFrame({"person": oof["person"], "confidence": sure, "errors": lines.str.strip()})
    first = facts[odd.any(axis=1)].sort_values("confidence", ascending=False, kind="stable")
    return first.drop_duplicates("person").join(counts, on="person")


def what_if(oof: pd.DataFrame, task: Task, images: pd.DataFrame, near: int) -> pd.DataFrame:
    """Return what the metric would be without some of the errors, with the interval of the gain.

    Rows: as it is; each attribute always right; each ordered attribute right where the recorded
    number is one of the ``near`` on either side of a cut. Other attributes keep their errors.
    """
    odd = wrong(oof, task)
    cases = {"as it is": oof}
    for name in odd:
        cases[f"{name} always right"] = corrected(oof, task, name, odd[name])
    for attribute in (task[name] for name in odd if task[name].ordered):
        close = near_cut(attribute, images[attribute.name].reindex(oof.index), near)
        case = f"{attribute.name} right within {near} of a cut"
        cases[case] = corrected(oof, task, attribute.name, odd[attribute.name] & close)
    drawn = intervals.samples(cases, task)
    found = pd.DataFrame(
        {task.metric: {k: metrics.score(table, task) for k, table in cases.items()}}
    )
    found["gain"] = found[task.metric] - found[task.metric].iloc[0]
    return found.join(intervals.interval(drawn.sub(drawn["as it is"], axis=0)))


def near_cut(attribute: Attribute, numbers: pd.Series, near: int) -> pd.Series:
    """Return whether each recorded number is among the ``near`` on either side of a cut."""
    close = [(numbers >= cut - near) & (numbers < cut + near) for cut in attribute.cuts]
    return pd.concat(close, axis=1).any(axis=1)


def corrected(oof: pd.DataFrame, task: Task, name: str, rows: pd.Series) -> pd.DataFrame:
    """Return the table with one attribute right in some rows and all other predictions kept.

    The probabilities of the predicted class and of the true class change places there.
    """
    guess, true = (of(oof, task)[name].to_numpy() for of in (metrics.predicted, metrics.truth))
    part = LABEL if parts(oof, task) == [LABEL] else name
    shape = task.shape if part == LABEL else (len(task[name].classes),)
    axis = task.names.index(name) if part == LABEL else 0
    columns, photos = task.columns(part), np.flatnonzero(rows)
    values = np.array(oof[columns], float)  # a copy that may be written to
    cube = np.moveaxis(values.reshape(-1, *shape), 1 + axis, 1)  # a view: writes reach ``values``
    said, was = (photos, guess[photos]), (photos, true[photos])
    cube[said], cube[was] = cube[was], cube[said].copy()
    return oof.assign(**dict(zip(columns, values.T, strict=True)))
