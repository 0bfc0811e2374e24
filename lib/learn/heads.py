"""What a model learns, and how its logits become probabilities, whichever head made them.

``Output`` is the unit of a head: how many logits, which target they learn, by which loss, and what
probabilities they mean. A new head is an entry of HEADS, a new way to speak of an ordered attribute
one of ``lib.task.ordered.ORDERED_HEADS``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib.errors import pick
from lib.learn import losses
from lib.task.attributes import LABEL, Attribute, Task
from lib.task.ordered import ORDERED_HEADS
from lib.task.targets import Cuts, grouped, marginal

Loss = Callable[[Tensor, Tensor], Tensor]
GROUPS = "groups"  # the ordered head that learns the scored groups as if they were unordered


@dataclass(frozen=True)
class Output:
    """Logits (N, size), the target that they learn, and the probabilities (N, classes)."""

    size: int
    target: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    loss: Loss | None = None  # None takes the classification loss that the notebook chose


def _classes(task: Task, name: str, cuts: Cuts) -> Output:
    """Return the softmax output of a label's or an attribute's classes."""
    target = partial(grouped, task, name=name, cuts=cuts)
    return Output(len(task.classes(name)), target, partial(torch.softmax, dim=1))


def _ordered(task: Task, attribute: Attribute, ordered_head: str, cuts: Cuts) -> Output:
    size, loss, groups = ORDERED_HEADS[ordered_head]
    return Output(
        size(attribute),
        partial(marginal, task, name=attribute.name),
        partial(groups, attribute, cuts=cuts.get(attribute.name, ())),
        partial(loss, attribute),
    )


def _attributes(task: Task, ordered_head: str, cuts: Cuts) -> dict[str, Output]:
    return {
        name: _ordered(task, attribute, ordered_head, cuts)
        if attribute.ordered and ordered_head != GROUPS
        else _classes(task, name, cuts)
        for name, attribute in task.attributes.items()
    }


def _joint(task: Task, ordered_head: str, cuts: Cuts) -> dict[str, Output]:
    return {LABEL: _classes(task, LABEL, cuts)}


HEADS = {"separate": _attributes, "shared": _attributes, "joint": _joint}
ORDERED_CHOICES = (GROUPS, *ORDERED_HEADS)


def outputs(
    task: Task, head: str, ordered_head: str, learn: Sequence[str], cuts: Cuts
) -> dict[str, Output]:
    """Return what a head learns, by name: the label, or the attributes that ``learn`` names."""
    pick(dict.fromkeys(ORDERED_CHOICES), ordered_head, "ordered_head")
    listed = pick(HEADS, head, "head")(task, ordered_head, task.checked_cuts(cuts))
    learned = (LABEL, *task.learned(learn))
    return {name: output for name, output in listed.items() if name in learned}


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
        weights = self.class_weights.get(name)
        weights = None if weights is None else weights.to(logits.device)
        return self.loss(logits, self.smooth(target, name), weights)


def _balanced(outputs: dict[str, Output], targets: Tensor) -> dict[str, Tensor]:
    """Return class weights by output, inverse to the share of each class in targets."""
    plain = {name: output for name, output in outputs.items() if output.loss is None}
    return {
        name: losses.class_weights(output.target(targets).sum(0)) for name, output in plain.items()
    }


CLASS_WEIGHTS = {"none": lambda outputs, targets: {}, "balanced": _balanced}


def to_neighbours(task: Task, target: Tensor, name: str, share: float) -> Tensor:
    """Move ``share`` of every group of ordered attributes to the neighbouring groups.

    ``target`` (N, classes) belongs to the output ``name``: an attribute, or the label.
    """
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
