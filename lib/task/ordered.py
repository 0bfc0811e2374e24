"""Ways for a model to speak of an ordered attribute, each cut into the scored groups afterwards.

``values`` is a distribution over the recorded numbers (DEX, Rothe et al. 2018, IJCV 126; label
distribution learning, Geng 2016), ``ordinal`` a chain of "greater than this number?" (discrete
hazard; conditional training as in CORN, Shi et al. 2021, arXiv 2111.08851), ``regression`` a normal
distribution (Nix & Weigend 1994). Each has a loss of logits and of the target (N, size) over
recorded numbers, and turns logits into probabilities of groups (N, classes).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.task.attributes import Attribute
from lib.task.targets import groups_matrix

# Shares of the range: the standard deviation of a recorded number's soft neighbours, and the unit
# of regression, about the deviation of an even spread.
NEIGHBOUR_SHARE, SPREAD_SHARE = 1 / 21, 2 / 7


class OrderedHead(NamedTuple):
    """How many logits the head has for an attribute, their loss, and the groups that they mean."""

    size: Callable[[Attribute], int]
    loss: Callable[[Attribute, Tensor, Tensor], Tensor]
    groups: Callable[..., Tensor]  # of attribute, outputs and cuts


def neighbour_kernel(attribute: Attribute) -> Tensor:
    """Return (size, size): row k is a normal distribution around number k, summing to 1."""
    numbers = torch.arange(attribute.size, dtype=torch.float32)
    deviation = NEIGHBOUR_SHARE * (attribute.size - 1)
    return torch.softmax(-((numbers[:, None] - numbers) ** 2) / (2 * deviation**2), dim=1)


def values_loss(attribute: Attribute, logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of logits (N, size) with targets softened over neighbours."""
    return F.cross_entropy(logits, target @ neighbour_kernel(attribute).to(target))


def values_groups(attribute: Attribute, logits: Tensor, cuts: Sequence[int]) -> Tensor:
    """Return group probabilities of logits (N, size)."""
    return logits.softmax(1) @ groups_matrix(attribute, cuts).to(logits)


def ordinal_loss(attribute: Attribute, logits: Tensor, target: Tensor) -> Tensor:
    """Return the chain's negative log-likelihood; logit k says: beyond k."""
    reached = target.flip(1).cumsum(1).flip(1)
    beyond, stayed = reached[:, 1:], target[:, :-1]
    return -(beyond * F.logsigmoid(logits) + stayed * F.logsigmoid(-logits)).sum(1).mean()


def ordinal_groups(attribute: Attribute, logits: Tensor, cuts: Sequence[int]) -> Tensor:
    """Return group probabilities of chain logits (N, size - 1)."""
    survival = F.logsigmoid(logits).cumsum(1).exp()
    return _between([survival[:, cut - attribute.first - 1] for cut in cuts or attribute.cuts])


def regression_loss(attribute: Attribute, outputs: Tensor, target: Tensor) -> Tensor:
    """Return the normal negative log-likelihood; outputs (N, 2) are mean and log variance."""
    centre, spread = _units(attribute)
    numbers = torch.tensor(attribute.recorded, dtype=target.dtype, device=target.device)
    mean, log_variance = outputs.unbind(1)
    return F.gaussian_nll_loss(mean, (target @ numbers - centre) / spread, log_variance.exp())


def regression_groups(attribute: Attribute, outputs: Tensor, cuts: Sequence[int]) -> Tensor:
    """Return group probabilities of a normal number: from k - 0.5 on it is recorded as k."""
    centre, spread = _units(attribute)
    mean, log_variance = outputs.unbind(1)
    deviation = (log_variance / 2).exp()
    above = [(mean - (cut - 0.5 - centre) / spread) / deviation for cut in cuts or attribute.cuts]
    return _between([torch.special.ndtr(distance) for distance in above])


def _units(attribute: Attribute) -> tuple[float, float]:
    """Return the centre and the unit of regression, in which outputs start near 0 and 1."""
    span = attribute.size - 1
    return attribute.first + span / 2, SPREAD_SHARE * span


def _between(at_least: list[Tensor]) -> Tensor:
    """Return the probability between each two cuts, from the probability of reaching each cut."""
    edges = [torch.ones_like(at_least[0]), *at_least, torch.zeros_like(at_least[0])]
    return torch.stack([low - high for low, high in pairwise(edges)], dim=1)


ORDERED_HEADS = {
    "values": OrderedHead(lambda a: a.size, values_loss, values_groups),
    "ordinal": OrderedHead(lambda a: a.size - 1, ordinal_loss, ordinal_groups),
    "regression": OrderedHead(lambda a: 2, regression_loss, regression_groups),
}
