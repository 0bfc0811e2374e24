import gc
import math
import os
import subprocess
import sys
import weakref
from copy import deepcopy
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from conftest import PARAMS
from several_processes import train_two_epochs
from torch import nn
from torch.nn import functional as F

from lib import artefacts
from lib.errors import ArtefactError
from lib.learn import loop, precision, recipe
from lib.learn.checkpoints import TIMES

SETTINGS = PARAMS | {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "weight_decay": 0.0,
    "epochs": 6,
    "warmup_epochs": 0,
    "min_learning_rate": 0.0,
    "decay_epochs": 2.0,
    "decay_rate": 0.1,
}


class MeanSquare(nn.Module):
    def forward(self, outputs, targets):
        return F.mse_loss(outputs, targets)


def toy():
    """Return a model with batch statistics and dropout: a run that goes on must repeat both."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1)
    )


def batches(epoch, size=16):
    """Yield four batches of a linear law, seeded by the epoch alone."""
    torch.manual_seed(100 + epoch)
    for _ in range(4):
        inputs = torch.randn(size, 4)
        yield inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])


def learner(model=None, ema_decay=0.9, accumulate=1, accelerator=None, soup=False, **settings):
    params, model = SETTINGS | settings, model or toy()
    steps = recipe.optimizer(params, model)
    scheduler = recipe.scheduler(params, steps, updates=4)
    accelerator = accelerator or precision.accelerator(precision.PRECISIONS["fp32"], accumulate)
    return loop.Learner.create(model, MeanSquare(), steps, scheduler, accelerator, ema_decay, soup)


@torch.no_grad()
def evaluate(model):
    inputs, targets = next(iter(batches(999)))
    return {"score": -F.mse_loss(model.eval()(inputs), targets).item()}


def scripted(*scores):
    remaining = iter(scores)
    return lambda model: {"score": next(remaining)}


def tensors(state):
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def assert_same(one, other):
    assert tensors(one).keys() == tensors(other).keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in tensors(one).items())


def test_the_loop_learns_and_keeps_the_best_epoch(tmp_path):
    weights = []
    student = learner(epochs=8)
    history = loop.fit(
        student, batches, epochs=8, evaluate=evaluate, folder=tmp_path,
        after_epoch=lambda rows: weights.append(deepcopy(student.evaluated().state_dict())),
    )  # fmt: skip
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] / 4
    assert list(history["epoch"]) == list(range(1, 9))
    assert_same(torch.load(tmp_path / "best.pt"), weights[history["score"].argmax()])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), history)


@pytest.mark.parametrize(
    ("optimizer", "schedule", "ema_decay", "killed_after"),
    [
        ("sgd", "cosine", 0.9, 1),
        ("adamw", "plateau", 0.0, 3),
        ("adamw", "plateau", 0.9, 4),
        ("adam", "restarts", 0.9, 5),
    ],
)
def test_a_killed_run_ends_as_if_it_had_not_been(
    tmp_path, optimizer, schedule, ema_decay, killed_after
):
    settings = {
        "optimizer": optimizer,
        "schedule": schedule,
        "ema_decay": ema_decay,
        "warmup_epochs": 1,
        "decay_epochs": 1,
    }
    scores = [0.5, 0.4, 0.4, 0.6, 0.3, 0.2]  # plateaus, best in the middle
    whole = learner(**settings)
    history = loop.fit(
        whole, batches, epochs=6, evaluate=scripted(*scores), folder=tmp_path / "whole"
    )

    def kill(rows):
        if len(rows) == killed_after:
            raise KeyboardInterrupt

    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        loop.fit(
            learner(**settings),
            batches,
            epochs=6,
            evaluate=scripted(*scores),
            folder=folder,
            after_epoch=kill,
        )
    resumed = learner(**settings)
    evaluate = scripted(*scores[killed_after:])
    continued = loop.fit(resumed, batches, epochs=6, evaluate=evaluate, folder=folder)

    pd.testing.assert_frame_equal(*(table.drop(columns=TIMES) for table in (continued, history)))
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert_same(resumed.evaluated().state_dict(), whole.evaluated().state_dict())
    assert_same(torch.load(folder / "best.pt"), torch.load(tmp_path / "whole" / "best.pt"))
    assert resumed.updates == whole.updates == 24
    one, other = (student.optimizer.state_dict() for student in (resumed, whole))
    assert [group["lr"] for group in one["param_groups"]] == [
        group["lr"] for group in other["param_groups"]
    ]
    for place, state in other["state"].items():
        assert_same(one["state"][place], state)


def epochs_kept(student, folder, epochs, **settings):
    """Train, and return the weights that each epoch left."""
    kept = []
    after = lambda rows: kept.append(deepcopy(student.newest().state_dict()))  # noqa: E731
    loop.fit(
        student, batches, epochs=epochs, evaluate=evaluate, folder=folder, after_epoch=after,
        **settings,
    )  # fmt: skip
    return kept


@pytest.mark.parametrize(("ema_decay", "name"), [(0.9, "fp32"), (0.0, "bf16_channels_last")])
def test_the_soup_is_the_mean_of_the_last_epochs_and_measures_its_own_statistics(
    tmp_path, ema_decay, name
):
    accelerator = precision.accelerator(precision.PRECISIONS[name])
    layers = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)]
    model = nn.Sequential(*layers)  # no dropout: its draws would change the next batch
    student = learner(model, ema_decay=ema_decay, accelerator=accelerator, soup=True)
    kept = epochs_kept(student, tmp_path, 6, soup_epochs=4, bn_batches=3)
    soup = student.evaluated().state_dict()
    for weight in (name for name, _ in student.model.named_parameters()):
        mean = torch.stack([state[weight] for state in kept[-4:]]).double().mean(0)
        torch.testing.assert_close(soup[weight].double(), mean, rtol=1e-6, atol=1e-7)
    fresh = nn.Sequential(*deepcopy(layers))
    fresh.load_state_dict(soup)
    with torch.no_grad():
        means = [fresh[0](inputs).mean(0) for inputs, _ in list(batches(5))[:3]]
    torch.testing.assert_close(soup["1.running_mean"], torch.stack(means).mean(0))
    inputs, _ = next(iter(batches(7)))
    assert torch.equal(student.evaluated()(inputs), fresh.eval()(inputs))


def test_before_its_epochs_a_soup_changes_nothing(tmp_path):
    plain, cooking = learner(), learner(soup=True)
    first = loop.fit(plain, batches, epochs=6, evaluate=evaluate, folder=tmp_path / "plain")
    second = loop.fit(
        cooking, batches, epochs=6, evaluate=evaluate, folder=tmp_path / "soup", soup_epochs=2
    )
    columns = ["loss", "learning_rate", "score"]
    pd.testing.assert_frame_equal(first[columns][:4], second[columns][:4])
    pd.testing.assert_frame_equal(first[columns[:2]], second[columns[:2]])  # training goes on
    assert first["score"].iloc[-1] != second["score"].iloc[-1]
    assert_same(plain.model.state_dict(), cooking.model.state_dict())


@pytest.mark.parametrize("killed_after", [2, 4])
def test_a_killed_soup_ends_byte_for_byte_as_if_it_had_not_been(tmp_path, killed_after):
    def kill(rows):
        if len(rows) == killed_after:
            raise KeyboardInterrupt

    settings = {"epochs": 5, "evaluate": evaluate, "soup_epochs": 3, "bn_batches": 2}
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    loop.fit(learner(soup=True), batches, folder=whole, **settings)
    with pytest.raises(KeyboardInterrupt):
        loop.fit(learner(soup=True), batches, folder=folder, after_epoch=kill, **settings)
    loop.fit(learner(soup=True), batches, folder=folder, **settings)
    assert (folder / "best.pt").read_bytes() == (whole / "best.pt").read_bytes()
    one, other = (torch.load(path / "last.pt")["soup"] for path in (folder, whole))
    assert_same(one, other)
    assert int(one["n_averaged"]) == 3


def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(tmp_path, capsys):
    whole = learner()
    history = loop.fit(whole, batches, epochs=6, evaluate=evaluate, folder=tmp_path / "whole")
    folder = tmp_path / "cut"
    loop.fit(learner(), batches, epochs=4, evaluate=evaluate, folder=folder)
    (folder / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:500])
    resumed = learner()
    continued = loop.fit(resumed, batches, epochs=6, evaluate=evaluate, folder=folder)
    assert "last.pt cannot be read" in capsys.readouterr().out
    pd.testing.assert_frame_equal(*(table.drop(columns=TIMES) for table in (continued, history)))
    assert_same(resumed.model.state_dict(), whole.model.state_dict())


class Named(list):
    """Batches that know their photos."""

    def keys(self, step):
        return [f"photo {step}a", f"photo {step}b"]


def test_a_loss_that_is_not_finite_names_the_photos_and_the_step():
    good = (torch.ones(2, 4), torch.ones(2, 1))
    broken = (torch.ones(2, 4), torch.full((2, 1), math.nan))
    with pytest.raises(loop.TrainingError, match="batch 2: .*photo 1a, photo 1b.*is kept"):
        loop.train_epoch(learner(), Named([good, broken]), "epoch")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "lower batch_"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "lower batch_size"),
        (MemoryError(), "Out of memory in epoch, batch 1: lower batch_size"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal"), "worker died.*photo 0a"),
    ],
)
def test_what_a_user_can_change_is_said(monkeypatch, error, told):
    monkeypatch.setattr(loop, "_step", lambda *arguments: (_ for _ in ()).throw(error))
    with pytest.raises(loop.TrainingError, match=told):
        loop.train_epoch(learner(), Named([(torch.ones(2, 4), torch.ones(2, 1))]), "epoch")


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    whole = loop.fit(learner(), batches, epochs=3, evaluate=evaluate, folder=tmp_path / "whole")
    jumps = iter([4e9, 0, 3e9, 1e9, -5.0] * 200)
    monkeypatch.setattr(loop.time, "time", lambda: next(jumps))
    jumped = loop.fit(learner(), batches, epochs=3, evaluate=evaluate, folder=tmp_path / "jumped")
    pd.testing.assert_frame_equal(jumped.drop(columns=TIMES), whole.drop(columns=TIMES))
    assert (jumped["seconds"] >= 0).all()
    assert jumped["seconds"].sum() < 1e6


def test_other_errors_stay_what_they_are(monkeypatch):
    def fails(*arguments):
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr(loop, "_step", fails)
    with pytest.raises(RuntimeError, match="a fault of the program"):
        loop.train_epoch(learner(), [(torch.ones(2, 4), torch.ones(2, 1))], "epoch")


def test_a_disk_that_is_too_full_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(artefacts.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(ArtefactError, match=r"GB are needed and 0\.00 GB are free"):
        loop.fit(learner(), batches, epochs=1, evaluate=evaluate, folder=tmp_path / "fold0")


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = loop.fit(learner(), batches, epochs=3, evaluate=evaluate, folder=tmp_path)
    again = loop.fit(learner(), None, epochs=3, evaluate=None, folder=tmp_path)
    pd.testing.assert_frame_equal(first, again)


def test_patience_ends_the_training_and_the_best_epoch_stays(tmp_path):
    seen = []
    scores = scripted(0.1, 0.5, 0.4, 0.5, 0.9)
    history = loop.fit(
        learner(ema_decay=0),
        batches,
        epochs=6,
        evaluate=scores,
        folder=tmp_path,
        patience=2,
        before_epoch=seen.append,
    )
    assert history["score"].tolist() == [0.1, 0.5, 0.4, 0.5]  # the fourth is no better
    assert seen == [0, 1, 2, 3]
    resumed = loop.fit(
        learner(ema_decay=0), batches, epochs=6, evaluate=scores, folder=tmp_path, patience=2
    )
    assert len(resumed) == 4


def test_without_a_score_the_last_epoch_counts(tmp_path):
    student = learner()
    loop.fit(
        student,
        batches,
        epochs=3,
        evaluate=lambda model: {"score": math.nan},
        folder=tmp_path,
        patience=1,
    )
    assert student.updates == 12
    assert_same(torch.load(tmp_path / "best.pt"), student.evaluated().state_dict())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_says_the_fix(tmp_path, value):
    def broken(epoch):
        yield torch.ones(2, 4), torch.full((2, 1), value)

    with pytest.raises(loop.TrainingError, match="epoch 1/6, batch 1: lower learning_rate"):
        loop.fit(learner(), broken, epochs=6, evaluate=evaluate, folder=tmp_path)


def test_two_accumulated_half_batches_are_one_batch():
    def halves(epoch):
        for inputs, targets in batches(epoch):
            yield from zip(inputs.chunk(2), targets.chunk(2), strict=True)

    ends = []
    for data, accumulate in ((batches, 1), (halves, 2)):
        torch.manual_seed(0)
        student = learner(nn.Linear(4, 1), ema_decay=0, accumulate=accumulate)
        loop.train_epoch(student, data(0), "")
        assert student.updates == 4
        ends.append(student.model.weight.detach())
    torch.testing.assert_close(*ends)


def test_the_moving_average_follows_the_weights():
    student = learner(ema_decay=0.9)
    decays = [
        min(0.9, 1 - (1 + step) ** (-2 / 3)) for step in range(4)
    ]  # timm's warm-up: gamma 1, power 2/3
    average = student.model[0].weight.detach().clone()
    for (inputs, targets), decay in zip(batches(0), decays, strict=True):
        loop.train_epoch(student, [(inputs, targets)], "")
        average = torch.lerp(student.model[0].weight.detach(), average, decay)
    torch.testing.assert_close(student.evaluated()[0].weight, average)


def test_folds_do_not_pile_up_in_memory():
    accelerator = precision.accelerator(precision.PRECISIONS["fp32"])
    first = toy()
    gone = weakref.ref(first)
    for model in (first, toy()):
        steps = recipe.optimizer(SETTINGS, model)
        scheduler = recipe.scheduler(SETTINGS, steps, updates=1)
        loop.Learner.create(model, MeanSquare(), steps, scheduler, accelerator, 0.0)
    del first, model, steps, scheduler
    gc.collect()
    assert gone() is None


def test_one_process_may_train_at_one_precision_after_another():
    modes = [
        precision.accelerator(precision.PRECISIONS[name]).mixed_precision
        for name in precision.PRECISIONS
    ]
    assert modes == ["no", "no", "bf16"]


def test_two_processes_take_the_steps_of_one(tmp_path, tiny_work):
    """By torchrun, as accelerate launches GPUs: half of each batch in each process."""
    train_two_epochs(tiny_work, tmp_path / "one", 16)
    script = artefacts.PROJECT / "tests/several_processes.py"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        script,
        tiny_work,
        tmp_path / "two",
        "8",
    ]
    here = {
        "PYTHONPATH": str(artefacts.PROJECT),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(command, check=True, env=os.environ | here)
    for name in ("model", "ema"):
        one, two = (torch.load(tmp_path / folder / "last.pt")[name] for folder in ("one", "two"))
        assert one.keys() == two.keys()
        for key, tensor in one.items():
            torch.testing.assert_close(two[key], tensor)
    assert pd.read_csv(tmp_path / "two/history.csv")["score"].tolist() == [0.0, 0.0]


def test_a_compiled_model_learns_and_is_kept_as_it_was(tmp_path):
    plain = learner()
    loop.fit(plain, batches, epochs=2, evaluate=evaluate, folder=tmp_path / "plain")
    assert (
        precision.accelerator(
            precision.PRECISIONS["fp32"], compiled=True
        ).state.dynamo_plugin.backend
        == "INDUCTOR"
    )
    AcceleratorState._reset_state()
    compiled = learner(
        accelerator=Accelerator(dynamo_backend="eager")
    )  # inductor wants a compiler of C++
    loop.fit(compiled, batches, epochs=2, evaluate=evaluate, folder=tmp_path / "compiled")
    assert type(compiled.prepared).__name__ == "OptimizedModule"
    one, other = (torch.load(tmp_path / name / "best.pt") for name in ("plain", "compiled"))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor)
