"""Ways for a model to speak of an ordered attribute, each cut into the groups afterwards.

``values`` is a distribution over the recorded numbers (DEX, Rothe et al. 2018, IJCV 126; label
distribution learning, Geng 2016), ``ordinal`` a chain of "greater than this number?" (discrete
hazard; conditional training as in CORN, Shi et al. 2021, arXiv 2111.08851), ``regression`` a normal
distribution (Nix & Weigend 1994). Each has a loss of logits and of the target (N, size) over
recorded numbers, and turns logits into probabilities of groups (N, classes).

Numbers are recorded clipped: the last one means "this or more", the first one "this or less". Their
likelihood is the whole mass at or beyond them (Tobin 1958, Econometrica 26).
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
ROUNDING = 1 / 12  # variance of a number that is rounded: regression claims no smaller one


class OrderedHead(NamedTuple):
    """How many logits the head has for an attribute, their loss, and the groups that they mean."""

    size: Callable[[Attribute], int]
    loss: Callable[[Attribute, Tensor, Tensor, Sequence[int]], Tensor]  # the last are the cuts
    groups: Callable[[Attribute, Tensor, Sequence[int]], Tensor]


def neighbour_kernel(attribute: Attribute, cuts: Sequence[int] = ()) -> Tensor:
    """Return (size, size): row k is a normal distribution around number k, summing to 1.

    It stays inside the group of k, so that a group keeps its share of the targets: neighbours of
    the last number, if they reached below its cut, would take half of a group away. The clipped
    ends keep all of their mass: what lies beyond them is counted in them already.
    """
    numbers = torch.arange(attribute.size, dtype=torch.float32)
    deviation = NEIGHBOUR_SHARE * (attribute.size - 1)
    closeness = -((numbers[:, None] - numbers) ** 2) / (2 * deviation**2)
    groups = groups_matrix(attribute, cuts)
    kernel = closeness.masked_fill(groups @ groups.T == 0, -torch.inf).softmax(1)
    kernel[[0, -1]] = torch.eye(attribute.size)[[0, -1]]
    return kernel


def values_loss(
    attribute: Attribute, logits: Tensor, target: Tensor, cuts: Sequence[int]
) -> Tensor:
    """Return the cross-entropy of logits (N, size) with targets softened over neighbours."""
    return F.cross_entropy(logits, target @ neighbour_kernel(attribute, cuts).to(target))


def values_groups(attribute: Attribute, logits: Tensor, cuts: Sequence[int]) -> Tensor:
    """Return group probabilities of logits (N, size)."""
    return logits.softmax(1) @ groups_matrix(attribute, cuts).to(logits)


def ordinal_loss(
    attribute: Attribute, logits: Tensor, target: Tensor, cuts: Sequence[int]
) -> Tensor:
    """Return the chain's negative log-likelihood; logit k says: beyond k."""
    reached = target.flip(1).cumsum(1).flip(1)
    beyond, stayed = reached[:, 1:], target[:, :-1]
    return -(beyond * F.logsigmoid(logits) + stayed * F.logsigmoid(-logits)).sum(1).mean()


def ordinal_groups(attribute: Attribute, logits: Tensor, cuts: Sequence[int]) -> Tensor:
    """Return group probabilities of chain logits (N, size - 1)."""
    survival = F.logsigmoid(logits).cumsum(1).exp()
    return _between([survival[:, cut - attribute.first - 1] for cut in cuts or attribute.cuts])


def regression_loss(
    attribute: Attribute, outputs: Tensor, target: Tensor, cuts: Sequence[int]
) -> Tensor:
    """Return the normal negative log-likelihood; outputs (N, 2) are mean and log variance.

    Of the clipped ends it is that of all numbers beyond; the density's constant is left out.
    """
    centre, spread = _units(attribute)
    numbers = torch.tensor(attribute.recorded, dtype=outputs.dtype, device=outputs.device)
    mean, deviation = _normal(attribute, outputs)
    distance = ((numbers - centre) / spread - mean[:, None]) / deviation[:, None]
    density = distance[:, 1:-1] ** 2 / 2 + deviation.log()[:, None]
    half = 0.5 / spread / deviation  # from half a unit below on, a number is recorded
    ends = torch.stack([distance[:, 0] + half, half - distance[:, -1]])
    below, above = -torch.special.log_ndtr(ends)[:, :, None]
    return (target * torch.cat([below, density, above], dim=1)).sum(1).mean()


def regression_groups(attribute: Attribute, outputs: Tensor, cuts: Sequence[int]) -> Tensor:
    """Return group probabilities of a normal number: from k - 0.5 on it is recorded as k."""
    centre, spread = _units(attribute)
    mean, deviation = _normal(attribute, outputs)
    above = [(mean - (cut - 0.5 - centre) / spread) / deviation for cut in cuts or attribute.cuts]
    return _between([torch.special.ndtr(distance) for distance in above])


def _normal(attribute: Attribute, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (N,) in units of regression, of outputs (N, 2)."""
    mean, log_variance = outputs.unbind(1)
    _, spread = _units(attribute)
    return mean, log_variance.exp().clamp(min=ROUNDING / spread**2).sqrt()


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
