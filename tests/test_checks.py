"""Combinations of parameters: those that mean nothing are refused, all at once."""

import pytest
from conftest import PARAMS, TASK

from lib.artefacts import PROJECT
from lib.errors import Faults, ParameterError
from lib.learn import checks
from lib.runner.parameters import check_together
from lib.runner.stages import plan, read_layer
from lib.task.attributes import parse

RECIPES = sorted((PROJECT / "params" / "recipes").glob("*.yaml"))
TINY = PROJECT / "params" / "tiny.yaml"

REFUSED = {
    "joint has no ordered attribute": {"head": "joint", "ordered_head": "values"},
    "one attribute of a joint head": {"head": "joint", "learn": ["mask"]},
    "an ordered head without one": {"learn": ["mask"], "ordered_head": "ordinal"},
    "numbers that weigh nothing": {"ordered_head": "both", "ordered_weight": 0.0},
    "neighbours of values": {"neighbour_smoothing": 0.2, "ordered_head": "values"},
    "neighbours of a mask": {"neighbour_smoothing": 0.2, "learn": ["mask"]},
    "balance without its sampler": {"sampler": "plain", "balance": 0.5},
    "a head that does not learn": {"head_rate": 0.0},
    "blocks in percent": {"drop_path": 20.0},
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
    "less than no threads": {"cpus": -1},
    "a width without a height": {"image_size": [112]},
    "no dropout to draw": {"dropout": 0.0, "dropout_samples": 4},
    "a mixer that never mixes": {"mixer": "mixup", "mixer_off_epochs": 6},
    "mixing within, without a mixer": {"mix_within": {"age": [">=60"]}},
    "mixing within no class": {"mix_within": {"age": []}, "mixer": "mixup"},
    "a class that is not there": {"mix_within": {"age": [">60"]}, "mixer": "mixup"},
    "a class of no attribute": {"mix_within": {"ages": [">=60"]}, "mixer": "mixup"},
    "pictures of no size": {"size_from": 0.0},
    "pictures that shrink": {"size_from": 1.5},
    "layers that nothing freezes": {"frozen_layers": 0.5},
    "freezing no layers": {"frozen_layers": 0.0, "freeze": "always"},
    "a soup of more epochs than there are": {"soup_epochs": 7, "bn_batches": 20},
    "a soup that may never be made": {"soup_epochs": 3, "bn_batches": 20, "patience": 2},
    "a soup with statistics of its last epoch": {"soup_epochs": 3},
    "steps that never come": {"schedule": "step", "decay_epochs": 10.0},
    "a check for leaks with true labels": {"shuffle_labels": True, "init_from": "other"},
    "statistics that stay": {"bn_batches": 2, "freeze": "always"},
    "an age that nobody has": {"drop": {"age": [57, 61]}},
    "a value of no attribute": {"drop": {"ages": [57]}},
    "a cut outside the range": {"cuts": {"age": [30, 61]}},
    "photos that nothing labels": {"pseudo_data": "work/more"},
    "a threshold of no attribute": {"pseudo_thresholds": {"masks": 0.5}},
    "two origins of the weights": {"init_from": "other", "weights_path": "w.pth"},
    "one file for two backbones": {
        "backbone": ["resnet18", "resnet34"], "weights_path": "w.pth",
    },
}  # fmt: skip
MEANINGFUL = [
    {},
    {"ordered_head": "ordinal"},
    {"ordered_head": "regression", "mixer": "half_face"},
    {"ordered_head": "both", "neighbour_smoothing": 0.2, "learn": ["age"], "label_smoothing": 0.1},
    {"ordered_head": "values", "learn": ["age"]},
    {"ordered_head": "ordinal", "loss": {"focal": 1.0}, "class_weights": "balanced"},
    {"class_weights": "balanced", "loss": {"f1": 0.4, "focal": 0.6}},
    {"head": "joint", "neighbour_smoothing": 0.2, "mixer": "half_face"},
    {"learn": ["mask"], "mixer": "half_face"},
    {"balance": 0.5, "head_rate": 10.0, "layer_decay": 0.8, "drop_path": 0.1},
    {"freeze": "first", "freeze_epochs": 1},
    {"freeze": "always", "freeze_epochs": 0},
    {"freeze": "always", "frozen_layers": 0.7, "init_from": "before", "learn": ["age"]},
    {"size_from": 0.5, "mixer": "mixup_cutmix", "mix_within": {"age": [">=60"], "mask": ["wear"]}},
    {"soup_epochs": 3, "bn_batches": 20, "ema_decay": 0.0},
    {"soup_epochs": 5, "freeze": "always"},
    {"drop": {"age": [57, 58, 59], "mask": ["incorrect"]}},
    {"cuts": {"age": [29, 57]}},
    {"split": "none", "folds": [0]},
    {"folds": [2, 0]},
    {"backbone": ["resnet18", "efficientnet_b0"]},
    {"backbone": ["resnet18"], "weights_path": "w.pth"},
]


def faults(changes):
    found = Faults()
    check_together(PARAMS | changes, "train", found)
    return found.found


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_what_means_nothing_is_refused_in_one_sentence_that_names_it(changes):
    (sentence,) = faults(changes)
    names = [
        *changes,
        *(key for value in changes.values() if isinstance(value, dict) for key in value),
    ]
    assert any(name in sentence for name in names)
    assert "\n" not in sentence
    assert ". " not in sentence


@pytest.mark.parametrize("changes", MEANINGFUL, ids=str)
def test_what_means_something_passes(changes):
    assert not faults(changes)


def test_all_faults_are_told_at_once():
    changes = REFUSED["no epochs"] | REFUSED["patience without a score"] | {"folds": [3]}
    starts = [sentence.split("=")[0] for sentence in faults(changes)]
    assert starts == ["train: split", "train: folds", "train: epochs"]


def test_a_plan_tells_all_faults_of_all_stages_before_anything_starts(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("epochs: 0\nsplit: none\npatience: 3\nsubmission: ledger\n")
    with pytest.raises(ParameterError) as caught:
        plan([read_layer(path)])
    first, *told = str(caught.value).splitlines()
    assert first == "3 faults"
    starts = ["train: split='none'", "train: epochs=0", "ensemble: submission='ledger'"]
    assert [line.strip()[: len(start)] for line, start in zip(told, starts, strict=True)] == starts


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
    (sentence,) = checks.broken(PARAMS | {"head": "joint"}, large)
    assert "too many labels for head='joint'" in sentence
    assert not checks.broken(PARAMS, large)


@pytest.mark.parametrize("layers", [[], [TINY]], ids=["whole", "tiny"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_passes(recipe, layers):
    steps = plan([read_layer(path) for path in [recipe, *layers]])
    assert "train" in [step.stage for step in steps]
