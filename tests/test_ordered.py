import numpy as np
import pytest
import torch
from conftest import TASK
from scipy.stats import norm

from lib.task.attributes import Attribute
from lib.task.ordered import ORDERED_HEADS, neighbour_kernel

AGE = TASK["age"]
YEARS = np.arange(18, 61)
every_head = pytest.mark.parametrize("name", ORDERED_HEADS)


def outputs(name, scale=1.0):
    generator = torch.Generator().manual_seed(3)
    size = ORDERED_HEADS[name].size(AGE)
    return torch.randn(16, size, generator=generator, dtype=torch.float64) * scale


def groups(name, logits, cut=60):
    return ORDERED_HEADS[name].groups(AGE, logits, (30, cut))


def loss(name, logits, target):
    return ORDERED_HEADS[name].loss(AGE, logits, target, ())


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def distribution(name, row):
    """Return P(year) for the 43 years, by loops and scipy."""
    if name == "values":
        return np.exp(row) / np.exp(row).sum()
    if name == "ordinal":
        shares, reached = [], 1.0
        for logit in row:
            shares.append(reached * (1 - sigmoid(logit)))
            reached *= sigmoid(logit)
        return np.array([*shares, reached])
    age = norm(39 + 12 * row[0], 12 * np.exp(row[1] / 2))
    return np.diff(np.concatenate([[0], age.cdf(YEARS[1:] - 0.5), [1]]))


def group_of(years):
    return np.digitize(years, (30, 60))


def soft_years():
    generator = torch.Generator().manual_seed(4)
    return torch.rand(16, 43, generator=generator, dtype=torch.float64).pow(6).softmax(1)


@every_head
@pytest.mark.parametrize("cut", [58, 59, 60])
def test_group_probabilities_are_sums_over_years(name, cut):
    logits = outputs(name)
    years = np.array([distribution(name, row) for row in logits.numpy()])
    ends = [years[:, :12], years[:, 12 : cut - 18], years[:, cut - 18 :]]
    expected = np.stack([part.sum(1) for part in ends], axis=1)
    np.testing.assert_allclose(groups(name, logits, cut), expected, atol=1e-9)


@every_head
def test_without_cuts_the_official_ones_count(name):
    logits = outputs(name)
    assert torch.equal(ORDERED_HEADS[name].groups(AGE, logits, ()), groups(name, logits, 60))


@every_head
def test_any_number_of_groups(name):
    attribute = Attribute("size", ("a", "b", "c", "d"), "photo", (0, 9), (2, 5, 7))
    logits = torch.randn(6, ORDERED_HEADS[name].size(attribute))
    found = ORDERED_HEADS[name].groups(attribute, logits, ())
    assert found.shape == (6, 4)
    torch.testing.assert_close(found.sum(1), torch.ones(6))


@every_head
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_probabilities_stay_probabilities_and_the_last_group_grows_as_its_cut_falls(name, scale):
    by_cut = [groups(name, outputs(name, scale).float(), cut) for cut in (60, 59, 58)]
    for found in by_cut:
        torch.testing.assert_close(found.sum(1), torch.ones(16))
        assert ((found >= 0) & (found <= 1)).all()
        assert torch.equal(found[:, 0], by_cut[0][:, 0])
    old = torch.stack([found[:, 2] for found in by_cut])
    assert (old.diff(dim=0) >= 0).all()
    assert scale > 1 or (old.diff(dim=0) > 0).all()


@every_head
def test_extreme_outputs_stay_finite(name):
    logits = (outputs(name) * 50).float().requires_grad_()
    loss(name, logits, soft_years().float()).backward()
    assert logits.grad.isfinite().all()


def test_ordinal_loss_is_the_likelihood_of_the_discrete_distribution():
    logits, years = outputs("ordinal"), torch.arange(16) * 2 + 12
    rows = zip(logits.numpy(), years, strict=True)
    likelihood = [distribution("ordinal", row)[year] for row, year in rows]
    found = loss("ordinal", logits, torch.eye(43, dtype=torch.float64)[years])
    assert found.item() == pytest.approx(-np.log(likelihood).mean())


def test_ordinal_loss_of_soft_years_is_the_cross_entropy():
    logits, years = outputs("ordinal"), soft_years()
    rows = zip(logits.numpy(), years.numpy(), strict=True)
    expected = [-(target @ np.log(distribution("ordinal", row))) for row, target in rows]
    assert loss("ordinal", logits, years).item() == pytest.approx(np.mean(expected))


def test_values_loss_is_the_cross_entropy_with_neighbours():
    logits, years = outputs("values").numpy(), np.arange(16) + 20
    expected = []
    for row, year in zip(logits, years, strict=True):
        near = norm.pdf(np.arange(43), year, 2) * (group_of(YEARS) == group_of(18 + year))
        expected.append(-(near / near.sum()) @ np.log(distribution("values", row)))
    target = torch.eye(43, dtype=torch.float64)[years]
    assert loss("values", torch.from_numpy(logits), target).item() == pytest.approx(
        np.mean(expected), rel=1e-6
    )


@pytest.mark.parametrize("cuts", [(), (29, 58)])
def test_neighbours_stay_in_their_group_and_peak_at_their_year(cuts):
    kernel = neighbour_kernel(AGE, cuts)
    torch.testing.assert_close(kernel.sum(1), torch.ones(43))
    assert kernel.argmax(1).tolist() == list(range(43))
    group = np.digitize(YEARS, cuts or (30, 60))
    assert (kernel.numpy()[group[:, None] != group] == 0).all()


def test_clipped_ends_keep_all_their_mass():
    kernel = neighbour_kernel(AGE)
    assert torch.equal(kernel[[0, -1]], torch.eye(43)[[0, -1]])
    assert kernel[1, 0] > 0  # 19 has the neighbour 18


def test_targets_of_a_group_keep_their_share_with_neighbours():
    share = torch.rand(43, generator=torch.Generator().manual_seed(0))
    moved = share @ neighbour_kernel(AGE)
    for group in range(3):
        inside = torch.from_numpy(group_of(YEARS) == group)
        assert moved[inside].sum().item() == pytest.approx(share[inside].sum().item(), rel=1e-5)


def test_regression_loss_is_the_likelihood_of_a_clipped_normal_number():
    logits, years = outputs("regression"), soft_years()
    mean, deviation = 39 + 12 * logits[:, 0].numpy(), 12 * np.exp(logits[:, 1].numpy() / 2)
    expected = []
    for row, mu, sigma in zip(years.numpy(), mean, deviation, strict=True):
        inner = norm.logpdf(YEARS[1:-1], mu, sigma) + np.log(12 * np.sqrt(2 * np.pi))
        ends = norm.logcdf(18.5, mu, sigma), norm.logsf(59.5, mu, sigma)
        expected.append(-row @ np.array([ends[0], *inner, ends[1]]))
    assert loss("regression", logits, years).item() == pytest.approx(np.mean(expected))


@every_head
def test_predicted_shares_of_groups_are_true_ones_on_other_people(name):
    """Recorded numbers are clipped, seen through noise; a small network learns them."""
    rng = np.random.default_rng(0)
    years = np.clip(rng.normal(42, 16, 8000).round(), 18, 60).astype(int)
    seen = torch.tensor((years + rng.normal(0, 5, 8000) - 40) / 12, dtype=torch.float32)[:, None]
    torch.manual_seed(0)
    hidden = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh())
    network = hidden.append(torch.nn.Linear(16, ORDERED_HEADS[name].size(AGE)))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    known = torch.eye(43)[years[:4000] - 18]
    for _ in range(250):
        optimizer.zero_grad()
        loss(name, network(seen[:4000]), known).backward()
        optimizer.step()
    with torch.no_grad():
        found = groups(name, network(seen[4000:])).mean(0).numpy()
    expected = np.bincount(group_of(years[4000:])) / 4000
    np.testing.assert_allclose(found, expected, atol=0.02)


@every_head
def test_a_number_is_learned_from_its_loss(name):
    logits = torch.zeros(1, ORDERED_HEADS[name].size(AGE), requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss(name, logits, torch.eye(43)[[52 - 18]]).backward()
        optimizer.step()
    assert groups(name, logits)[0, 1] > 0.95
