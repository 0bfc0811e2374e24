import pytest

from lib.artefacts import PROJECT
from lib.errors import ParameterError
from lib.learn import combinations
from lib.runner.parameters import declared
from lib.runner.stages import notebook_of, plan, read_layer

DEFAULTS = {name: parameter.default for name, parameter in declared(notebook_of("train")).items()}
RECIPES = sorted((PROJECT / "params" / "recipes").glob("*.yaml"))
TINY = PROJECT / "params" / "tiny.yaml"

REFUSED = {
    "joint learns no years": {"head": "joint", "age_head": "years"},
    "eight has no age of its own": {"head": "eight", "age_head": "regression"},
    "one attribute of a joint head": {"head": "joint", "task": "mask"},
    "an age head without age": {"task": "mask", "age_head": "ordinal"},
    "regression of two faces": {"mixer": "half_face", "age_head": "regression"},
    "regression of two pasted pictures": {"mixer": "cutmix", "age_head": "regression", "task": "age"},
    "neighbours of years": {"neighbour_smoothing": 0.2, "age_head": "years"},
    "neighbours of a mask": {"neighbour_smoothing": 0.2, "task": "mask"},
    "a loss that nothing uses": {"age_head": "ordinal", "task": "age", "loss": {"focal": 1.0}},
    "smoothing that nothing uses": {"age_head": "ordinal", "task": "age", "label_smoothing": 0.1},
    "weights that nothing uses": {"age_head": "ordinal", "task": "age", "class_weights": "balanced"},
    "weights without terms": {"class_weights": "balanced", "loss": {"f1": 1.0}},
    "copies of one attribute": {"sampler": "copy", "task": "age"},
    "freezing that never ends": {"freeze": "first", "freeze_epochs": 8},
    "freezing that never starts": {"freeze": "after", "freeze_epochs": 0},
    "patience without a score": {"split": "none", "patience": 3},
    "plateau without a score": {"split": "none", "schedule": "plateau"},
    "a fold that is not there": {"folds": [0, 5]},
    "a second fold of a holdout": {"split": "holdout", "folds": [1]},
    "no epochs": {"epochs": 0},
    "no dropout to draw": {"dropout": 0.0, "dropout_samples": 4},
    "a mixer that never mixes": {"mixer": "mixup", "mixer_off_epochs": 6},
    "steps that never come": {"schedule": "step", "decay_epochs": 10.0},
    "a check for leaks with true labels": {"shuffle_labels": True, "init_from": "other"},
    "statistics that stay": {"bn_batches": 2, "freeze": "always"},
    "an age that nobody has": {"drop_ages": [57, 61]},
    "an age that is no number": {"drop_ages": ["57"]},
    "two origins of the weights": {"init_from": "other", "weights_path": "w.pth"},
    "one file for two backbones": {"backbone": ["resnet18", "resnet34"], "weights_path": "w.pth"},
}
MEANINGFUL = [
    {"age_head": "ordinal"},
    {"age_head": "regression", "mixer": "mixup"},
    {"age_head": "years", "task": "age"},
    {"age_head": "ordinal", "loss": {"focal": 1.0}, "class_weights": "balanced", "label_smoothing": 0.1},
    {"class_weights": "balanced", "loss": {"f1": 0.4, "focal": 0.6}},
    {"head": "joint", "neighbour_smoothing": 0.2, "mixer": "half_face"},
    {"task": "mask", "mixer": "half_face"},
    {"freeze": "first", "freeze_epochs": 1},
    {"freeze": "always", "freeze_epochs": 0},
    {"drop_ages": [57, 58, 59]},
    {"split": "none", "folds": [0]},
    {"folds": [4, 0]},
    {"backbone": ["resnet18", "efficientnet_b0"]},
    {"backbone": ["resnet18"], "weights_path": "w.pth"},
]


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_what_means_nothing_is_refused_in_one_sentence_that_names_it(changes):
    with pytest.raises(ParameterError) as caught:
        combinations.check(**DEFAULTS | changes)
    sentence = str(caught.value)
    assert any(f"{name}=" in sentence or name in sentence.split() for name in changes)
    assert "\n" not in sentence
    assert ". " not in sentence


@pytest.mark.parametrize("name", [*combinations.CHOICES, "loss", "augment"])
def test_a_wrong_choice_is_refused_with_the_choices(name):
    wrong = {"loss": {"sofft": 1.0}, "augment": ["sofft"]}.get(name, "sofft")
    with pytest.raises(ParameterError, match=f"{name}='sofft' is not one of: "):
        combinations.check_choices(DEFAULTS | {name: wrong})


@pytest.mark.parametrize("changes", [{}, *MEANINGFUL], ids=str)
def test_what_means_something_passes(changes):
    combinations.check(**DEFAULTS | changes)


@pytest.mark.parametrize("layers", [[], [TINY]], ids=["whole", "tiny"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_passes(recipe, layers):
    steps = plan([read_layer(path) for path in [recipe, *layers]])
    trained = [step for step in steps if step.stage == "train"]
    assert trained
    for step in trained:
        combinations.check(**DEFAULTS | step.values)
