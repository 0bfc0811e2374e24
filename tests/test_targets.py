import numpy as np
import pytest
import torch
from conftest import TASK

from lib.errors import ParameterError
from lib.task import targets
from lib.task.attributes import parse

YEARS = np.arange(18, 61)
LARGE = parse(
    {
        "attributes": {
            "letter": {"classes": [chr(97 + k) for k in range(26)]},
            "other": {"classes": [chr(97 + k) for k in range(26)]},
            "size": {"values": [0, 9], "cuts": [5], "names": ["small", "large"]},
        }
    },
    "large",
    "large.yaml",
)


def hot(mask, gender, age):
    return targets.one_hot(TASK, {"mask": mask, "gender": gender, "age": age})


def everyone():
    return [grid.ravel() for grid in np.meshgrid(range(3), range(2), YEARS, indexing="ij")]


def test_targets_are_one_at_the_recorded_place():
    joint = hot([0, 2, 1], [1, 0, 1], [18, 60, 33])
    assert joint.shape == (3, 3, 2, 43)
    assert joint.nonzero().tolist() == [[0, 0, 1, 0], [1, 2, 0, 42], [2, 1, 1, 15]]


def test_numbers_outside_the_recorded_range_are_clipped_to_it():
    assert torch.equal(hot([0, 0], [0, 0], [3, 99]), hot([0, 0], [0, 0], [18, 60]))


@pytest.mark.parametrize("cut", [58, 59, 60])
def test_grouped_targets_are_the_labels_of_every_age(cut):
    mask, gender, age = everyone()
    groups = np.where(age < 30, 0, np.where(age < cut, 1, 2))
    label = targets.grouped(TASK, hot(mask, gender, age), "label", {"age": [30, cut]}).argmax(1)
    np.testing.assert_array_equal(label, 6 * mask + 3 * gender + groups)


@pytest.mark.parametrize("name", ["label", "mask", "gender", "age"])
def test_grouping_conserves_mass(name):
    soft = torch.rand(5, 3, 2, 43)
    grouped = targets.grouped(TASK, soft, name, {"age": [30, 59]})
    torch.testing.assert_close(grouped.sum(1), soft.sum((1, 2, 3)))


def test_a_cut_that_empties_a_group_is_refused():
    with pytest.raises(ParameterError, match="cuts of age"):
        targets.grouped(TASK, hot([0], [0], [20]), "age", {"age": [30, 61]})


def test_groups_are_spread_over_numbers_as_people_are():
    known = hot([0] * 6, [0] * 6, [18, 20, 20, 20, 48, 60])
    groups = torch.rand(4, 18)
    years = targets.spread(TASK, {"label": groups}, known, {})
    cube = groups.reshape(4, 3, 2, 3)
    # Mask and gender have one number per class; the people known are all of one class there.
    torch.testing.assert_close(years[..., 0], cube[..., 0] * 0.25)
    torch.testing.assert_close(years[..., 2], cube[..., 0] * 0.75)
    torch.testing.assert_close(years[..., 30], cube[..., 1])
    torch.testing.assert_close(years[..., 42], cube[..., 2])


@pytest.mark.parametrize("people", [[18, 40, 60], [18, 40], [60]])
def test_spreading_and_grouping_are_inverse_even_where_a_group_has_no_people(people):
    known = hot([0] * len(people), [1] * len(people), people)
    groups = torch.rand(4, 18)
    spread = targets.spread(TASK, {"label": groups}, known, {})
    torch.testing.assert_close(targets.grouped(TASK, spread, "label", {}), groups)


def test_a_large_task_keeps_marginals_only():
    assert not LARGE.joint
    hot = targets.one_hot(LARGE, {"letter": [0, 25], "other": [3, 3], "size": [4, 9]})
    assert hot.shape == (2, 26 + 26 + 10)
    torch.testing.assert_close(hot.sum(1), torch.full((2,), 3.0))
    assert targets.marginal(LARGE, hot, "letter").argmax(1).tolist() == [0, 25]
    assert targets.grouped(LARGE, hot, "size", {}).tolist() == [[1, 0], [0, 1]]
    likeliest = targets.likeliest(LARGE, hot, {})
    assert {name: found.tolist() for name, found in likeliest.items()} == {
        "letter": [0, 25], "other": [3, 3], "size": [0, 1],
    }  # fmt: skip


def test_spreading_a_large_task_goes_attribute_by_attribute():
    known = targets.one_hot(LARGE, {"letter": [0, 1], "other": [0, 1], "size": [1, 9]})
    classes = {"letter": torch.rand(3, 26), "other": torch.rand(3, 26), "size": torch.rand(3, 2)}
    spread = targets.spread(LARGE, classes, known, {})
    for name, given in classes.items():
        torch.testing.assert_close(targets.grouped(LARGE, spread, name, {}), given)
