import numpy as np
import pytest
import torch

from lib.errors import ParameterError
from lib.task import labels, targets


def test_joint_is_one_at_the_recorded_place():
    joint = targets.joint([0, 2, 1], [1, 0, 1], [18, 60, 33])
    assert joint.shape == (3, 3, 2, 43)
    assert joint.nonzero().tolist() == [[0, 0, 1, 0], [1, 2, 0, 42], [2, 1, 1, 15]]


def test_ages_outside_the_recorded_range_are_clipped_to_it():
    assert torch.equal(targets.joint([0, 0], [0, 0], [3, 99]), targets.joint([0, 0], [0, 0], [18, 60]))


@pytest.mark.parametrize("old_from", [58, 59, 60])
def test_grouped_targets_are_the_labels_of_each_age(old_from):
    mask, gender, age = (grid.ravel() for grid in np.meshgrid(range(3), range(2), labels.YEARS, indexing="ij"))
    groups = np.where(age < 30, 0, np.where(age < old_from, 1, 2))
    label = targets.grouped(targets.joint(mask, gender, age), old_from).flatten(1).argmax(1)
    np.testing.assert_array_equal(label, 6 * mask + 3 * gender + groups)


def test_grouping_conserves_mass():
    soft = torch.rand(5, *targets.SHAPE)
    torch.testing.assert_close(targets.grouped(soft, 59).sum((1, 2, 3)), soft.sum((1, 2, 3)))


def test_a_cut_that_empties_a_group_is_refused():
    with pytest.raises(ParameterError, match="old_from=61"):
        targets.grouped(targets.joint([0], [0], [20]), 61)


def test_groups_are_spread_over_years_as_people_are():
    shares = torch.zeros(43)
    shares[[0, 2]] = torch.tensor([1.0, 3.0])  # 18 and 20
    shares[[30, 42]] = 5.0  # 48 and 60
    groups = torch.rand(4, 3, 2, 3)
    years = targets.from_groups(groups, shares, 60)
    torch.testing.assert_close(years[..., 0], groups[..., 0] * 0.25)
    torch.testing.assert_close(years[..., 2], groups[..., 0] * 0.75)
    torch.testing.assert_close(years[..., 30], groups[..., 1])
    torch.testing.assert_close(years[..., 42], groups[..., 2])


@pytest.mark.parametrize("people", [[18, 40, 60], [18, 40], [60]])
def test_spreading_and_grouping_are_inverse_even_where_a_group_has_no_people(people):
    shares = torch.from_numpy(np.isin(labels.YEARS, people)).float()
    groups = torch.rand(4, 3, 2, 3)
    torch.testing.assert_close(targets.grouped(targets.from_groups(groups, shares, 60), 60), groups)
