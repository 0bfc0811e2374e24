import numpy as np
import pytest
from conftest import TASK

from lib.errors import ParameterError
from lib.learn import samplers

COUNTS = {
    0: 50,
    1: 40,
    2: 5,
    3: 60,
    4: 70,
    5: 8,
    6: 10,
    9: 12,
    11: 2,
    13: 8,
    16: 14,
}  # some of the 18 are absent


@pytest.fixture
def labels():
    return np.random.default_rng(0).permutation(np.repeat(list(COUNTS), list(COUNTS.values())))


def draw(name, labels, seed=1, balance=1.0):
    classes = TASK.decode(labels)
    cells = TASK.encode({name: classes[name] for name in TASK.per("person")})
    rng = np.random.default_rng(seed)
    return samplers.epoch_indices(name, balance, samplers.Classes(labels, cells), rng)


def shown(name, labels):
    return dict(zip(*np.unique(labels[draw(name, labels)], return_counts=True), strict=True))


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_same_generator_same_epoch_another_another(name, labels):
    np.testing.assert_array_equal(draw(name, labels, 1), draw(name, labels, 1))
    assert not np.array_equal(draw(name, labels, 1), draw(name, labels, 2))
    assert set(shown(name, labels)) <= set(COUNTS)


def test_plain_shows_every_photo_once(labels):
    np.testing.assert_array_equal(np.sort(draw("plain", labels)), np.arange(len(labels)))


def test_weighted_shares_are_equal_on_average(labels):
    epochs = np.concatenate([labels[draw("weighted", labels, seed)] for seed in range(60)])
    assert len(epochs) == 60 * len(labels)
    shares = np.unique(epochs, return_counts=True)[1] / len(epochs)
    np.testing.assert_allclose(shares, 1 / len(COUNTS), atol=4 * np.sqrt(0.09 / len(epochs)))


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_a_smaller_balance_keeps_more_of_the_shares(labels, balance):
    draws = [labels[draw("weighted", labels, seed, balance)] for seed in range(60)]
    shares = np.unique(np.concatenate(draws), return_counts=True)[1] / (60 * len(labels))
    counts = np.array([COUNTS[label] for label in sorted(COUNTS)], float)
    expected = counts ** (1 - balance) / (counts ** (1 - balance)).sum()
    np.testing.assert_allclose(shares, expected, atol=0.02)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("oversample", 70),
        ("undersample", 2),
        ("imbalanced", round(sum(COUNTS.values()) / len(COUNTS))),
    ],
)
def test_classes_are_equal_at_the_stated_size(name, size, labels):
    assert shown(name, labels) == dict.fromkeys(COUNTS, size)


def test_rare_photos_are_repeated_evenly_and_common_ones_not_at_all(labels):
    times = np.bincount(draw("imbalanced", labels), minlength=len(labels))
    for label, count in COUNTS.items():
        rounds = 25 / count
        assert set(times[labels == label]) <= {int(np.floor(rounds)), int(np.ceil(rounds))}


def test_oversampling_loses_no_photo(labels):
    for name in ("oversample", "copy"):
        assert set(draw(name, labels)) == set(range(len(labels)))


def test_copy_equals_gender_by_age_and_then_masks_inside():
    counts = {0: 30, 6: 6, 12: 6, 5: 7}
    labels = np.repeat(list(counts), list(counts.values()))
    # The 42 photos of young men are the largest cell; their masks then go up to 30 each.
    assert shown("copy", labels) == {0: 30, 6: 30, 12: 30, 5: 42}


def test_labels_of_one_attribute_are_sampled_too():
    labels = np.repeat([0, 2], [9, 3])
    assert shown("copy", labels) == shown("oversample", labels) == {0: 9, 2: 9}


def test_class_shares_tell_before_and_after(labels):
    table = samplers.class_shares(labels, draw("undersample", labels))
    assert table["photos"].to_dict() == COUNTS
    assert (table["shown"] == 2).all()
    np.testing.assert_allclose(table["share_before"], np.array(list(COUNTS.values())) / len(labels))
    np.testing.assert_allclose(table["share_after"], 1 / len(COUNTS))
    few = samplers.class_shares(np.array([3, 3, 7]), np.array([0, 1]))
    assert few["share_after"].to_dict() == {3: 1.0, 7: 0.0}


def test_an_unknown_sampler_is_named(labels):
    with pytest.raises(ParameterError, match="did you mean 'weighted'"):
        draw("wieghted", labels)
