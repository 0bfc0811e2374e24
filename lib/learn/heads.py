"""What a model learns of a face, and how its logits become probabilities, whichever head made them.

``Output`` is the unit of a head: how many logits, which target they learn, by which loss, and what probabilities they mean.
A new head is a new entry of ``HEADS`` or ``AGE_HEADS``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib.errors import pick
from lib.learn.losses import class_weights, combine, smooth_neighbours
from lib.task import ages
from lib.task.labels import ATTRIBUTE_PROBABILITIES, ATTRIBUTES, PROBABILITIES, YEARS
from lib.task.targets import grouped

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Output:
    """Logits (N, size) of a head: their target out of joint targets, and the probabilities (N, classes) that they mean."""

    size: int
    target: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    loss: Loss | None = None  # its own loss; None takes the classification loss that the notebook chose


def _softmax(size: int, target: Callable[[Tensor], Tensor]) -> Output:
    return Output(size, target, partial(torch.softmax, dim=1))


def _mask(targets: Tensor) -> Tensor:
    return targets.sum((2, 3))


def _gender(targets: Tensor) -> Tensor:
    return targets.sum((1, 3))


def _years(targets: Tensor) -> Tensor:
    return targets.sum((1, 2))


def _own_age(size: int, loss: Loss, groups: Callable[[Tensor, int], Tensor]) -> Callable[[int], Output]:
    return lambda old_from: Output(size, _years, partial(groups, old_from=old_from), loss)


AGE_HEADS: Mapping[str, Callable[[int], Output]] = {
    "groups": lambda old_from: _softmax(3, lambda targets: grouped(targets, old_from).sum((1, 2))),
    "years": _own_age(len(YEARS), ages.years_loss, ages.years_groups),
    "ordinal": _own_age(len(YEARS) - 1, ages.ordinal_loss, ages.ordinal_groups),
    "regression": _own_age(2, ages.regression_loss, ages.regression_groups),
}


def _attributes(age_head: str, old_from: int) -> dict[str, Output]:
    age = pick(AGE_HEADS, age_head, "age_head")(old_from)
    return {"mask": _softmax(3, _mask), "gender": _softmax(2, _gender), "age": age}


def _joint(age_head: str, old_from: int) -> dict[str, Output]:
    return {"label": _softmax(len(PROBABILITIES), lambda targets: grouped(targets, old_from).flatten(1))}


HEADS = {"three": _attributes, "eight": _attributes, "joint": _joint}
TASKS = {"all": tuple(ATTRIBUTES), **{attribute: (attribute,) for attribute in ATTRIBUTES}}


def outputs(head: str, age_head: str, task: str, old_from: int) -> dict[str, Output]:
    """Return what a head learns, by name: ``label``, or the attributes of ``task``."""
    listed = pick(HEADS, head, "head")(age_head, old_from)
    learnt = ("label", *pick(TASKS, task, "task"))
    return {name: output for name, output in listed.items() if name in learnt}


def columns(task: str) -> list[str]:
    """Return the probability columns of a task's prediction table: p00…p17, or one attribute's."""
    return list(PROBABILITIES if task == "all" else pick(ATTRIBUTE_PROBABILITIES, task, "task"))


def to_probabilities(outputs: dict[str, Output], logits: dict[str, Tensor]) -> Tensor:
    """Return probabilities (N, 18) of any head: marginals multiplied as if independent; one attribute alone stays alone."""
    first, *others = [output.probabilities(logits[name].float()) for name, output in outputs.items()]
    for other in others:
        first = (first[:, :, None] * other[:, None, :]).flatten(1)
    return first


class Criterion(nn.Module):
    """The sum over a head's outputs of their losses against joint soft targets (N, 3, 2, 43)."""

    def __init__(
        self,
        outputs: dict[str, Output],
        loss: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        class_weights: dict[str, Tensor] | None = None,
        smooth: Callable[[Tensor, str], Tensor] = lambda target, name: target,
    ):
        super().__init__()
        self.outputs, self.loss, self.smooth, self.class_weights = outputs, loss, smooth, class_weights or {}

    def forward(self, logits: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Return the scalar loss; targets are repeated to the logits' rows (several dropouts)."""
        return sum(self._one(name, output, logits[name], targets) for name, output in self.outputs.items())

    def _one(self, name: str, output: Output, logits: Tensor, targets: Tensor) -> Tensor:
        target = output.target(targets)
        target = target.repeat(len(logits) // len(target), 1)
        if output.loss:
            return output.loss(logits, target)
        weights = self.class_weights.get(name)
        return self.loss(logits, self.smooth(target, name), None if weights is None else weights.to(logits.device))


def balanced_weights(outputs: dict[str, Output], targets: Tensor) -> dict[str, Tensor]:
    """Return class weights by output, inverse to the mass of each class in joint targets (N, 3, 2, 43)."""
    return {name: class_weights(output.target(targets).sum(0)) for name, output in outputs.items() if output.loss is None}


CLASS_WEIGHTS = {"none": lambda outputs, targets: {}, "balanced": balanced_weights}


def criterion(
    outputs: dict[str, Output],
    targets: Tensor,
    *,
    loss: Mapping[str, float],
    focal_gamma: float,
    label_smoothing: float,
    neighbour_smoothing: float,
    class_weights: str,
) -> Criterion:
    """Return the loss of a head on training targets (N, 3, 2, 43), which the class weights are counted in."""
    weights = pick(CLASS_WEIGHTS, class_weights, "class_weights")(outputs, targets)
    return Criterion(
        outputs, combine(loss, focal_gamma, label_smoothing), weights, partial(_to_neighbours, share=neighbour_smoothing)
    )


def _to_neighbours(target: Tensor, name: str, share: float) -> Tensor:
    """Move ``share`` of each age group to its neighbours, in the outputs that have age groups (N, …) as the last axis of 3."""
    if not share or name not in ("age", "label"):
        return target
    return smooth_neighbours(target.unflatten(1, (-1, 3)), share).flatten(1)
