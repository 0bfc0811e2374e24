"""What a model learns, and how its logits become probabilities, whichever head made them.

``Output`` is the unit of a head: one way to speak of a part. A part has one, or several whose
losses are summed and whose probabilities are averaged. A new head is an entry of HEADS, a new way
to speak of an ordered attribute one of ``lib.task.ordered.ORDERED_HEADS``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib.errors import pick
from lib.learn import losses
from lib.task.attributes import GROUPS, LABEL, Task
from lib.task.ordered import ORDERED_HEADS
from lib.task.targets import Cuts, grouped, marginal

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Output:
    """Logits (N, size), the target that they learn, and the probabilities (N, classes)."""

    size: int
    target: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    loss: Loss | None = None  # None takes the classification loss that the notebook chose
    weight: float = 1.0  # of the loss


Outputs = Mapping[str, Sequence[Output]]  # by part


HEADS: dict[str, Callable[[Task, Sequence[str]], list[str]]] = {  # the names of their outputs
    "separate": Task.learned,
    "shared": Task.learned,
    "joint": lambda task, learn: [LABEL],
}
ORDERED_CHOICES: dict[str, tuple[str, ...]] = {  # the ways in which each speaks of an attribute
    **{name: (name,) for name in (GROUPS, *ORDERED_HEADS)},
    "both": (GROUPS, "values"),
}


def outputs(
    task: Task,
    head: str,
    ordered_head: str,
    ordered_weight: float,
    learn: Sequence[str],
    cuts: Cuts,
) -> Outputs:
    """Return what a head learns, by part: the label, or the attributes that ``learn`` names.

    ``ordered_weight`` is the weight of the loss of an ordered attribute's numbers.
    """
    ways = pick(ORDERED_CHOICES, ordered_head, "ordered_head")
    names, cuts = pick(HEADS, head, "head")(task, learn), task.checked_cuts(cuts)
    ordered = {name: ways for name in names if name != LABEL and task[name].ordered}
    return {
        name: [
            _output(task, name, way, ordered_weight, cuts) for way in ordered.get(name, [GROUPS])
        ]
        for name in names
    }


def _output(task: Task, name: str, way: str, weight: float, cuts: Cuts) -> Output:
    """Return a softmax over classes, or what an ordered head does with its attribute."""
    if way == GROUPS:
        target = partial(grouped, task, name=name, cuts=cuts)
        return Output(len(task.classes(name)), target, partial(torch.softmax, dim=1))
    attribute, (size, loss, groups) = task[name], ORDERED_HEADS[way]
    target, own = partial(marginal, task, name=name), {"cuts": cuts.get(name, ())}
    loss, groups = partial(loss, attribute, **own), partial(groups, attribute, **own)
    return Output(size(attribute), target, groups, loss, weight)


def logit_count(ways: Sequence[Output]) -> int:
    """Return how many logits the classifier of a part has."""
    return sum(way.size for way in ways)


def _by_way(ways: Sequence[Output], logits: Tensor) -> Iterator[tuple[Output, Tensor]]:
    """Yield each way of a part with its own logits."""
    return zip(ways, logits.split([way.size for way in ways], dim=1), strict=True)


def chances(ways: Sequence[Output], logits: Tensor) -> Tensor:
    """Return the probabilities (N, classes) of a part: the mean of what its ways say."""
    return torch.stack([way.probabilities(own) for way, own in _by_way(ways, logits)]).mean(0)


def to_probabilities(task: Task, outputs: Outputs, logits: Mapping[str, Tensor]) -> Tensor:
    """Return the probabilities (N, columns) of a run's table, for any head.

    Marginals of all attributes are multiplied as if independent; those of some attributes, or of a
    task too large for a table of labels, stand next to each other.
    """
    parts = [chances(ways, logits[name].float()) for name, ways in outputs.items()]
    if LABEL not in task.parts(list(outputs) if LABEL not in outputs else ()):
        return torch.cat(parts, dim=1)
    first, *others = parts
    for other in others:
        first = (first[:, :, None] * other[:, None, :]).flatten(1)
    return first


class Criterion(nn.Module):
    """The sum of the losses of a head's outputs against soft targets (N, ...)."""

    def __init__(
        self,
        outputs: Outputs,
        loss: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        class_weights: Mapping[str, Tensor],
        smooth: Callable[[Tensor, str], Tensor],
    ):
        super().__init__()
        self.outputs, self.loss = outputs, loss
        self.class_weights, self.smooth = class_weights, smooth

    def forward(self, logits: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the scalar loss; targets are repeated where several dropouts were drawn."""
        return sum(
            way.weight * self._one(name, way, own, targets)
            for name, ways in self.outputs.items()
            for way, own in _by_way(ways, logits[name])
        )

    def _one(self, name: str, way: Output, logits: Tensor, targets: Tensor) -> Tensor:
        target = way.target(targets)
        target = target.repeat(len(logits) // len(target), 1)
        if way.loss:
            return way.loss(logits, target)
        weights = self.class_weights[name].to(logits) if name in self.class_weights else None
        return self.loss(logits, self.smooth(target, name), weights)


def _balanced(outputs: Outputs, targets: Tensor) -> dict[str, Tensor]:
    """Return class weights by part, inverse to the share of each class in targets."""
    return {
        name: losses.class_weights(way.target(targets).sum(0))
        for name, ways in outputs.items()
        for way in ways
        if way.loss is None
    }


CLASS_WEIGHTS = {"none": lambda outputs, targets: {}, "balanced": _balanced}


def to_neighbours(task: Task, target: Tensor, name: str, share: float) -> Tensor:
    """Move ``share`` of each group of ordered attributes in a target (N, classes) to neighbours."""
    names = task.names if name == LABEL else [name]
    target = target.unflatten(1, [len(task.classes(other)) for other in names])
    for axis, other in enumerate(names, start=1):
        if task[other].ordered:
            moved = losses.smooth_neighbours(target.movedim(axis, -1), share)
            target = moved.movedim(-1, axis)
    return target.flatten(1)


def criterion(task: Task, outputs: Outputs, targets: Tensor, params: Mapping) -> Criterion:
    """Return the loss by the notebook's parameters; class weights are counted in targets."""
    weigh = pick(CLASS_WEIGHTS, params["class_weights"], "class_weights")
    share = params["neighbour_smoothing"]
    return Criterion(
        outputs,
        losses.combine(params["loss"], params["focal_gamma"], params["label_smoothing"]),
        weigh(outputs, targets),
        lambda target, name: to_neighbours(task, target, name, share) if share else target,
    )
