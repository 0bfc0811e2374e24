"""Many prediction tables made one: single tasks joined, models voted over, or stacked; always joined on the photo key.

``tables`` is everywhere a mapping of run name to prediction table. A *member* is one model's table, with each key once:
an out-of-fold table is one member (each photo was predicted by one model), a test table is a member a fold.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.errors import DataError, ParameterError, pick
from lib.score.metrics import TASK_COLUMNS, predicted, probabilities, task, truth
from lib.task.labels import ATTRIBUTES, PROBABILITIES

Tables = Mapping[str, pd.DataFrame]

FACTS = ("fold", "label", "person")  # what a table may carry beside its probabilities
FLOOR = 1e-7  # float32's resolution: no single 0 vetoes a class where logarithms are summed
TIE = 1e-6  # weight of the soft vote in rules that count: settles ties, changes nothing else
STACK_FOLDS = 5


def soft(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of probabilities: (M, N, C) and (M,) to (N, C)."""
    return np.tensordot(weights, members, axes=1)


def geometric(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted geometric mean (product of experts), not yet normalised."""
    return np.exp(soft(np.log(members.clip(FLOOR)), weights))


def hard(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return each class's share of the members' first choices; equal shares are settled by the soft vote."""
    choices = np.eye(members.shape[-1])[members.argmax(axis=-1)]
    return soft(choices, weights) + TIE * soft(members, weights)


def rank(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Borda counts: classes ranked within each photo, ranks averaged over members, ties settled by the soft vote.

    Ho, Hull & Srihari, Decision combination in multiple classifier systems, TPAMI 1994.
    """
    return soft(rankdata(members, axis=-1) - 1, weights) + TIE * soft(members, weights)


VOTES = {"soft": soft, "hard": hard, "rank": rank, "geometric": geometric}


def members(tables: Tables) -> dict[str, pd.DataFrame]:
    """Split tables whose keys repeat (test) into one table a fold, named ``run/fold0``; others are a member as they are."""
    return {name: part for run, table in tables.items() for name, part in _by_fold(run, table).items()}


def _by_fold(run: str, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    if table.index.is_unique:
        return {run: table}
    return {f"{run}/fold{fold}": part for fold, part in table.groupby("fold")}


def align(tables: Tables) -> dict[str, pd.DataFrame]:
    """Return the tables with their rows in the key order of the first.

    DataError for keys that repeat, are missing or too many, and for probabilities that are gaps or do not sum to 1;
    ParameterError when there is no table.
    """
    if not tables:
        raise ParameterError("nothing to combine: name at least one run")
    first, keys = next((name, table.index) for name, table in tables.items())
    for name, table in tables.items():
        _check_probabilities(name, table)
        if not table.index.is_unique:
            raise DataError(
                f"{name}: {_some(table.index[table.index.duplicated()])} repeated within one fold; predict each once"
            )
        _check_keys(name, table.index, first, keys)
    return {name: table.loc[keys] for name, table in tables.items()}


def _check_keys(name: str, found: pd.Index, first: str, keys: pd.Index) -> None:
    missing, extra = keys.difference(found), found.difference(keys)
    if len(missing) or len(extra):
        wrong = [f"{what} {_some(these)}" for what, these in (("lacks", missing), ("adds", extra)) if len(these)]
        raise DataError(f"{name} {' and '.join(wrong)}, compared with {first}; combine runs on the same photos")


def _check_probabilities(name: str, table: pd.DataFrame) -> None:
    wrong = ~np.isclose(probabilities(table).sum(axis=1, skipna=False), 1, atol=1e-3)  # NaN is never close
    if wrong.any():
        raise DataError(f"{name}: {_some(table.index[wrong])} whose probabilities do not sum to 1; predict this run again")


def _some(keys: Iterable) -> str:
    shown = list(dict.fromkeys(keys))
    return f"{len(shown)} keys ({', '.join(map(str, shown[:5]))}{', …' if len(shown) > 5 else ''})"


def vote(tables: Tables, method: str, weights: Sequence[float] = ()) -> pd.DataFrame:
    """Return one table, a row a photo, probabilities summing to 1, from out-of-fold or from test tables alike.

    ``method`` is one of VOTES; ``weights`` gives each run its say, in the order of ``tables`` (default: equal), shared
    by its folds. For "hard" the columns are shares of votes, for "rank" normalised Borda counts. ``label``, ``person``
    and ``fold`` are kept where all members agree on them. Also votes over tables of one and the same single task.
    """
    rule = pick(VOTES, method, "vote")
    parts = align(members(tables))
    _check_one_task(parts)
    stacked = np.stack([probabilities(part).to_numpy(float) for part in parts.values()])
    columns = probabilities(next(iter(parts.values()))).columns
    return _table(rule(stacked, _member_weights(tables, weights)), columns, parts)


def _member_weights(tables: Tables, weights: Sequence[float]) -> np.ndarray:
    say = np.asarray(list(weights) or [1] * len(tables), float)
    if len(say) != len(tables) or not np.isfinite(say).all() or (say < 0).any() or not say.sum():
        raise ParameterError(
            f"weights={list(weights)} must be {len(tables)} numbers from 0 up, one a run ({', '.join(tables)}), "
            "not all 0; or [] for equal weights"
        )
    folds = [len(_by_fold(run, table)) for run, table in tables.items()]
    return np.repeat(say / folds, folds) / say.sum()


def _check_one_task(tables: Tables) -> None:
    tasks = {name: task(table) for name, table in tables.items()}
    if len(set(tasks.values())) > 1:
        raise ParameterError(f"runs of different tasks cannot vote together: {tasks}; join the single-task runs first")


def _table(values: np.ndarray, columns: Sequence[str], parts: Tables) -> pd.DataFrame:
    """Normalise (N, C) values and put the keys and the facts of aligned ``parts`` beside them."""
    facts = _facts(parts)
    return pd.DataFrame(values / values.sum(axis=1, keepdims=True), facts.index, list(columns)).join(facts)


def _facts(parts: Tables) -> pd.DataFrame:
    """Return the columns of FACTS on which all aligned tables agree; DataError if they differ in a label or a person."""
    first, reference = next(iter(parts.items()))
    agreed = []
    for column in (c for c in FACTS if all(c in part for part in parts.values())):
        differ = {name: part.index[part[column] != reference[column]] for name, part in parts.items()}
        wrong = {name: keys for name, keys in differ.items() if len(keys)}
        if wrong and column != "fold":
            name, keys = next(iter(wrong.items()))
            raise DataError(f"{first} and {name} disagree on the {column} of {_some(keys)}; combine runs on the same data")
        agreed += [] if wrong else [column]
    return reference[agreed]


def join_attributes(tables: Tables) -> pd.DataFrame:
    """Multiply three single-task tables (mask, gender, age; any order) into one 18-column table, key by key, fold by fold.

    ParameterError if an attribute is missing or comes twice; DataError if keys, folds, labels or persons differ.
    """
    runs = _run_by_attribute(tables)
    keyed = {run: tables[run] for run in runs.values()}
    for run, table in keyed.items():
        _check_keys(run, table.index.unique(), runs["mask"], tables[runs["mask"]].index.unique())
    if all("fold" in table for table in keyed.values()):
        keyed = _key_by_fold(keyed)
    parts = align(keyed)
    mask, gender, age = (probabilities(part).to_numpy(float) for part in parts.values())
    joint = np.einsum("nm,ng,na->nmga", mask, gender, age).reshape(len(mask), -1)
    joined = _table(joint, PROBABILITIES, parts)
    return joined.reset_index("fold") if "fold" in joined.index.names else joined


def _run_by_attribute(tables: Tables) -> dict[str, str]:
    """Return ``{"mask": run, "gender": run, "age": run}``; ParameterError unless each attribute has exactly one run."""
    found = {attribute: [run for run, table in tables.items() if task(table) == attribute] for attribute in ATTRIBUTES}
    strangers = [run for run, table in tables.items() if task(table) not in ATTRIBUTES]
    if strangers or any(len(runs) != 1 for runs in found.values()):
        raise ParameterError(
            f"joining needs one single-task run for each of {', '.join(ATTRIBUTES)}; found {found}"
            + (f" and 18-class runs {strangers}" if strangers else "")
            + "; train what is missing, vote over runs of the same attribute first"
        )
    return {attribute: runs[0] for attribute, runs in found.items()}


def _key_by_fold(tables: Tables) -> Tables:
    """Add the fold to the key; DataError that lists whom (else which photos) the tables put into different folds."""
    keyed = {run: table.set_index("fold", append=True) for run, table in tables.items()}
    first, reference = next(iter(keyed.items()))
    for run, table in keyed.items():
        odd = reference.index.difference(table.index)
        if len(odd):
            whom = reference.loc[odd, "person"] if "person" in reference else odd.get_level_values(0)
            raise DataError(
                f"{first} and {run} have different folds for {_some(whom)}; train them with the same seed and folds"
            )
    return keyed


def complete(tables: Tables) -> dict[str, pd.DataFrame]:
    """Return 18-column tables only: single-task runs joined into one named ``run+run+run``, the others as they are."""
    single = {run: table for run, table in tables.items() if task(table) in ATTRIBUTES}
    whole = {run: table for run, table in tables.items() if run not in single}
    return {**whole, "+".join(single): join_attributes(single)} if single else whole


def stack(oof: Tables, test: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Stack: logistic regression from the runs' log-probabilities to the label; returns (out-of-fold, test) tables.

    The out-of-fold table is cross-fitted over people (no person is predicted by a regression that saw them), so its
    score is comparable with a vote's; the test table comes from one regression on all out-of-fold rows. Wolpert 1992,
    Stacked generalization. A test table is first averaged over its folds.
    """
    features, parts = _log_probabilities(oof)
    test_features, test_parts = _log_probabilities({run: test[run] for run in oof})
    first = next(iter(parts.values()))
    labels, columns = truth(first), TASK_COLUMNS[task(first)]
    crossed = np.zeros((len(labels), len(columns)))
    for train, valid in _people_folds(first).split(features, groups=first["person"]):
        crossed[valid] = _fit(features[train], labels[train], features[valid], len(columns))
    final = _fit(features, labels, test_features, len(columns))
    return _table(crossed, columns, parts), _table(final, columns, test_parts)


def _people_folds(oof: pd.DataFrame) -> GroupKFold:
    people = oof["person"].nunique()
    if people < STACK_FOLDS:
        raise DataError(f"stacking is cross-fitted over at least {STACK_FOLDS} people, this table has {people}; vote instead")
    return GroupKFold(STACK_FOLDS)


def _log_probabilities(tables: Tables) -> tuple[np.ndarray, dict[str, pd.DataFrame]]:
    """Return (N, runs x C) features and the aligned tables, one a run, that they come from."""
    parts = align({run: vote({run: table}, "soft") for run, table in tables.items()})
    return np.hstack([np.log(probabilities(part).clip(FLOOR)) for part in parts.values()]), parts


def _fit(features: np.ndarray, labels: np.ndarray, unseen: np.ndarray, classes: int) -> np.ndarray:
    """Fit on (features, labels) and return (N, classes) probabilities of ``unseen``; 0 for classes without an example."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
    found = np.zeros((len(unseen), classes))
    found[:, model.classes_] = model.predict_proba(unseen)
    return found


def combine(oof: Tables, test: Tables, method: str, weights: Sequence[float] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the (out-of-fold, test) tables of one ensemble: a vote of VOTES for both alike, or "stacked"."""
    pick({**VOTES, "stacked": stack}, method, "vote")
    if list(oof) != list(test):
        raise ParameterError(
            f"out-of-fold tables of {list(oof)} but test tables of {list(test)}: give the same runs in one order"
        )
    if method != "stacked":
        return vote(oof, method, weights), vote(test, method, weights)
    if len(weights):
        raise ParameterError(f"weights={list(weights)} mean nothing to vote='stacked', which learns its own; set weights=[]")
    return stack(oof, test)


def agreement(tables: Tables) -> pd.DataFrame:
    """Return the share of photos on which each two members predict the same class: (members, members), 1 on the diagonal."""
    classes = pd.DataFrame({name: predicted(part) for name, part in align(members(tables)).items()})
    return classes.corr(method=lambda a, b: float((a == b).mean()))
