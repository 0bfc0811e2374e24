"""The recipe: each part is what its parameters say."""

import numpy as np
import pytest
import torch
from conftest import PARAMS, TASK
from torch import nn

from lib.errors import ParameterError
from lib.learn import models, recipe, training_set
from lib.learn.precision import PRECISIONS

SMALL = PARAMS | {"backbone": ["test_resnet"], "pretrained": False, "image_size": [32, 32]}
SCHEDULE = PARAMS | {
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "warmup_epochs": 0,
    "min_learning_rate": 0.0,
    "decay_rate": 0.1,
}


def toy():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


def rates(schedule, epochs, updates=4, scores=None, **settings):
    """Return the learning rate of every update of a training."""
    params = SCHEDULE | {"schedule": schedule, "epochs": epochs} | settings
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = recipe.scheduler(params, optimizer, updates)
    used = []
    for epoch in range(epochs):
        for update in range(updates):
            used.append(optimizer.param_groups[0]["lr"])
            scheduler.step_update(epoch * updates + update + 1)
        scheduler.step(epoch + 1, scores[epoch] if scores else 0.0)
    return used


def cosine(share, low=0.0):
    return low + (1 - low) * (1 + np.cos(np.pi * share)) / 2


def test_cosine_falls_from_the_top_to_the_bottom():
    expected = cosine(np.arange(20) / 20, 0.2)
    np.testing.assert_allclose(rates("cosine", 5, min_learning_rate=0.2), expected)


def test_restarts_begin_again_at_the_top():
    expected = cosine(np.arange(20) % 8 / 8)
    np.testing.assert_allclose(rates("restarts", 5, decay_epochs=2.0), expected, atol=1e-12)


def test_steps_multiply():
    found = rates("step", 5, decay_epochs=2.0, decay_rate=0.5)
    np.testing.assert_allclose(found, 0.5 ** (np.arange(20) // 8))


def test_constant_is_constant():
    assert rates("constant", 3) == [1.0] * 12


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "restarts"])
def test_warm_up_is_linear_and_then_the_schedule_goes_on_as_without(schedule):
    warmed, plain = (np.array(rates(schedule, 4, warmup_epochs=warmup)) for warmup in (1.5, 0))
    np.testing.assert_allclose(warmed[:6], 0.01 + 0.99 * np.arange(6) / 6)
    np.testing.assert_allclose(warmed[6:], plain[6:])


def test_plateau_falls_when_the_score_no_longer_rises():
    scores = [0.1, 0.2, 0.2, 0.2, 0.2, 0.3]
    by_epoch = rates("plateau", 6, 1, scores, decay_epochs=1.0)
    # With a patience of 1 it is the second epoch without a rise that counts.
    np.testing.assert_allclose(by_epoch, [1, 1, 1, 1, 0.1, 0.1])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "restarts"])
def test_the_curve_that_is_drawn_is_what_a_training_uses(schedule):
    params = SCHEDULE | {"schedule": schedule, "epochs": 3, "warmup_epochs": 1}
    curve = recipe.learning_rates(params, updates=4)
    np.testing.assert_allclose(curve, rates(schedule, 3, warmup_epochs=1))
    np.testing.assert_allclose(curve.index, np.arange(12) / 4)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "adamp", "sgd"])
def test_every_named_optimizer_spares_biases_the_decay(name):
    params = PARAMS | {"optimizer": name, "learning_rate": 0.1, "weight_decay": 0.5}
    groups = recipe.optimizer(params, toy()).param_groups
    ndims = {group["weight_decay"]: {p.ndim for p in group["params"]} for group in groups}
    assert ndims == {0.0: {1}, 0.5: {2}}


def test_the_head_and_each_layer_have_learning_rates_of_their_own():
    params = SMALL | {"head_rate": 10.0, "layer_decay": 0.5, "learning_rate": 0.01}
    model = recipe.model(params, TASK)
    steps = recipe.optimizer(params, model)
    recipe.scheduler(params | {"warmup_epochs": 0, "schedule": "constant"}, steps, 1).step_update(1)
    rate = {id(p): group["lr"] for group in steps.param_groups for p in group["params"]}
    assert len(rate) == len(list(model.parameters()))
    assert {rate[id(p)] for p in model.classifiers.parameters()} == {0.1}
    body = model.backbone.models[0]
    first, last = (next(layer.parameters()) for layer in (body.conv1, body.layer4))
    assert rate[id(first)] < rate[id(last)] <= 0.01
    below = np.log2(0.01 / np.array([rate[id(p)] for p in body.parameters()]))
    np.testing.assert_allclose(below, below.round())  # whole powers of one half


def test_blocks_are_left_out_in_training_alone():
    model = recipe.model(SMALL | {"drop_path": 0.5, "image_size": [64, 64]}, TASK)
    for parameter in model.parameters():  # resnets start with blocks that add nothing
        torch.nn.init.normal_(parameter, 0.1, 0.1)
    images = torch.rand(2, 3, 64, 64) * 255
    model.train()
    torch.manual_seed(0)
    drawn = [model.backbone(images) for _ in range(4)]
    assert not all(torch.equal(drawn[0], other) for other in drawn[1:])
    model.eval()
    assert torch.equal(model.backbone(images), model.backbone(images))
    with pytest.raises(ParameterError, match="drop_path.*'vgg11'"):
        recipe.model(SMALL | {"drop_path": 0.5, "backbone": ["vgg11"]}, TASK)


def test_wrong_names_are_refused():
    with pytest.raises(ParameterError, match="did you mean 'adamw'"):
        recipe.optimizer(PARAMS | {"optimizer": "adamww"}, toy())
    with pytest.raises(ParameterError, match="constant, step, cosine, restarts, plateau"):
        rates("cosinus", 2)


@pytest.mark.parametrize(
    ("learn", "columns"),
    [
        ([], [f"p{k:02d}" for k in range(18)]),
        (["gender"], ["gender_0", "gender_1"]),
        (["age", "gender"], ["gender_0", "gender_1", "age_0", "age_1", "age_2"]),
    ],
)
def test_columns_are_what_the_model_predicts(learn, columns):
    params = SMALL | {"learn": learn}
    assert recipe.columns(params, TASK) == columns
    model = recipe.model(params, TASK).eval()
    assert model.probabilities(torch.rand(2, 3, 32, 32)).shape == (2, len(columns))


def test_seed_and_fold_draw_the_new_weights():
    def first(**changes):
        fold = changes.pop("fold", 0)
        return next(iter(recipe.model(SMALL | changes, TASK, fold).classifiers.parameters()))

    assert torch.equal(first(), first())
    assert torch.equal(first(seed=1), first(fold=1))
    assert not torch.equal(first(), first(seed=1))


@pytest.mark.parametrize("head", ["separate", "shared", "joint"])
def test_a_model_is_restored_from_its_runs_parameters(tmp_path, head):
    params = SMALL | {"head": head}
    model = recipe.model(params, TASK).eval()
    torch.save(model.state_dict(), tmp_path / "best.pt")
    restored = recipe.restore(params | {"pretrained": True}, TASK, tmp_path)
    assert not restored.training
    images = torch.rand(2, 3, 32, 32) * 255
    assert torch.equal(restored.probabilities(images), model.probabilities(images))


def test_every_part_of_a_training_follows_its_parameters(tiny_work):
    params = SMALL | {
        "work_dir": str(tiny_work), "relabel": [], "batch_size": 16, "accumulate": 2,
        "max_batches": 4,
        "optimizer": "sgd", "weight_decay": 0.25, "ema_decay": 0.0, "class_weights": "balanced",
        "sampler": "plain", "augment": ["none"],
    }  # fmt: skip
    data = training_set.load(params, TASK)
    sources = [data.source()]
    chosen = PRECISIONS["fp32"]
    accelerator = recipe.accelerator(params, chosen)
    epochs = recipe.epochs(params, TASK, sources, accelerator, chosen)
    assert (len(epochs(0)), epochs.updates) == (4, 2)
    learner = recipe.learner(params, TASK, sources, epochs, recipe.model(params, TASK))
    assert learner.ema is None
    assert {group["weight_decay"] for group in learner.optimizer.param_groups} == {0.0, 0.25}
    weights = learner.criterion.class_weights["mask"]
    torch.testing.assert_close(weights, torch.tensor([7 / 15, 7 / 3, 7 / 3]))


def test_a_frozen_backbone_is_freed_after_its_epochs():
    model = recipe.model(SMALL, TASK)
    params = SMALL | {"freeze": "first", "freeze_epochs": 2}
    for epoch, frozen in enumerate([True, True, False]):
        recipe.freeze(params, model, epoch)
        free = {p.requires_grad for p in model.backbone.parameters()}
        assert free == {not frozen}
        assert all(p.requires_grad for p in model.classifiers.parameters())


@pytest.mark.parametrize("name", ["hrnet_w18_small", "maxvit_tiny_tf_224", "mvitv2_tiny", "dla34"])
def test_a_backbone_that_does_not_take_the_size_says_its_own(name):
    params = SMALL | {"backbone": [name], "image_size": [112, 112]}
    with pytest.raises(ParameterError, match=r"image_size=\[112, 112\].*224, 224") as caught:
        recipe.model(params, TASK)
    assert "\n" not in str(caught.value)


def test_a_run_starts_from_another_runs_fold(tmp_path):
    first = recipe.model(SMALL | {"seed": 5}, TASK)
    torch.save(first.state_dict(), tmp_path / "best.pt")
    model = recipe.model(SMALL | {"pretrained": True}, TASK, start=tmp_path)
    assert isinstance(model, models.PhotoModel)
    for one, other in zip(first.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
