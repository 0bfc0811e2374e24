import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from lib.errors import ParameterError
from lib.learn import losses


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 5, generator=generator) * 2
    return (
        logits,
        torch.rand(12, 5, generator=generator).softmax(dim=1),
        torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0]),
    )


def certain(labels, n_classes=5):
    """Logits whose softmax is the one-hot of ``labels`` to float precision."""
    return F.one_hot(torch.tensor(labels), n_classes).float() * 200


@pytest.mark.parametrize("weighted", [False, True])
def test_focal_without_gamma_is_torchs_cross_entropy(batch, weighted):
    logits, target, weights = batch
    weights = weights if weighted else None
    expected = F.cross_entropy(logits, target, weight=weights)
    torch.testing.assert_close(losses.focal(logits, target, weights, gamma=0.0), expected)
    torch.testing.assert_close(losses.cross_entropy(logits, target, weights), expected)


def test_focal_of_a_hard_label_is_the_papers_formula(batch):
    logits, _, weights = batch
    label = torch.arange(12) % 5
    p = logits.double().softmax(dim=1)[torch.arange(12), label].numpy()
    expected = (-weights.numpy()[label] * (1 - p) ** 2 * np.log(p)).mean()
    actual = losses.focal(logits, F.one_hot(label, 5).float(), weights, gamma=2.0)
    assert actual.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_gradients_are_finite_even_where_probabilities_round_to_0_and_1(batch, name, scale):
    logits = (batch[0] * scale).requires_grad_()
    losses.combine({name: 1.0}, gamma=0.5)(logits, batch[1], batch[2]).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_step_down_the_gradient_lowers_the_loss(batch, name):
    logits = batch[0].clone().requires_grad_()
    loss = losses.LOSSES[name]
    before = loss(logits, batch[1], None)
    before.backward()
    assert logits.grad.abs().sum() > 0
    assert loss(logits.detach() - 0.1 * logits.grad, batch[1], None) < before


def test_new_focal_ignores_learned_photos_and_pushes_the_others():
    p = torch.tensor([[0.95, 0.05], [0.4, 0.6]])
    logits = p.log().requires_grad_()
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss = losses.new_focal(logits, target, gamma=2.0)
    loss.backward()
    assert loss.item() == pytest.approx(
        (2 - 0.4 / losses.LEARNED) ** 2 * -np.log(0.4) / 2, rel=1e-5
    )
    assert (logits.grad[0] == 0).all()
    assert loss > F.cross_entropy(logits[1:], target[1:]) / 2


def test_new_focal_calls_a_soft_target_learnt_when_it_is_met():
    target = torch.tensor([[0.5, 0.5]])
    assert losses.new_focal(target.log(), target) == 0


def test_f1_of_hard_predictions_is_scikit_learns_macro_f1_over_the_true_classes():
    rng = np.random.default_rng(0)
    truth, predicted = (
        rng.integers(0, 4, 60),
        rng.integers(0, 5, 60),
    )  # class 4 is predicted but never true
    expected = f1_score(truth, predicted, average="macro", labels=np.unique(truth))
    actual = losses.f1(certain(predicted), F.one_hot(torch.tensor(truth), 5).float())
    assert 1 - actual.item() == pytest.approx(expected, abs=1e-6)


def test_f1_is_finite_when_a_class_is_neither_true_nor_predicted():
    truth = [0, 1, 1, 2]
    logits = certain(truth).requires_grad_()
    loss = losses.f1(logits, F.one_hot(torch.tensor(truth), 5).float())
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert logits.grad.isfinite().all()


def test_smoothing_is_torchs(batch):
    logits, _, weights = batch
    label = torch.arange(12) % 5
    target = F.one_hot(label, 5).float()
    expected = F.cross_entropy(logits, target, weights, label_smoothing=0.1)
    torch.testing.assert_close(
        losses.combine({"ce": 1.0}, label_smoothing=0.1)(logits, target, weights), expected
    )
    torch.testing.assert_close(
        F.cross_entropy(logits, losses.smooth(target, 0.1)),
        F.cross_entropy(logits, label, label_smoothing=0.1),
    )


def test_neighbour_smoothing_gives_to_the_neighbours_only():
    expected = torch.tensor([[0.8, 0.2, 0.0], [0.1, 0.8, 0.1], [0.0, 0.2, 0.8]])
    torch.testing.assert_close(losses.smooth_neighbours(torch.eye(3), 0.2), expected)
    joint = torch.rand(4, 3, 2, 3)
    smoothed = losses.smooth_neighbours(joint, 0.2)
    torch.testing.assert_close(smoothed.sum(dim=3), joint.sum(dim=3))
    torch.testing.assert_close(
        smoothed.sum(dim=(1, 2)), losses.smooth_neighbours(joint.sum(dim=(1, 2)), 0.2)
    )


def test_class_weights_are_scikit_learns_balanced_ones():
    labels = np.repeat([0, 1, 3], [7, 2, 5])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    actual = losses.class_weights(np.bincount(labels))
    np.testing.assert_allclose(actual[[0, 1, 3]], expected, rtol=1e-6)
    assert actual[2] == 0
    assert actual.dtype == torch.float32


def test_a_sum_of_losses_is_their_weighted_sum(batch):
    logits, target, weights = batch
    expected = 0.4 * losses.f1(logits, target) + 0.6 * losses.focal(
        logits, target, weights, gamma=3.0
    )
    torch.testing.assert_close(
        losses.combine({"f1": 0.4, "focal": 0.6}, gamma=3.0)(logits, target, weights), expected
    )


@pytest.mark.parametrize(
    ("terms", "gamma", "smoothing", "named"),
    [
        ({}, 2.0, 0.0, "no loss"),
        ({"focale": 1.0}, 2.0, 0.0, "did you mean 'focal'"),
        ({"ce": 0.0}, 2.0, 0.0, "ce=0.0"),
        ({"ce": True}, 2.0, 0.0, "ce=True"),
        ({"ce": "1e-4"}, 2.0, 0.0, "1e-4"),
        ({"ce": float("nan")}, 2.0, 0.0, "nan"),
        ({"ce": 1.0}, -1.0, 0.0, "gamma=-1.0"),
        ({"ce": 1.0}, 2.0, 1.0, "label_smoothing=1.0"),
    ],
)
def test_a_wrong_value_is_named(terms, gamma, smoothing, named):
    with pytest.raises(ParameterError, match=named):
        losses.combine(terms, gamma, smoothing)
