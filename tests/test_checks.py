"""Combinations of parameters: those that mean nothing are refused, all at once."""

import pytest
from conftest import PARAMS, TASK

from lib.artefacts import PROJECT
from lib.errors import ParameterError
from lib.learn import checks
from lib.runner.stages import plan, read_layer
from lib.task.attributes import load, parse

RECIPES = sorted((PROJECT / "params" / "recipes").glob("*.yaml"))
TINY = PROJECT / "params" / "tiny.yaml"

REFUSED = {
    "joint has no ordered attribute": {"head": "joint", "ordered_head": "values"},
    "one attribute of a joint head": {"head": "joint", "learn": ["mask"]},
    "an ordered head without one": {"learn": ["mask"], "ordered_head": "ordinal"},
    "regression of two faces": {"mixer": "half_face", "ordered_head": "regression"},
    "regression of two pasted pictures": {
        "mixer": "cutmix", "ordered_head": "regression", "learn": ["age"],
    },
    "neighbours of values": {"neighbour_smoothing": 0.2, "ordered_head": "values"},
    "neighbours of a mask": {"neighbour_smoothing": 0.2, "learn": ["mask"]},
    "a loss that nothing uses": {
        "ordered_head": "ordinal", "learn": ["age"], "loss": {"focal": 1.0},
    },
    "smoothing that nothing uses": {
        "ordered_head": "ordinal", "learn": ["age"], "label_smoothing": 0.1,
    },
    "weights that nothing uses": {
        "ordered_head": "ordinal", "learn": ["age"], "class_weights": "balanced",
    },
    "weights without terms": {"class_weights": "balanced", "loss": {"f1": 1.0}},
    "copies of one attribute": {"sampler": "copy", "learn": ["age"]},
    "freezing that never ends": {"freeze": "first", "freeze_epochs": 8},
    "freezing that never starts": {"freeze": "after", "freeze_epochs": 0},
    "patience without a score": {"split": "none", "patience": 3},
    "plateau without a score": {"split": "none", "schedule": "plateau"},
    "a fold that is not there": {"folds": [0, 5]},
    "a second fold of a holdout": {"split": "holdout", "folds": [1]},
    "no epochs": {"epochs": 0},
    "no dropout at all": {"dropout_samples": 0},
    "a dropout in percent": {"dropout": 20.0},
    "a single fold": {"fold_count": 1},
    "a width without a height": {"image_size": [112]},
    "no dropout to draw": {"dropout": 0.0, "dropout_samples": 4},
    "a mixer that never mixes": {"mixer": "mixup", "mixer_off_epochs": 6},
    "steps that never come": {"schedule": "step", "decay_epochs": 10.0},
    "a check for leaks with true labels": {"shuffle_labels": True, "init_from": "other"},
    "statistics that stay": {"bn_batches": 2, "freeze": "always"},
    "an age that nobody has": {"drop": {"age": [57, 61]}},
    "a value of no attribute": {"drop": {"ages": [57]}},
    "a cut outside the range": {"cuts": {"age": [30, 61]}},
    "a threshold of no attribute": {"pseudo_thresholds": {"masks": 0.5}},
    "two origins of the weights": {"init_from": "other", "weights_path": "w.pth"},
    "one file for two backbones": {
        "backbone": ["resnet18", "resnet34"], "weights_path": "w.pth",
    },
}  # fmt: skip
MEANINGFUL = [
    {},
    {"ordered_head": "ordinal"},
    {"ordered_head": "regression", "mixer": "mixup"},
    {"ordered_head": "values", "learn": ["age"]},
    {"ordered_head": "ordinal", "loss": {"focal": 1.0}, "class_weights": "balanced"},
    {"class_weights": "balanced", "loss": {"f1": 0.4, "focal": 0.6}},
    {"head": "joint", "neighbour_smoothing": 0.2, "mixer": "half_face"},
    {"learn": ["mask"], "mixer": "half_face"},
    {"freeze": "first", "freeze_epochs": 1},
    {"freeze": "always", "freeze_epochs": 0},
    {"drop": {"age": [57, 58, 59], "mask": ["incorrect"]}},
    {"cuts": {"age": [29, 57]}},
    {"split": "none", "folds": [0]},
    {"folds": [2, 0]},
    {"backbone": ["resnet18", "efficientnet_b0"]},
    {"backbone": ["resnet18"], "weights_path": "w.pth"},
]


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_what_means_nothing_is_refused_in_one_sentence_that_names_it(changes):
    with pytest.raises(ParameterError) as caught:
        checks.check(PARAMS | changes, TASK)
    sentence = str(caught.value)
    names = [
        *changes,
        *(key for value in changes.values() if isinstance(value, dict) for key in value),
    ]
    assert any(name in sentence for name in names)
    assert "\n" not in sentence
    assert ". " not in sentence


@pytest.mark.parametrize("changes", MEANINGFUL, ids=str)
def test_what_means_something_passes(changes):
    checks.check(PARAMS | changes, TASK)


def test_all_faults_are_told_at_once():
    faults = REFUSED["no epochs"] | REFUSED["patience without a score"] | {"folds": [3]}
    with pytest.raises(ParameterError) as caught:
        checks.check(PARAMS | faults, TASK)
    told = str(caught.value).splitlines()
    assert [line.split("=")[0] for line in told] == ["split", "folds", "epochs"]


def test_every_rule_is_broken_by_an_example():
    sentences = []
    for changes in REFUSED.values():
        facts = PARAMS | changes
        if not {"drop", "cuts", "pseudo_thresholds", "optimizer"} & changes.keys():
            facts |= checks._facts(facts, TASK)
            sentences += [s for rule, s in checks.RULES if rule(checks.SimpleNamespace(**facts))]
    joint_only = [sentence for _, sentence in checks.RULES if "too many labels" in sentence]
    assert set(sentences) | set(joint_only) == {sentence for _, sentence in checks.RULES}


def test_a_joint_head_needs_a_task_of_few_labels():
    classes = {"classes": [str(k) for k in range(30)]}
    large = parse({"attributes": {"first": classes, "second": classes}}, "large", "large.yaml")
    with pytest.raises(ParameterError, match="too many labels for head='joint'"):
        checks.check(PARAMS | {"head": "joint"}, large)
    checks.check(PARAMS, large)


@pytest.mark.parametrize("layers", [[], [TINY]], ids=["whole", "tiny"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_passes(recipe, layers):
    steps = plan([read_layer(path) for path in [recipe, *layers]])
    trained = [PARAMS | step.values for step in steps if step.stage == "train"]
    assert trained
    for params in trained:
        checks.check(params, load(params["task"]))
