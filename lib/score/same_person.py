"""Which photos show one person: a metric learned on people who are known, and clusters in it.

The metric is probabilistic linear discriminant analysis: people differ from one another by one
normal distribution, photos of a person by another one, and the likelihood ratio of both says how
much more likely two photos are of one person than of two (Ioffe 2006, Probabilistic LDA, ECCV;
Prince & Elder 2007, Probabilistic LDA for inferences about identity, ICCV). Average linkage makes
clusters of it. Everything that is measured here was learned from other people.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import linkage
from scipy.linalg import eigh
from scipy.sparse import csr_array
from scipy.spatial.distance import squareform
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from lib.data.index import load_images
from lib.errors import DataError
from lib.face.faces import load_faces
from lib.score import appearance
from lib.score.groups import Weights

FOLDS = 5
FEWEST = 20  # people with several photos that a metric is learned from
DIMENSIONS = 200  # principal components of an appearance at most; a quarter of the photos if fewer
USUAL = 0.9  # share of the people who have no more photos than a cluster may
STEPS = np.linspace(0.005, 0.7, 30)  # thresholds that are tried: quantiles over pairs of one person
WRONG = 5.0  # squared: so many missed pairs cost as much as a wrong one; docs/real_oof.md


class Metric(NamedTuple):
    """A linear map of appearances to independent dimensions, of variance 1 within a person."""

    centre: np.ndarray  # (F,)
    axes: np.ndarray  # (F, D)
    between: np.ndarray  # (D,), the variance between people

    def place(self, features: np.ndarray) -> np.ndarray:
        """Return the places (N, D) of appearances, all as far from the centre as is expected.

        Garcia-Romero & Espy-Wilson 2011, Analysis of i-vector length normalization, Interspeech.
        """
        found = (features - self.centre) @ self.axes
        length = np.linalg.norm(found, axis=1, keepdims=True)
        return found * np.sqrt((self.between + 1).sum()) / length.clip(1e-9)

    def ratios(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return log-likelihood ratios (N, M) of one person against two."""
        b = self.between
        x, y = (self.place(values).astype(np.float32) for values in (first, second))
        alike, far = (np.float32(b / (2 * b + 1)), np.float32(b**2 / ((2 * b + 1) * (b + 1)) / 2))
        found = (x * alike) @ y.T
        found -= (x**2 @ far)[:, None]
        found -= y**2 @ far
        found += np.float32((np.log(b + 1) - np.log(2 * b + 1) / 2).sum())
        return found


def learn(features: np.ndarray, people: np.ndarray) -> Metric:
    """Return the metric of appearances (N, F) of known people (N,).

    Covariances are shrunk by Ledoit & Wolf 2004, so that few people are enough.
    """
    centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    scaled = (features - centre) / spread
    most = min(DIMENSIONS, *(len(scaled) // 4, scaled.shape[1]))
    basis = np.linalg.svd(scaled, full_matrices=False)[2][:most].T
    reduced = pd.DataFrame(scaled @ basis)
    inside = (reduced - reduced.groupby(people).transform("mean")).to_numpy()
    degrees = len(inside) / (len(inside) - len(np.unique(people)))
    within = ledoit_wolf(inside * np.sqrt(degrees), assume_centered=True)[0]
    total = ledoit_wolf(reduced.to_numpy(), assume_centered=True)[0]
    values, vectors = eigh(total, within)
    kept = values > 1 + 1e-3
    return Metric(centre, basis @ vectors[:, kept] / spread[:, None], values[kept] - 1)


def crossed(features: np.ndarray, people: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return ratios (N, N) of all photos, by metrics learned from people outside both folds.

    Within a fold, the ratios of all metrics that have not seen it are averaged.
    """
    numbers = np.unique(folds)
    found = np.zeros((len(features), len(features)), np.float32)
    for pair in combinations(numbers, 2):
        others = ~np.isin(folds, pair)
        metric = learn(features[others], people[others])
        for one, other in (pair, pair[::-1], (pair[0], pair[0]), (pair[1], pair[1])):
            rows, columns = np.flatnonzero(folds == one), np.flatnonzero(folds == other)
            share = 1 if one != other else 1 / (len(numbers) - 1)
            found[np.ix_(rows, columns)] += share * metric.ratios(features[rows], features[columns])
    return found


class Tree(NamedTuple):
    """Photos joined step by step by average linkage, with the mean ratio at which each step is."""

    steps: np.ndarray  # (N - 1, 2), photos are 0..N-1, step k is N + k
    ratios: np.ndarray  # (N - 1,)
    sizes: np.ndarray  # (N - 1,)

    def clusters(self, threshold: float, most: int) -> np.ndarray:
        """Return a cluster (N,) per photo: the largest of a ratio and a size that are allowed."""
        photos = len(self.steps) + 1
        found = np.arange(photos + len(self.steps))
        for step in np.flatnonzero((self.ratios >= threshold) & (self.sizes <= most))[::-1]:
            found[self.steps[step]] = found[photos + step]
        return np.unique(found[:photos], return_inverse=True)[1]


def tree(ratios: np.ndarray) -> Tree:
    """Return the tree of photos from their ratios (N, N), which are symmetric."""
    highest = float(ratios.max())
    joined = linkage(highest - squareform(ratios, checks=False), "average")
    return Tree(joined[:, :2].astype(int), highest - joined[:, 2], joined[:, 3].astype(int))


class Certainty:
    """How surely two photos of one cluster show one person: a regression on known people.

    It sees the odds of the pair, and the mean odds of that photo of the two that fits worse into
    the cluster. Where all pairs are right, or all wrong, it is that share (Laplace's estimate).
    """

    def __init__(self, evidence: np.ndarray, same: np.ndarray) -> None:
        self.share = (same.sum() + 1) / (len(same) + 2)
        self.model = None
        if 0 < same.sum() < len(same):
            self.model = make_pipeline(StandardScaler(), LogisticRegression()).fit(evidence, same)

    def of(self, evidence: np.ndarray) -> np.ndarray:
        """Return the probability (P,) that the photos of each pair are of one person."""
        if self.model is None or not len(evidence):
            return np.full(len(evidence), self.share)
        return self.model.predict_proba(evidence)[:, 1]


def pairs(clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second photo of all ordered pairs inside clusters (N,)."""
    photos = pd.DataFrame({"cluster": clusters, "photo": np.arange(len(clusters))})
    both = photos.merge(photos, on="cluster").query("photo_x != photo_y")
    return both["photo_x"].to_numpy(), both["photo_y"].to_numpy()


def evidence(odds: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return what ``Certainty`` sees (P, 2) of pairs of photos of one cluster."""
    found = odds[first, second].astype(float)
    means = pd.Series(found).groupby(first).mean().reindex(range(len(odds))).to_numpy()
    return np.stack([found, np.minimum(means[first], means[second])], axis=1)


def weighed(photos: int, first: np.ndarray, second: np.ndarray, shares: np.ndarray) -> csr_array:
    """Return weights (N, N): a photo counts 1 for itself, and ``shares`` for others of its cluster.

    Each row is divided by its sum.
    """
    own = np.arange(photos)
    entries = np.r_[np.ones(photos), shares], (np.r_[own, first], np.r_[own, second])
    found = csr_array(entries, shape=(photos, photos))
    return csr_array(found.multiply(1 / found.sum(axis=1)[:, None]))


def quality(clusters: np.ndarray, people: np.ndarray) -> pd.Series:
    """Return ``purity`` and ``completeness`` of clusters (N,), means over photos.

    Purity is the share of a photo's cluster that shows its person, completeness the share of its
    person's photos that are in its cluster. Bagga & Baldwin 1998, Algorithms for scoring
    coreference chains.
    """
    photos = pd.DataFrame({"cluster": clusters, "person": people})
    both = photos.groupby(["cluster", "person"])["person"].transform("size")
    by = {"purity": "cluster", "completeness": "person"}
    return pd.Series(
        {
            name: (both / photos.groupby(key)[key].transform("size")).mean()
            for name, key in by.items()
        }
    )


def worth(clusters: np.ndarray, people: np.ndarray) -> float:
    """Return the F measure of pairs in which a wrong pair costs more than a missed one (WRONG)."""
    photos = pd.DataFrame({"cluster": clusters, "person": people})
    made, true, right = (
        (sizes * (sizes - 1) / 2).sum()
        for sizes in (photos.value_counts(key) for key in ("cluster", "person", list(photos)))
    )
    return (WRONG**2 + 1) * right / (WRONG**2 * made + true) if made else 0.0


class Found(NamedTuple):
    """What was found among photos: weights, cluster by key, and quality where people are known."""

    weights: Weights
    clusters: pd.Series
    quality: pd.Series


class Rules(NamedTuple):
    """What known people teach about clusters of photos: lowest odds, largest size, certainty."""

    threshold: float
    most: int
    certainty: Certainty


class Grouping(NamedTuple):
    """Known photos grouped as if their people were not known, and test photos like them."""

    known: Found
    test: Found

    @property
    def weights(self) -> Weights:
        """The weights of all photos."""
        return self.known.weights.joined(self.test.weights)


def find(params: Mapping, group_test: str) -> Grouping | None:
    """Return groups of the photos that a run's parameters name; None for group_test="none"."""
    if group_test == "none":
        return None
    return grouped(*looks_of(params))


def looks_of(params: Mapping) -> tuple[pd.DataFrame, pd.Series]:
    """Return the appearances of a run's photos, and the person on each training photo."""
    images, faces = load_images(params["work_dir"]), load_faces(params["work_dir"])
    looks = appearance.load(images, faces, params["data_dir"], params["work_dir"])
    return looks, images.loc[images["split"] == "train", "person"]


def grouped(looks: pd.DataFrame, people: pd.Series) -> Grouping:
    """Return groups of photos by their ``looks``: of those with ``people`` (by key), and others.

    All known people are grouped together, so that they can be confused as test people can be. For
    each of FOLDS folds of them, threshold and certainty come from the other folds. DataError for
    fewer than FEWEST people with several photos.
    """
    people = people[people.index.isin(looks.index)]
    sizes = people.value_counts()
    if (sizes > 1).sum() < FEWEST:
        raise DataError(
            f"group_test='appearance' learns from at least {FEWEST} people with several photos, "
            f"there are {(sizes > 1).sum()}; set group_test='none'"
        )
    most = int(np.quantile(sizes, USUAL))
    test = looks[~looks.index.isin(people.index)]
    with threadpool_limits(1):
        known, rules = _known(looks.loc[people.index], people, most)
        metric = learn(looks.loc[people.index].to_numpy(), people.to_numpy())
        found = _test(test, metric, rules)
    return Grouping(known, found)


def prior(photos: int, most: int) -> float:
    """Return the log-odds that two of ``photos`` are of one person, who has ``most`` photos."""
    return float(np.log((most - 1) / max(photos - most, 1)))


def _known(looks: pd.DataFrame, people: pd.Series, most: int) -> tuple[Found, Rules]:
    """Return the groups of known photos, hidden from the rules of their fold, and rules of all."""
    values, names = looks.to_numpy(), people.to_numpy()
    folds = np.zeros(len(names), int)
    for fold, (_, held) in enumerate(GroupKFold(FOLDS).split(values, groups=names)):
        folds[held] = fold
    odds = crossed(values, names, folds) + prior(len(names), most)
    joined, found = tree(odds), []
    for fold in range(FOLDS):
        rules = _rules(odds, joined, names, folds != fold, most)
        first, second, shares = _shares(odds, joined, rules)
        mine = folds[first] == fold
        found.append((first[mine], second[mine], shares[mine]))
    weights = weighed(len(names), *map(np.concatenate, zip(*found, strict=True)))
    rules = _rules(odds, joined, names, folds >= 0, most)
    clusters = pd.Series(joined.clusters(rules.threshold, most), looks.index)
    return Found(Weights(looks.index, weights), clusters, quality(clusters, names)), rules


def _test(looks: pd.DataFrame, metric: Metric, rules: Rules) -> Found:
    """Return the groups of photos of unknown people."""
    photos, values = len(looks), looks.to_numpy()
    if photos < 2:
        alone = Weights(looks.index, weighed(photos, *np.zeros((3, 0), int)))
        return Found(alone, pd.Series(0, looks.index), pd.Series(dtype=float))
    odds = metric.ratios(values, values) + prior(photos, rules.most)
    joined = tree(odds)
    clusters = pd.Series(joined.clusters(rules.threshold, rules.most), looks.index)
    weights = Weights(looks.index, weighed(photos, *_shares(odds, joined, rules)))
    return Found(weights, clusters, pd.Series(dtype=float))


def _shares(odds: np.ndarray, joined: Tree, rules: Rules) -> tuple[np.ndarray, ...]:
    """Return all pairs inside clusters, and how surely each is of one person."""
    first, second = pairs(joined.clusters(rules.threshold, rules.most))
    return first, second, rules.certainty.of(evidence(odds, first, second))


def _rules(
    odds: np.ndarray, joined: Tree, people: np.ndarray, seen: np.ndarray, most: int
) -> Rules:
    """Return the rules that serve the photos ``seen`` (N, bool) best."""
    first, second = pairs(np.unique(people, return_inverse=True)[1])
    tried = np.quantile(odds[first, second][seen[first]], STEPS)
    scores = [worth(joined.clusters(step, most)[seen], people[seen]) for step in tried]
    threshold = float(tried[int(np.argmax(scores))])
    first, second = pairs(joined.clusters(threshold, most))
    known = seen[first] & seen[second]
    same = people[first] == people[second]
    certainty = Certainty(evidence(odds, first, second)[known], same[known])
    return Rules(threshold, most, certainty)
