import numpy as np
import pytest
import torch
from conftest import TASK
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from lib.errors import ParameterError
from lib.learn import heads
from lib.task import attributes, targets

PLAIN = {
    "loss": {"ce": 1.0},
    "focal_gamma": 2.0,
    "label_smoothing": 0.0,
    "neighbour_smoothing": 0.0,
    "class_weights": "none",
}
ATTRIBUTES = [(head, way) for head in ("separate", "shared") for way in heads.ORDERED_CHOICES]
every_head = pytest.mark.parametrize(("head", "way"), [("joint", "groups"), *ATTRIBUTES])


def made(head, way="groups", learn=(), cut=60, weight=1.0):
    return heads.outputs(TASK, head, way, weight, learn, {"age": [30, cut]})


def criterion(outputs, known, **changes):
    return heads.criterion(TASK, outputs, known, PLAIN | changes)


def random_logits(outputs, rows=8):
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(rows, heads.logit_count(ways), generator=generator)
        for name, ways in outputs.items()
    }


def chances(ways, logits):
    """Return the mean of what the ways of a part say of their own logits."""
    ends = np.cumsum([way.size for way in ways])
    own = [logits[:, end - way.size : end] for way, end in zip(ways, ends, strict=True)]
    said = [way.probabilities(part) for way, part in zip(ways, own, strict=True)]
    return sum(said) / len(said)


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    table = {
        "mask": rng.choice(3, 70, p=[0.7, 0.2, 0.1]),
        "gender": rng.integers(0, 2, 70),
        "age": rng.choice([19, 28, 33, 58, 60], 70),
    }
    return targets.one_hot(TASK, table)


@pytest.fixture
def mixed(people):
    return torch.lerp(people[:8], people[8:16], torch.rand(8, 1, 1, 1))


@every_head
@pytest.mark.parametrize("cut", [58, 60])
def test_the_18_probabilities_sum_to_one_and_agree_with_the_marginals(head, way, cut):
    outputs = made(head, way, cut=cut)
    logits = random_logits(outputs)
    probabilities = heads.to_probabilities(TASK, outputs, logits)
    assert probabilities.shape == (8, 18)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(8))
    cube = probabilities.reshape(8, 3, 2, 3)
    if head == "joint":
        torch.testing.assert_close(probabilities, logits["label"].softmax(1))
        return
    for name, rest in {"mask": (2, 3), "gender": (1, 3), "age": (1, 2)}.items():
        torch.testing.assert_close(
            cube.sum(rest), chances(outputs[name], logits[name]), atol=1e-6, rtol=1e-5
        )
    mask, gender, age = (chances(outputs[name], logits[name]) for name in TASK.names)
    torch.testing.assert_close(
        probabilities[:, 6 * 2 + 3 * 1 + 0], mask[:, 2] * gender[:, 1] * age[:, 0]
    )


@pytest.mark.parametrize("learn", [["mask"], ["gender"], ["age"], ["age", "mask"]])
def test_some_attributes_stand_next_to_each_other(learn):
    outputs = made("separate", learn=learn)
    assert list(outputs) == TASK.learned(learn)
    logits = random_logits(outputs)
    found = heads.to_probabilities(TASK, outputs, logits)
    torch.testing.assert_close(found, torch.cat([logits[n].softmax(1) for n in outputs], dim=1))


@every_head
def test_targets_of_mixed_photos_keep_their_mass_and_are_mixed_by_the_same_share(people, head, way):
    for output in (way for ways in made(head, way).values() for way in ways):
        half = output.target(torch.lerp(people[:8], people[8:16], 0.3))
        torch.testing.assert_close(
            half, 0.7 * output.target(people[:8]) + 0.3 * output.target(people[8:16])
        )
        torch.testing.assert_close(half.sum(1), torch.ones(8))


def test_each_output_learns_its_marginal(mixed):
    separate, joint = made("separate"), made("joint")
    cube = joint["label"][0].target(mixed).reshape(8, 3, 2, 3)
    for name, rest in {"mask": (2, 3), "gender": (1, 3), "age": (1, 2)}.items():
        torch.testing.assert_close(separate[name][0].target(mixed), cube.sum(rest))


@every_head
def test_plain_loss_is_the_sum_of_its_parts(mixed, people, head, way):
    outputs = made(head, way)
    logits = random_logits(outputs)
    parts = []
    for name, ways in outputs.items():
        for way, own in heads._by_way(ways, logits[name]):
            parts.append((way.loss or F.cross_entropy)(own, way.target(mixed)))
    torch.testing.assert_close(criterion(outputs, people)(logits, mixed), sum(parts))


@every_head
def test_rows_of_several_dropouts_are_averaged(mixed, people, head, way):
    outputs = made(head, way)
    loss = criterion(outputs, people)
    one, other = (
        random_logits(outputs),
        {name: -value for name, value in random_logits(outputs).items()},
    )
    both = {name: torch.cat([one[name], other[name]]) for name in outputs}
    torch.testing.assert_close(loss(both, mixed), (loss(one, mixed) + loss(other, mixed)) / 2)


@pytest.mark.parametrize("head", ["separate", "joint"])
def test_class_weights_are_scikit_learns_balanced(people, head):
    weights = heads._balanced(made(head), people)
    for name, (output,) in made(head).items():
        label = output.target(people).argmax(1).numpy()
        seen = np.unique(label)
        np.testing.assert_allclose(
            weights[name][seen], compute_class_weight("balanced", classes=seen, y=label), rtol=1e-5
        )
        assert weights[name].sum() == pytest.approx(weights[name][seen].sum().item())


def test_class_weights_scale_the_loss_by_class(people):
    outputs = made("joint")
    logits = random_logits(outputs)
    label = outputs["label"][0].target(people[:8]).argmax(1)
    loss = criterion(outputs, people, class_weights="balanced")(logits, people[:8])
    each = F.cross_entropy(logits["label"], label, reduction="none")
    torch.testing.assert_close(
        loss, (each * heads._balanced(outputs, people)["label"][label]).mean()
    )


def test_neighbour_smoothing_moves_mass_along_the_age_axis_alone(people):
    seen = {}
    for name, (output,) in [*made("joint").items(), *made("separate").items()]:
        target = output.target(people)
        seen[name] = target, heads.to_neighbours(TASK, target, name, 0.2)
    for name in ("mask", "gender"):
        assert torch.equal(*seen[name])
    before, after = (part.reshape(-1, 3, 2, 3) for part in seen["label"])
    torch.testing.assert_close(after.sum(3), before.sum(3))
    torch.testing.assert_close(after.sum((1, 2)), seen["age"][1])
    middle = seen["age"][0][:, 1] == 1
    torch.testing.assert_close(
        seen["age"][1][middle], torch.tensor([[0.1, 0.8, 0.1]]).expand(int(middle.sum()), 3)
    )
    torch.testing.assert_close(
        seen["age"][1][seen["age"][0][:, 2] == 1][0], torch.tensor([0.0, 0.2, 0.8])
    )


@pytest.mark.parametrize(("head", "name"), [("separate", "age"), ("joint", "label")])
def test_neighbour_smoothing_reaches_the_loss(people, head, name):
    outputs = made(head)
    logits, target = random_logits(outputs), people[:8]
    change = criterion(outputs, people, neighbour_smoothing=0.2)(logits, target)
    change = change - criterion(outputs, people)(logits, target)
    hard = outputs[name][0].target(target)
    moved = heads.to_neighbours(TASK, hard, name, 0.2) - hard
    torch.testing.assert_close(change, -(moved * logits[name].log_softmax(1)).sum(1).mean())


def test_label_smoothing_is_torchs_summed_over_attributes(people):
    outputs = made("separate")
    logits = random_logits(outputs)
    loss = criterion(outputs, people, label_smoothing=0.1)(logits, people[:8])
    parts = [
        F.cross_entropy(logits[name], output.target(people[:8]).argmax(1), label_smoothing=0.1)
        for name, (output,) in outputs.items()
    ]
    torch.testing.assert_close(loss, sum(parts))


def test_groups_and_numbers_together_average_chances_and_sum_weighted_losses(mixed, people):
    learn = ["age"]
    outputs = made("separate", "both", learn, weight=0.3)
    logits = random_logits(outputs)["age"]
    groups, numbers = logits[:, :3], logits[:, 3:]
    found = heads.to_probabilities(TASK, outputs, {"age": logits})
    years = torch.arange(18, 61)
    by_group = [years < 30, (years >= 30) & (years < 60), years == 60]
    summed = torch.stack([numbers.softmax(1)[:, kept].sum(1) for kept in by_group], dim=1)
    torch.testing.assert_close(found, (groups.softmax(1) + summed) / 2)
    (only_groups,), (only_numbers,) = (
        made("separate", way, learn)["age"] for way in ("groups", "values")
    )
    loss = criterion(outputs, people, label_smoothing=0.1)({"age": logits}, mixed)
    smooth = 0.9 * only_groups.target(mixed) + 0.1 / 3
    expected = F.cross_entropy(groups, smooth)
    expected += 0.3 * only_numbers.loss(numbers, only_numbers.target(mixed))
    torch.testing.assert_close(loss, expected)


def test_wrong_names_list_the_choices():
    with pytest.raises(ParameterError, match="head='separat' is not one of: .*'separate'"):
        made("separat")
    with pytest.raises(ParameterError, match="ordered_head='group' is not one of: .*'groups'"):
        made("separate", "group")
    with pytest.raises(ParameterError, match="no attribute 'ages'.*'age'"):
        made("separate", learn=["ages"])


def test_a_task_too_large_for_a_joint_table_keeps_the_parts():
    classes = {"classes": [chr(97 + k) for k in range(26)]}
    large = attributes.parse({"attributes": {"first": classes, "second": classes}}, "large", "")
    outputs = heads.outputs(large, "shared", "groups", 1.0, [], {})
    logits = random_logits(outputs, rows=3)
    found = heads.to_probabilities(large, outputs, logits)
    assert found.shape == (3, 52)
    torch.testing.assert_close(found[:, 26:], logits["second"].softmax(1))
    hot = targets.one_hot(large, {"first": [0, 1, 2], "second": [25, 0, 3]})
    loss = heads.criterion(large, outputs, hot, PLAIN)(logits, hot)
    expected = F.cross_entropy(logits["first"], torch.tensor([0, 1, 2]))
    expected = expected + F.cross_entropy(logits["second"], torch.tensor([25, 0, 3]))
    torch.testing.assert_close(loss, expected)
