"""Losses ``(logits (N, C), target (N, C), class_weights (C,) or None) -> scalar``.

Targets are soft (rows sum to 1). As in ``F.cross_entropy``, losses average over the N photos: class
weights scale the terms and are not divided out. A new loss is an entry of LOSSES.
"""

from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.errors import ParameterError, pick

LEARNED = 0.8  # agreement with the target from which "new focal" ignores a photo


def cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the (class-weighted) cross entropy of soft targets, averaged over photos."""
    return F.cross_entropy(logits, target, weight=class_weights)


def focal(
    logits: Tensor, target: Tensor, class_weights: Tensor | None = None, gamma: float = 2.0
) -> Tensor:
    """Return the mean of ``-sum_c w_c t_c (1 - p_c)^gamma log p_c``, arXiv 1708.02002."""
    log_p = logits.log_softmax(dim=1)
    # The floor keeps the slope of (1 - p)^gamma finite where p is rounded to 1 and gamma below 1.
    doubt = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).eps)
    terms = -target * doubt**gamma * log_p
    return _weighted(terms, class_weights).sum(dim=1).mean()


def new_focal(
    logits: Tensor, target: Tensor, class_weights: Tensor | None = None, gamma: float = 2.0
) -> Tensor:
    """Return a cross entropy that ignores photos already learned and weighs the others more.

    A photo agrees with its target by ``a = sum_c min(p_c, t_c)``. From ``a = LEARNED`` on it adds
    nothing; below, it counts ``(2 - a / LEARNED)^gamma`` times, a constant to the gradient. Our
    reading of the seed team of 2021.
    """
    log_p = logits.log_softmax(dim=1)
    agreement = torch.minimum(log_p.detach().exp(), target).sum(dim=1)
    push = torch.where(agreement < LEARNED, (2 - agreement / LEARNED) ** gamma, 0.0)
    return (push * _weighted(-target * log_p, class_weights).sum(dim=1)).mean()


def f1(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return 1 - soft macro F1 of the batch, with ``F1_c = 2 tp_c / (sum p_c + sum t_c)``.

    Counts are sums of probabilities. The mean is over classes that the batch's targets have.
    ``class_weights`` are not used: a macro mean already weighs classes equally.
    """
    p = logits.softmax(dim=1)
    mass = target.sum(dim=0)
    score = 2 * (p * target).sum(dim=0) / (p.sum(dim=0) + mass).clamp(min=torch.finfo(p.dtype).eps)
    return 1 - score[mass > 0].mean()


LOSSES: dict[str, Callable[..., Tensor]] = {
    "ce": cross_entropy, "focal": focal, "new_focal": new_focal, "f1": f1,
}  # fmt: skip
FOCUSED = ("focal", "new_focal")  # the losses that gamma shapes


def combine(
    terms: Mapping[str, float], gamma: float = 2.0, label_smoothing: float = 0.0
) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """Return the weighted sum of losses, such as ``{"f1": 0.4, "focal": 0.6}``, as one loss.

    ``gamma`` (>= 0) shapes the focal losses; ``label_smoothing`` (0 to below 1) acts on every
    target. ParameterError for an unknown loss or a number out of range.
    """
    _check(terms, gamma, label_smoothing)
    focused = {name: partial(LOSSES[name], gamma=gamma) for name in FOCUSED}
    weighted = [(weight, (LOSSES | focused)[name]) for name, weight in terms.items()]

    def loss(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        target = smooth(target, label_smoothing)
        return sum(weight * term(logits, target, class_weights) for weight, term in weighted)

    return loss


def smooth(target: Tensor, epsilon: float) -> Tensor:
    """Return ``(1 - epsilon) target + epsilon / C`` over C classes, torch's label smoothing."""
    return target * (1 - epsilon) + epsilon / target.shape[-1]


def smooth_neighbours(target: Tensor, share: float) -> Tensor:
    """Move ``share`` of each group to its neighbours; the last axis of ``target`` is the groups.

    A group gives it to its two neighbours in halves, or to its only one (2nd place of 2021: 0.2).
    """
    _fraction("neighbour_smoothing", share)
    count = target.shape[-1]
    near = torch.diag(torch.ones(count - 1), 1) + torch.diag(torch.ones(count - 1), -1)
    moves = (1 - share) * torch.eye(count) + share * near / near.sum(1, keepdim=True)
    return target @ moves.to(target)


def class_weights(counts) -> Tensor:
    """Return float32 weights (C,): total / (classes * count), 0 for a class without photos."""
    counts = torch.as_tensor(counts, dtype=torch.float64)
    weights = counts.sum() / ((counts > 0).sum() * counts)
    return weights.where(counts > 0, 0).float()


def _weighted(terms: Tensor, class_weights: Tensor | None) -> Tensor:
    return terms if class_weights is None else terms * class_weights


def _check(terms: Mapping[str, float], gamma: float, label_smoothing: float) -> None:
    if not terms:
        raise ParameterError(
            f"loss={dict(terms)!r} names no loss; give at least one of {', '.join(LOSSES)}, "
            "such as {'ce': 1.0}"
        )
    for name, weight in terms.items():
        pick(LOSSES, name, "loss")
        number = isinstance(weight, Real) and not isinstance(weight, bool)
        if not number or not 0 < weight < float("inf"):
            raise ParameterError(
                f"loss weight {name}={weight!r} must be a positive number; "
                f"leave {name} out to switch it off"
            )
    if not 0 <= gamma < float("inf"):
        raise ParameterError(f"focal_gamma={gamma!r} must be 0 or more; 2 is usual")
    _fraction("label_smoothing", label_smoothing)


def _fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ParameterError(f"{name}={value!r} must be from 0 (off) to below 1; 0.1 is usual")
