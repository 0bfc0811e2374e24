"""Which recorded labels look wrong: candidates for a correction, ranked over all attributes.

What a photo shows is judged by out-of-fold probabilities: by models that have not been trained on
its person. An attribute of people is wrong for all photos of a person or for none, so the evidence
of the photos is joined. An attribute of photos of which people have the same number of each class
is wrong in pairs: two photos of a person were exchanged. Elsewhere a photo stands alone.

Temperature scaling (Guo et al. 2017, On calibration of modern neural networks, arXiv 1706.04599)
makes the evidence of attributes comparable: where a model often errs, it counts less. Which cases
would be called errors is decided by cleanlab (Northcutt et al. 2021, Confident learning, JAIR 70,
arXiv 1911.00068).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import t as student_t

from lib.data.relabel import COLUMNS as RELABEL
from lib.errors import DataError, some
from lib.task.attributes import Attribute, Task
from lib.task.tables import attributes, probabilities

COLUMNS = ["person", "field", "from", "to", "score", "confident", "photos"]
MISLEADING = 0.1  # share of photos that show nothing, such as a turned head: it limits each photo
SHARPNESS = (0.01, 10.0)  # range of the inverse temperature
TAILS = 4  # degrees of freedom of how far looks lie from numbers: far ones occur


class Cases(NamedTuple):
    """N cases of an attribute, each a person or a photo, and what the photos say.

    ``evidence`` (N, C) are log probabilities up to a constant per case, ``given`` (N,) the recorded
    class, ``numbers`` (N,) what is recorded. ``photos[n][c]`` are the keys of the photos whose
    label changes if c is right.
    """

    evidence: np.ndarray
    given: np.ndarray
    numbers: np.ndarray
    photos: list[list[list[str]]]


def candidates(oof: pd.DataFrame, images: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the best correction of each person and attribute, the most likely error first.

    Columns: ``person``, ``field``, ``from`` and ``to`` (class names), ``score`` (log odds of ``to``
    against what is recorded), ``confident`` (whether cleanlab calls it an error) and ``photos``
    (the keys that change; of an exchange two: the second one goes from ``to`` to ``from``).
    DataError when ``images`` lacks photos of the table.
    """
    missing = oof.index.difference(images.index)
    if len(missing):
        raise DataError(
            f"the images table lacks {some(missing, 'keys')} of the out-of-fold table: "
            "give the one in the work_dir that the run was trained with"
        )
    photos = images.loc[oof.index]
    tables = [
        _field(probabilities(oof, task, name), photos, task[name]) for name in attributes(oof, task)
    ]
    found = pd.concat(tables).sort_values("score", ascending=False, kind="stable")
    return found.drop_duplicates(["person", "field"]).reset_index(drop=True)


def _field(shares: pd.DataFrame, photos: pd.DataFrame, attribute: Attribute) -> pd.DataFrame:
    """Return the candidates of one attribute from its probabilities (photos, C)."""
    limited = (1 - MISLEADING) * shares + MISLEADING / shares.shape[1]
    cases = _cases(np.log(limited.astype(float)), photos, attribute)
    own = cases.given[:, None]
    logs = calibrated(cases.evidence, cases.given)
    odds = logs - np.take_along_axis(logs, own, 1)
    if attribute.ordered:
        odds = odds_of_numbers(np.exp(logs), cases.numbers, attribute)
    confident = called_errors(logs, cases.given)
    np.put_along_axis(logs, own, -np.inf, 1)
    to = logs.argmax(axis=1)
    keys = [changed[c] for changed, c in zip(cases.photos, to, strict=True)]
    columns = {
        "person": photos.person[[changed[0] for changed in keys]].to_numpy(),
        "field": attribute.name,
        "from": np.take(attribute.classes, cases.given),
        "to": np.take(attribute.classes, to),
        "score": np.take_along_axis(odds, to[:, None], 1)[:, 0],
        "confident": confident,
        "photos": keys,
    }
    return pd.DataFrame(columns, columns=COLUMNS).query("score > -inf")


def _cases(logs: pd.DataFrame, photos: pd.DataFrame, attribute: Attribute) -> Cases:
    """Return the cases of an attribute from log probabilities (photos, C) of its classes."""
    facts = pd.DataFrame({"person": photos.person, "number": photos[attribute.name].astype(int)})
    facts["given"] = attribute.group(facts.number)
    if attribute.per == "person":
        return _by_person(logs, facts)
    if has_fixed_counts(facts.person, facts.given):
        return _by_exchange(logs, facts)
    alone = [[[key]] * logs.shape[1] for key in logs.index]
    return Cases(logs.to_numpy(), facts.given.to_numpy(), facts.number.to_numpy(), alone)


def _by_person(logs: pd.DataFrame, facts: pd.DataFrame) -> Cases:
    """Join a person's photos by their mean: temperature makes up for how much they differ."""
    people = facts.groupby("person", sort=False)
    first = people[["given", "number"]].first()
    photos = [[list(keys)] * logs.shape[1] for keys in people.groups.values()]
    evidence = logs.groupby(facts.person, sort=False).mean().loc[list(people.groups)]
    first = first.loc[evidence.index]
    return Cases(evidence.to_numpy(), first.given.to_numpy(), first.number.to_numpy(), photos)


def has_fixed_counts(person: pd.Series, given: pd.Series) -> bool:
    """Tell whether most people have the same number of photos of each of several classes."""
    counts = pd.crosstab(person, given).value_counts(normalize=True)
    return bool(counts.iloc[0] > 0.5 and np.count_nonzero(counts.index[0]) > 1)


def _by_exchange(logs: pd.DataFrame, facts: pd.DataFrame) -> Cases:
    """Let a photo take a class only if a photo of that class, the best one, takes its label."""
    own, given, keys = logs.to_numpy(), facts.given.to_numpy(), logs.index.to_numpy()
    evidence, classes = own.copy(), range(own.shape[1])
    photos = [[[key] for _ in classes] for key in keys]
    for rows in facts.groupby("person", sort=False).indices.values():
        for row in rows:
            old = given[row]
            for new in set(classes) - {old}:
                gains = np.where(given[rows] == new, own[rows, old] - own[rows, new], -np.inf)
                evidence[row, new] += gains.max()
                photos[row][new].append(keys[rows[gains.argmax()]])
    return Cases(evidence, given, facts.number.to_numpy(), photos)


def calibrated(evidence: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return log probabilities (N, C), at the temperature at which they fit ``given`` best."""

    def loss(sharpness: float) -> float:
        logs = log_softmax(sharpness * evidence, axis=1)
        return -np.take_along_axis(logs, given[:, None], 1).mean()

    return log_softmax(minimize_scalar(loss, bounds=SHARPNESS).x * evidence, axis=1)


def odds_of_numbers(shares: np.ndarray, numbers: np.ndarray, attribute: Attribute) -> np.ndarray:
    """Return log odds (N, C) of any number of a group against the recorded number.

    Near a cut people look like the other group without an error, so the number that a person looks
    like (the mean over ``shares`` (N, C) of groups) is compared with the line on which the looks of
    all recorded ``numbers`` lie, its distance being distributed as Student's t.
    """
    values = np.array(attribute.recorded)
    groups = np.eye(len(attribute.classes))[attribute.group(values)]  # (size, C), 0 or 1
    groups /= groups.sum(axis=0)
    looks, known = shares @ (values @ groups), numbers.clip(values[0], values[-1])
    line = np.polynomial.Polynomial.fit(known, looks, 1)
    spread = max(np.std(looks - line(known)), 1)  # what is recorded in whole numbers
    density = student_t.pdf((looks[:, None] - line(values)) / spread, TAILS)
    own = density[np.arange(len(known)), known - attribute.first]
    return np.log(density @ groups / own[:, None])


def called_errors(logs: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return which of N cases cleanlab's confident joint counts as errors, of log probabilities.

    Where a class is hard to tell, difficult cases are counted too.
    """
    return find_label_issues(given, np.exp(logs), filter_by="confident_learning", n_jobs=1)


def to_relabel(found: pd.DataFrame, images: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the rows of a relabel file for some candidates; an exchange is two rows.

    Columns: id, field, from, to, person, score. A number becomes the nearest one of the proposed
    group: no more is known. A row acts on all photos of an id with one recorded value, so a
    candidate that shares them with other photos or people is left out.
    """
    train = images[images.split == "train"]
    rows = [row for one in found.to_dict("records") for row in _rows(one, train, task)]
    return pd.DataFrame(rows, columns=[*RELABEL, "person", "score"])


def _rows(one: Mapping, train: pd.DataFrame, task: Task) -> list[tuple]:
    """Return the relabel rows of a candidate; none where they would change other photos too."""
    attribute, ident = task[one["field"]], train.id[one["photos"][0]]
    numbers = train[attribute.name][one["photos"]].astype(int).unique()
    meant = train[(train.id == ident) & train[attribute.name].isin(numbers)]
    right = meant.person == one["person"]
    if attribute.per == "photo":
        right &= meant.index.isin(one["photos"])
    if not right.all():
        return []
    classes = {one["from"]: one["to"], one["to"]: one["from"]}
    rows = []
    for old in map(int, numbers):
        group = classes[attribute.classes[attribute.group(old)]]
        texts = attribute.text(old), attribute.text(nearest_number(attribute, old, group))
        rows.append((ident, attribute.name, *texts, one["person"], round(one["score"], 3)))
    return rows


def nearest_number(attribute: Attribute, number: int, name: str) -> int:
    """Return the recorded number of a class, given by name, that is nearest to ``number``."""
    group = attribute.classes.index(name)
    members = [value for value in attribute.recorded if attribute.group(value) == group]
    return min(members, key=lambda value: abs(value - number))
