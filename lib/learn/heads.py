"""What a model learns, and how its logits become probabilities, whichever head made them.

``Output`` is the unit of a head. A new head is an entry of HEADS, a new way to speak of an ordered
attribute one of ``lib.task.ordered.ORDERED_HEADS``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib.errors import one_of, pick
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


HEADS: dict[str, Callable[[Task, Sequence[str]], list[str]]] = {  # the names of their outputs
    "separate": Task.learned,
    "shared": Task.learned,
    "joint": lambda task, learn: [LABEL],
}
ORDERED_CHOICES = (GROUPS, *ORDERED_HEADS)


def outputs(
    task: Task, head: str, ordered_head: str, learn: Sequence[str], cuts: Cuts
) -> dict[str, Output]:
    """Return what a head learns, by name: the label, or the attributes that ``learn`` names."""
    one_of(ORDERED_CHOICES, ordered_head, "ordered_head")
    names, cuts = pick(HEADS, head, "head")(task, learn), task.checked_cuts(cuts)
    return {name: _output(task, name, ordered_head, cuts) for name in names}


def _output(task: Task, name: str, ordered_head: str, cuts: Cuts) -> Output:
    """Return a softmax over classes, or what an ordered head does with its attribute."""
    if ordered_head == GROUPS or name == LABEL or not task[name].ordered:
        target = partial(grouped, task, name=name, cuts=cuts)
        return Output(len(task.classes(name)), target, partial(torch.softmax, dim=1))
    attribute, (size, loss, groups) = task[name], ORDERED_HEADS[ordered_head]
    target = partial(marginal, task, name=name)
    probabilities = partial(groups, attribute, cuts=cuts.get(name, ()))
    return Output(size(attribute), target, probabilities, partial(loss, attribute))


def to_probabilities(task: Task, outputs: dict[str, Output], logits: dict[str, Tensor]) -> Tensor:
    """Return the probabilities (N, columns) of a run's table, for any head.

    Marginals of all attributes are multiplied as if independent; those of some attributes, or of a
    task too large for a table of labels, stand next to each other.
    """
    parts = [output.probabilities(logits[name].float()) for name, output in outputs.items()]
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
        outputs: dict[str, Output],
        loss: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        class_weights: Mapping[str, Tensor],
        smooth: Callable[[Tensor, str], Tensor],
    ):
        super().__init__()
        self.outputs, self.loss = outputs, loss
        self.class_weights, self.smooth = class_weights, smooth

    def forward(self, logits: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the scalar loss; targets are repeated where several dropouts were drawn."""
        return sum(self._one(name, logits[name], targets) for name in self.outputs)

    def _one(self, name: str, logits: Tensor, targets: Tensor) -> Tensor:
        output = self.outputs[name]
        target = output.target(targets)
        target = target.repeat(len(logits) // len(target), 1)
        if output.loss:
            return output.loss(logits, target)
        weights = self.class_weights[name].to(logits) if name in self.class_weights else None
        return self.loss(logits, self.smooth(target, name), weights)


def _balanced(outputs: dict[str, Output], targets: Tensor) -> dict[str, Tensor]:
    """Return class weights by output, inverse to the share of each class in targets."""
    plain = [name for name, output in outputs.items() if output.loss is None]
    return {name: losses.class_weights(outputs[name].target(targets).sum(0)) for name in plain}


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


def criterion(
    task: Task, outputs: dict[str, Output], targets: Tensor, params: Mapping
) -> Criterion:
    """Return the loss by the notebook's parameters; class weights are counted in targets."""
    weigh = pick(CLASS_WEIGHTS, params["class_weights"], "class_weights")
    share = params["neighbour_smoothing"]
    return Criterion(
        outputs,
        losses.combine(params["loss"], params["focal_gamma"], params["label_smoothing"]),
        weigh(outputs, targets),
        lambda target, name: to_neighbours(task, target, name, share) if share else target,
    )
