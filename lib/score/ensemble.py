"""Many prediction tables made into one: attributes joined, models voted over, or stacked.

``tables`` is everywhere a mapping of run name to prediction table; rows are joined on the photo's
key. A *member* is one model's table with each key once: an out-of-fold table is one member (each
photo was predicted by one model), a test table is a member per fold. Tables of several parts are
combined part by part.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from lib.errors import DataError, ParameterError, one_of, pick, some
from lib.score.metrics import predicted, truth
from lib.score.selection import LEARNED
from lib.task.attributes import LABEL, Task
from lib.task.tables import normalised, parts, probabilities

Tables = Mapping[str, pd.DataFrame]

FACTS = ("fold", "label", "person")  # what a table may carry next to its probabilities
FLOOR = 1e-7  # float32's resolution: no single 0 vetoes a class where logarithms are summed
TIE = 1e-6  # weight of the soft vote in rules that count: it settles ties, and nothing else
STACK_FOLDS = 5


def soft(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of probabilities: (M, N, C) and (M,) to (N, C)."""
    return np.tensordot(weights, members, axes=1)


def geometric(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted geometric mean (product of experts), not yet normalised."""
    return np.exp(soft(np.log(members.clip(FLOOR)), weights))


def hard(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return each class's share of the members' first choices; the soft vote settles ties."""
    choices = np.eye(members.shape[-1])[members.argmax(axis=-1)]
    return soft(choices, weights) + TIE * soft(members, weights)


def rank(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Borda counts: the mean over members of a class's rank within its photo.

    The soft vote settles ties. Ho, Hull & Srihari, Decision combination in multiple classifier
    systems, TPAMI 1994.
    """
    return soft(rankdata(members, axis=-1) - 1, weights) + TIE * soft(members, weights)


VOTES = {"soft": soft, "hard": hard, "rank": rank, "geometric": geometric}
COUNTED = ("hard", "rank")  # what these return are shares of votes, not probabilities
WAYS = (*VOTES, *LEARNED, "stacked")  # all choices of ``combine``, by how much they learn


def members(tables: Tables) -> dict[str, pd.DataFrame]:
    """Split tables whose keys repeat (test) into one per fold, named ``run/fold0``."""
    found = {}
    for run, table in tables.items():
        if table.index.is_unique:
            found[run] = table
        else:
            found |= {f"{run}/fold{fold}": member for fold, member in table.groupby("fold")}
    return found


def align(tables: Tables, task: Task) -> dict[str, pd.DataFrame]:
    """Return the tables with their rows in the key order of the first.

    DataError for keys that repeat, are missing or too many, and for probabilities that are gaps or
    do not sum to 1; ParameterError when there is no table.
    """
    if not tables:
        raise ParameterError("nothing to combine: name at least one run")
    first, reference = next(iter(tables.items()))
    for name, table in tables.items():
        _check_probabilities(name, table, task)
        repeated = table.index[table.index.duplicated()]
        if len(repeated):
            raise DataError(
                f"{name}: {some(repeated, 'keys')} repeated within one fold; predict each once"
            )
        _check_keys(name, table.index, first, reference.index)
    return {name: table.loc[reference.index] for name, table in tables.items()}


def _check_keys(name: str, found: pd.Index, first: str, keys: pd.Index) -> None:
    odd = {"lacks": keys.difference(found), "adds": found.difference(keys)}
    wrong = [f"{what} {some(these, 'keys')}" for what, these in odd.items() if len(these)]
    if wrong:
        raise DataError(
            f"{name} {' and '.join(wrong)}, compared with {first}; combine runs on the same photos"
        )


def _check_probabilities(name: str, table: pd.DataFrame, task: Task) -> None:
    for part in parts(table, task):
        sums = probabilities(table, task, part).sum(axis=1, skipna=False)
        wrong = ~np.isclose(sums, 1, atol=1e-3)  # NaN is never close
        if wrong.any():
            raise DataError(
                f"{name}: {some(table.index[wrong], 'keys')} whose probabilities do not sum to 1; "
                "predict this run again"
            )


def vote(tables: Tables, task: Task, method: str, weights: Sequence[float] = ()) -> pd.DataFrame:
    """Return one table with a row per photo, from out-of-fold tables or from test tables.

    ``method`` is one of VOTES. ``weights`` has a number per run, in the order of ``tables``
    (default: equal), shared by the run's folds. For "hard" the columns are shares of votes, for
    "rank" normalised Borda counts. ``label``, ``person`` and ``fold`` are kept where all members
    agree on them. Tables of some attributes only may vote too, if all have the same.
    """
    rule = pick(VOTES, method, "vote")
    aligned = align(members(tables), task)
    shares = _member_weights(tables, weights)
    return _by_part(aligned, task, lambda part: rule(_stacked(aligned, task, part), shares))


def _stacked(tables: Tables, task: Task, part: str) -> np.ndarray:
    """Return the probabilities of a part of all tables: (tables, photos, classes)."""
    return np.stack([probabilities(t, task, part).to_numpy(float) for t in tables.values()])


def _member_weights(tables: Tables, weights: Sequence[float]) -> np.ndarray:
    shares = np.asarray(list(weights) or [1] * len(tables), float)
    right = len(shares) == len(tables) and np.isfinite(shares).all() and (shares >= 0).all()
    if not right or not shares.sum():
        raise ParameterError(
            f"weights={list(weights)} must be {len(tables)} numbers from 0 up, one per run "
            f"({', '.join(tables)}), not all 0; or [] for equal weights"
        )
    folds = [len(members({run: table})) for run, table in tables.items()]
    return np.repeat(shares / folds, folds) / shares.sum()


def _by_part(tables: Tables, task: Task, combined: Callable[[str], np.ndarray]) -> pd.DataFrame:
    """Return the table of parts ``combined`` (N, C), normalised, with the facts of ``tables``."""
    kept = facts(tables)
    common = _common_parts(tables, task)
    frames = [pd.DataFrame(combined(p), kept.index, task.columns(p)) for p in common]
    return normalised(pd.concat(frames, axis=1), task).join(kept)


def _common_parts(tables: Tables, task: Task) -> list[str]:
    found = {name: parts(table, task) for name, table in tables.items()}
    first = next(iter(found.values()))
    if any(names != first for names in found.values()):
        raise ParameterError(
            f"runs that learned different things cannot vote together: {found}; join the runs that "
            "learned some attributes only first"
        )
    return first


def facts(tables: Tables) -> pd.DataFrame:
    """Return the FACTS on which all aligned tables agree; DataError for a label or a person."""
    first, reference = next(iter(tables.items()))
    agreed = [column for column in FACTS if all(column in table for table in tables.values())]
    for name, table in tables.items():
        for column in list(agreed):
            wrong = table.index[table[column] != reference[column]]
            if len(wrong) and column != "fold":
                raise DataError(
                    f"{first} and {name} disagree on the {column} of {some(wrong, 'keys')}; "
                    "combine runs on the same data"
                )
            if len(wrong):
                agreed.remove(column)
    return reference[agreed]


def join_attributes(tables: Tables, task: Task) -> pd.DataFrame:
    """Join tables that together have each attribute once into one table of everything.

    Rows are joined by key and fold. The label's probabilities are the product of its attributes'; a
    task too large for a table of labels keeps a table of all attributes. ParameterError if an
    attribute is missing or comes twice; DataError if keys, folds, labels or persons differ.
    """
    owners = _run_by_attribute(tables, task)
    keyed: Tables = {run: tables[run] for run in owners.values()}
    first = next(iter(keyed))
    for run, table in keyed.items():
        _check_keys(run, table.index.unique(), first, keyed[first].index.unique())
    if all("fold" in table for table in keyed.values()):
        keyed = _key_by_fold(keyed)
    aligned = align(keyed, task)
    shares = {name: probabilities(aligned[run], task, name) for name, run in owners.items()}
    frames = [_label_table(shares, task)] if task.joint else shares.values()
    joined = normalised(pd.concat(frames, axis=1), task).join(facts(aligned))
    return joined.reset_index("fold") if "fold" in joined.index.names else joined


def _label_table(shares: Tables, task: Task) -> pd.DataFrame:
    """Return the label's table: the outer product of tables by attribute, the last one fastest."""
    index = next(iter(shares.values())).index
    joint = np.ones((len(index), 1))
    for table in shares.values():
        joint = (joint[:, :, None] * table.to_numpy(float)[:, None, :]).reshape(len(index), -1)
    return pd.DataFrame(joint, index, task.columns(LABEL))


def _run_by_attribute(tables: Tables, task: Task) -> dict[str, str]:
    """Return the run of each attribute; ParameterError unless each attribute has exactly one."""
    known = {run: parts(table, task) for run, table in tables.items()}
    found = {name: [run for run in known if name in known[run]] for name in task.names}
    whole = [run for run in known if known[run] == [LABEL]]
    if whole or any(len(runs) != 1 for runs in found.values()):
        raise ParameterError(
            f"joining needs one run for each of {', '.join(task.names)}; found {found}"
            + (f" and runs that learned everything: {whole}" if whole else "")
            + "; train what is missing, vote over runs of the same attribute first"
        )
    return {name: runs[0] for name, runs in found.items()}


def _key_by_fold(tables: Tables) -> Tables:
    """Add the fold to the key; DataError that lists the people (or photos) in different folds."""
    keyed = {run: table.set_index("fold", append=True) for run, table in tables.items()}
    first, reference = next(iter(keyed.items()))
    for run, table in keyed.items():
        odd = reference.index.difference(table.index)
        if len(odd):
            photos = odd.get_level_values(0)
            moved = reference.loc[odd, "person"] if "person" in reference else photos
            raise DataError(
                f"{first} and {run} have different folds for {some(moved, 'keys')}; "
                "train them with the same seed and folds"
            )
    return keyed


def complete(tables: Tables, task: Task) -> dict[str, pd.DataFrame]:
    """Return tables of everything only: those of some attributes are joined into ``run+run``."""
    partial = {r: table for r, table in tables.items() if parts(table, task) != task.parts()}
    whole = {run: table for run, table in tables.items() if run not in partial}
    return {**whole, "+".join(partial): join_attributes(partial, task)} if partial else whole


def stack(oof: Tables, test: Tables, task: Task) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Stack: per part a logistic regression from the runs' log-probabilities to the true class.

    Returns (out-of-fold, test) tables. The out-of-fold table is cross-fitted over people (nobody is
    predicted by a regression that saw them), so its score is comparable with a vote's; the test
    table comes from one regression on all out-of-fold rows. A test table is first averaged over its
    folds. Wolpert 1992, Stacked generalization.
    """
    means = [{run: vote({run: tables[run]}, task, "soft") for run in oof} for tables in (oof, test)]
    known, unseen = (align(tables, task) for tables in means)
    fitted = _by_part(known, task, lambda part: _cross_fitted(known, task, part))
    return fitted, _by_part(unseen, task, lambda part: _fit(known, unseen, task, part))


def _cross_fitted(known: Tables, task: Task, part: str) -> np.ndarray:
    first = next(iter(known.values()))
    people = first["person"].nunique()
    if people < STACK_FOLDS:
        raise DataError(
            f"stacking is cross-fitted over at least {STACK_FOLDS} people, "
            f"this table has {people}; vote instead"
        )
    found = np.zeros((len(first), len(task.columns(part))))
    for split in GroupKFold(STACK_FOLDS).split(first, groups=first["person"]):
        seen, others = ({run: table.iloc[rows] for run, table in known.items()} for rows in split)
        found[split[1]] = _fit(seen, others, task, part)
    return found


def _fit(known: Tables, unseen: Tables, task: Task, part: str) -> np.ndarray:
    """Return (N, classes) probabilities of ``unseen``; 0 for classes without an example."""
    features, others = (
        np.hstack(np.log(_stacked(tables, task, part).clip(FLOOR))) for tables in (known, unseen)
    )
    found = np.zeros((len(others), len(task.columns(part))))
    true = truth(next(iter(known.values())), task)[part].to_numpy()
    classes = np.unique(true)
    if len(classes) == 1:
        found[:, classes] = 1
    elif len(others):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        with threadpool_limits(1):  # on a shared machine several threads wait for each other
            found[:, classes] = model.fit(features, true).predict_proba(others)
    return found


def learned_weights(oof: Tables, task: Task, method: str) -> dict[str, float]:
    """Return the weight of each run by a method of LEARNED; {} for a method that learns none.

    DataError without validated people.
    """
    if method not in LEARNED:
        return {}
    aligned = align(oof, task)
    first = next(iter(aligned.values()))
    if first.empty:
        raise DataError(f"vote={method!r} learns from validated people, there are none; take soft")
    known = [
        (_stacked(aligned, task, part), truth(first, task)[part].to_numpy())
        for part in _common_parts(aligned, task)
    ]
    weights = LEARNED[method](known, task.metric)
    return dict(zip(aligned, weights.tolist(), strict=True))


def combine(
    oof: Tables, test: Tables, task: Task, method: str, weights: Sequence[float] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the (out-of-fold, test) tables of one ensemble, ``method`` is one of WAYS.

    "best" and "greedy" are soft votes with ``learned_weights``: their out-of-fold table has rows
    that the weights were learned from (``nested`` has estimates without).
    """
    one_of(WAYS, method, "vote")
    if list(oof) != list(test):
        raise ParameterError(
            f"out-of-fold tables of {list(oof)} but test tables of {list(test)}: "
            "give the same runs in one order"
        )
    if method in VOTES:
        return vote(oof, task, method, weights), vote(test, task, method, weights)
    if len(weights):
        raise ParameterError(
            f"weights={list(weights)} mean nothing to vote={method!r}, which learns its own; "
            "set weights=[]"
        )
    if method == "stacked":
        return stack(oof, test, task)
    shares = list(learned_weights(oof, task, method).values())
    return vote(oof, task, "soft", shares), vote(test, task, "soft", shares)


def agreement(tables: Tables, task: Task) -> pd.DataFrame:
    """Return the share of photos for which two members predict the same: (members, members)."""
    aligned = align(members(tables), task)
    guesses = [predicted(table, task).to_numpy() for table in aligned.values()]
    same = [[(one == other).all(axis=1).mean() for other in guesses] for one in guesses]
    return pd.DataFrame(same, list(aligned), list(aligned))


def with_finals(voted: pd.DataFrame, models: int, finals: Tables, task: Task) -> pd.DataFrame:
    """Return the mean of a test table of so many ``models`` and of final runs' tables.

    Each model counts once. Folds are for estimating; a model that was trained on everyone has seen
    more people than a fold's, and a few of them cost less than as many folds.
    """
    if not finals:
        return voted
    whole = complete(finals, task)
    return vote({"voted": voted, **whole}, task, "soft", [models, *[1] * len(whole)])
