import numpy as np
import pytest
import torch
from scipy.stats import norm

from lib.task import ages
from lib.task.labels import YEARS

SIZES = {"years": 43, "ordinal": 42, "regression": 2}
GROUPS = {"years": ages.years_groups, "ordinal": ages.ordinal_groups, "regression": ages.regression_groups}
LOSSES = {"years": ages.years_loss, "ordinal": ages.ordinal_loss, "regression": ages.regression_loss}
every_head = pytest.mark.parametrize("name", SIZES)
every_cut = pytest.mark.parametrize("old_from", [58, 59, 60])


def outputs(name, scale=1.0):
    return torch.randn(16, SIZES[name], generator=torch.Generator().manual_seed(3), dtype=torch.float64) * scale


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def distribution(name, row):
    """Return P(year) for the 43 years, by loops and scipy."""
    if name == "years":
        return np.exp(row) / np.exp(row).sum()
    if name == "ordinal":
        shares, reached = [], 1.0
        for logit in row:
            shares.append(reached * (1 - sigmoid(logit)))
            reached *= sigmoid(logit)
        return np.array([*shares, reached])
    age = norm(39 + 12 * row[0], 12 * np.exp(row[1] / 2))
    edges = age.cdf(YEARS[1:] - 0.5)
    return np.diff(np.concatenate([[0], edges, [1]]))


def soft_years():
    return torch.rand(16, 43, generator=torch.Generator().manual_seed(4), dtype=torch.float64).pow(6).softmax(1)


@every_head
@every_cut
def test_group_probabilities_are_sums_over_years(name, old_from):
    logits = outputs(name)
    expected = []
    for row in logits.numpy():
        years = distribution(name, row)
        expected.append([years[: 30 - 18].sum(), years[30 - 18 : old_from - 18].sum(), years[old_from - 18 :].sum()])
    np.testing.assert_allclose(GROUPS[name](logits, old_from), expected, atol=1e-9)


@every_head
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_group_probabilities_are_probabilities_and_old_ones_grow_as_the_cut_falls(name, scale):
    by_cut = [GROUPS[name](outputs(name, scale).float(), old_from) for old_from in (60, 59, 58)]
    for groups in by_cut:
        torch.testing.assert_close(groups.sum(1), torch.ones(16))
        assert ((groups >= 0) & (groups <= 1)).all()
        assert torch.equal(groups[:, 0], by_cut[0][:, 0])
    old = torch.stack([groups[:, 2] for groups in by_cut])
    assert (old.diff(dim=0) >= 0).all()
    assert scale > 1 or (old.diff(dim=0) > 0).all()


@every_head
def test_extreme_outputs_stay_finite(name):
    logits = (outputs(name) * 50).float().requires_grad_()
    LOSSES[name](logits, soft_years().float()).backward()
    assert logits.grad.isfinite().all()


def test_ordinal_loss_is_the_likelihood_of_the_discrete_distribution():
    logits = outputs("ordinal")
    years = torch.arange(16) * 2 + 12
    likelihood = [distribution("ordinal", row)[year] for row, year in zip(logits.numpy(), years, strict=True)]
    loss = ages.ordinal_loss(logits, torch.eye(43, dtype=torch.float64)[years])
    assert loss.item() == pytest.approx(-np.log(likelihood).mean())


def test_ordinal_loss_of_soft_years_is_the_cross_entropy():
    logits, years = outputs("ordinal"), soft_years()
    expected = [
        -(target @ np.log(distribution("ordinal", row))) for row, target in zip(logits.numpy(), years.numpy(), strict=True)
    ]
    assert ages.ordinal_loss(logits, years).item() == pytest.approx(np.mean(expected))


def test_years_loss_is_the_cross_entropy_with_neighbours():
    logits, years = outputs("years").numpy(), np.arange(16) + 20
    expected = []
    for row, year in zip(logits, years, strict=True):
        near = norm.pdf(np.arange(43), year, 2)
        expected.append(-(near / near.sum()) @ np.log(distribution("years", row)))
    loss = ages.years_loss(torch.from_numpy(logits), torch.eye(43, dtype=torch.float64)[years])
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-6)


def test_neighbours_sum_to_one_and_peak_at_their_year():
    kernel = ages.neighbour_kernel()
    torch.testing.assert_close(kernel.sum(1), torch.ones(43))
    assert kernel.argmax(1).tolist() == list(range(43))


def test_regression_loss_is_the_normal_density_but_for_a_constant():
    logits, years = outputs("regression"), soft_years()
    mean_year = years.numpy() @ YEARS
    mean, deviation = logits[:, 0].numpy(), np.exp(logits[:, 1].numpy() / 2)
    expected = -norm.logpdf((mean_year - 39) / 12, mean, deviation).mean() - np.log(2 * np.pi) / 2
    assert ages.regression_loss(logits, years).item() == pytest.approx(expected)


@every_head
def test_an_age_is_learnt_from_its_loss(name):
    logits = torch.zeros(1, SIZES[name], requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        LOSSES[name](logits, torch.eye(43)[[52 - 18]]).backward()
        optimizer.step()
    assert GROUPS[name](logits, 60)[0, 1] > 0.95
