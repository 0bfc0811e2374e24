"""How fast this machine goes beside what people use and beside its own limit, as ratios of one run.

What is compared takes turns, so that a slow moment of the machine falls on both, and the median over turns counts.
``peer`` is a library used plainly, ``limit`` the same arithmetic with nothing around it.
"""

import json
import operator
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import timm
import torch
from jupyter_client.manager import start_new_kernel
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision import datasets, transforms

from lib import artefacts
from lib.artefacts import PROJECT, resolve
from lib.data.dataset import load_images, people
from lib.errors import DataError
from lib.face import faces, mtcnn
from lib.face.crops import Crops, made_from, make_crop, open_crops, stored_size
from lib.learn import batches, heads, mixers, models, train, training_set
from lib.learn.precision import PRECISIONS, Precision, accelerator, choose, chosen
from lib.runner import parameters
from lib.runner.stages import notebook_of
from lib.score import predict, runs
from lib.task import labels

COLUMNS = ["measure", "ours", "peer", "limit", "ratio", "bar", "reached", "conditions"]
DIRECTIONS = {"≥": operator.ge, "≤": operator.le}
NAN = float("nan")
MEMORY = ["megabytes", "own"]  # all that is resident, and what is no page of a file
EVERY = 0.02  # seconds between two looks at a process's memory


# Turns, and what a row of the table says


def timed(call: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def take_turns(calls: Mapping[str, Callable[[], object]], turns: int) -> pd.DataFrame:
    """Return the seconds of each call (columns) in each turn (rows), after one turn that warms up and is not counted.

    Every other turn goes backwards, so that a machine that grows slower or faster favours nobody.
    """
    orders = [list(calls.items())[:: (-1) ** turn] for turn in range(turns + 1)]
    rows = [{name: timed(call)[0] for name, call in order} for order in orders]
    return pd.DataFrame(rows[1:], columns=list(calls))


def result(
    measure: str, bar: str, ours: float, conditions: str, peer: float = NAN, limit: float = NAN, ratio: float = NAN
) -> dict:
    """Return a row of the table; ``bar`` such as "≥ 8" judges the ratio, or ``ours`` where nothing is compared."""
    sign, value = bar.split()
    reached = bool(DIRECTIONS[sign](ours if np.isnan(ratio) else ratio, float(value)))
    return dict(zip(COLUMNS, (measure, ours, peer, limit, ratio, bar, reached, conditions), strict=True))


def compared(measure: str, bar: str, seconds: pd.DataFrame, photos: int, other: str, conditions: str) -> dict:
    """Return a row of photos a second from turns of ``photos`` with the columns "ours" and ``other`` ("peer" or "limit")."""
    rates = photos / seconds[["ours", other]].median()
    ratio = (seconds[other] / seconds["ours"]).median()
    return result(measure, bar, rates["ours"], conditions, ratio=ratio, **{other: rates[other]})


# Face boxes


def jpegs(images: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return up to ``count`` readable training JPEGs, a third of each mask state, in random order."""
    readable = images[(images["split"] == "train") & (images["status"] == "ok")]
    photos = readable[readable["file"].str.lower().str.endswith((".jpg", ".jpeg"))].sample(frac=1, random_state=0)
    return photos.groupby("mask").head(count // len(labels.MASKS))


def face_boxes(
    photos: pd.DataFrame, data_dir: str | Path, work_dir: Path, turns: int
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the seconds a photo by turn, "ours" and "peer" (MTCNN photo by photo), and the boxes that each found.

    Every turn has photos of its own; the networks are loaded before.
    """
    files = resolve(data_dir) / photos["file"]
    faces.detect_files(files[:1])
    seconds, ours, peer = [], [], []
    for turn, keys in enumerate(np.array_split(photos.index, turns)):
        start = time.perf_counter()
        ours.append(faces.build_faces(photos.loc[keys], data_dir, work_dir / f"turn{turn}"))
        middle = time.perf_counter()
        peer.append(mtcnn.detect_one_by_one(files[keys]).set_index(keys))
        seconds.append({"ours": (middle - start) / len(keys), "peer": (time.perf_counter() - middle) / len(keys)})
    return pd.DataFrame(seconds), {"ours": pd.concat(ours), "peer": pd.concat(peer)}


def detection_rates(boxes: Mapping[str, pd.DataFrame], mask: pd.Series) -> pd.DataFrame:
    """Return the share of photos with a face by mask state (rows) and detector: any that it returns, and sure ones."""
    found = {"ours, any": boxes["ours"]["status"].isin(["detected", "low"]), "MTCNN, any": boxes["peer"]["x0"].notna()}
    names = {"ours": "ours, sure", "peer": "MTCNN, sure"}
    found |= {name: boxes[who]["score"] >= faces.SURE for who, name in names.items()}
    state = mask.map(dict(enumerate(labels.MASKS)))
    return pd.DataFrame(found).groupby(state).mean().reindex(labels.MASKS)


def points_behind(rates: pd.DataFrame) -> float:
    """Return by how many points of ``detection_rates`` ours is below MTCNN's, in the mask state where it is worst."""
    return 100 * max((rates[f"MTCNN, {kind}"] - rates[f"ours, {kind}"]).max() for kind in ("any", "sure"))


def mean_iou(boxes: Mapping[str, pd.DataFrame]) -> float:
    """Return the mean IoU of the boxes of photos in which both found a face."""
    both = boxes["peer"]["x0"].notna() & boxes["ours"]["status"].isin(["detected", "low"])
    return float(faces.iou(boxes["ours"].loc[both, faces.BOX], boxes["peer"].loc[both, faces.BOX]).mean())


# Training: the recipe as notebook 03 puts it together, the arithmetic alone, and the loop that people write first


def recipe(**changes: object) -> dict:
    """Return the parameters of notebook 03 with their defaults, and ``changes``."""
    return {name: value.default for name, value in parameters.declared(notebook_of("train")).items()} | changes


def make_model(params: Mapping, memory_format: torch.memory_format) -> models.FaceModel:
    """Return the recipe's model."""
    outputs = heads.outputs(params["head"], params["age_head"], params["task"], params["old_from"])
    names = ("head", "image_size", "pretrained", "dropout", "dropout_samples")
    return models.create(params["backbone"], outputs, **{name: params[name] for name in names}).to(memory_format=memory_format)


def prepare(
    params: Mapping, photos: pd.DataFrame, crops: Crops, steps: int, path: Path
) -> tuple[train.Learner, batches.Epochs, pd.DataFrame]:
    """Return ``make_training`` at the precision that the recipe's probe chooses, and the probe's table, written to ``path``."""
    model = make_model(params, torch.contiguous_format)
    probe = choose(params["precision"], model, params["image_size"], params["batch_size"], path)
    return *make_training(params, photos, crops, chosen(probe), steps), probe


def make_training(
    params: Mapping, photos: pd.DataFrame, crops: Crops, precision: Precision, steps: int
) -> tuple[train.Learner, batches.Epochs]:
    """Return the recipe's learner and its epochs of ``steps`` batches on labelled photos."""
    manager = accelerator(precision)
    source = training_set.of_people("photos", photos, crops, params["drop_ages"])
    data = make_epochs(params, source, manager, precision, steps)
    model = make_model(params, precision.memory_format)
    optimizer = train.make_optimizer(model, params["optimizer"], params["learning_rate"], params["weight_decay"])
    names = ("schedule", "epochs", "warmup_epochs", "min_learning_rate", "decay_epochs", "decay_rate")
    scheduler = train.make_scheduler(optimizer, updates=data.updates, **{name: params[name] for name in names})
    names = ("loss", "focal_gamma", "label_smoothing", "neighbour_smoothing", "class_weights")
    criterion = heads.criterion(model.outputs, source.targets, **{name: params[name] for name in names})
    return train.Learner.create(model, criterion, optimizer, scheduler, manager, params["ema_decay"]), data


def make_epochs(params: Mapping, source: training_set.Source, manager, precision: Precision, steps: int) -> batches.Epochs:
    """Return the recipe's epochs on one source; ``manager`` is accelerate's."""
    return batches.Epochs(
        batches.Photos([source], params["augment"], params["image_size"], params["seed"]),
        training_set.classes([source], params["task"], params["old_from"]),
        params["sampler"],
        params["batch_size"],
        mixers.make_mixer(params["mixer"], params["mixer_alpha"], params["mixer_probability"]),
        params["mixer_off_epochs"],
        params["epochs"],
        manager,
        precision.memory_format,
        params["workers"],
        steps,
    )


def setting(params: Mapping, probe: pd.DataFrame) -> str:
    """Return what a training was measured under."""
    size = "x".join(map(str, params["image_size"]))
    precision = probe.index[probe["chosen"]][0]
    return f"{params['backbone'][0]}, {precision}, {size} px, batches of {params['batch_size']}, {threads()}"


def threads() -> str:
    """Return how many threads torch has."""
    return f"{torch.get_num_threads()} threads"


def our_epoch(learner: train.Learner, data: batches.Epochs) -> Callable[[], float]:
    """Return a call that trains one epoch as notebook 03 does."""
    return lambda: train.train_epoch(learner, data(0), "ours")


def pure_epoch(learner: train.Learner, data: batches.Epochs) -> Callable[[], None]:
    """Return a call that takes as many steps on one batch already in memory: forward, backward and step alone."""
    images, targets = next(iter(data(0)))
    steps = len(data(0))

    def epoch() -> None:
        learner.prepared.train()
        for _ in range(steps):
            learner.criterion(learner.prepared(images), targets).backward()
            learner.optimizer.step()
            learner.optimizer.zero_grad()

    return epoch


def plain_epoch(folder: Path, name: str, image_size: Sequence[int], batch_size: int, steps: int) -> Callable[[], None]:
    """Return a call that trains ``steps`` of the loop that people write first.

    ImageFolder, torchvision's transforms (as often as the augmentation ``light``), two workers, fp32, torch's Adam.
    """
    jitter, affine = transforms.ColorJitter(0.2, 0.2), transforms.RandomAffine(8, (0.03, 0.03), (0.95, 1.05))
    some = [transforms.RandomHorizontalFlip(), transforms.RandomApply([jitter], 0.5), transforms.RandomApply([affine], 0.3)]
    crop = [transforms.Resize(stored_size(image_size)), transforms.RandomCrop(image_size)]
    tensor = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    photos = datasets.ImageFolder(folder, transforms.Compose([*crop, *some, *tensor]))
    sampler = RandomSampler(photos, replacement=True, num_samples=steps * batch_size)
    loader = DataLoader(photos, batch_size, sampler=sampler, num_workers=2)
    model = timm.create_model(name, num_classes=len(photos.classes))
    optimizer, criterion = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()

    def epoch() -> None:
        for images, classes in loader:
            optimizer.zero_grad()
            criterion(model(images), classes).backward()
            optimizer.step()

    return epoch


def link_classes(photos: pd.DataFrame, data_dir: str | Path, folder: Path) -> Path:
    """Link photos into a folder a label, as ImageFolder wants them; return ``folder``."""
    for number, (label, file) in enumerate(zip(photos["label"], photos["file"], strict=True)):
        link = folder / f"{label:02d}" / f"{number}{Path(file).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(resolve(data_dir) / file)
    return folder


class Decoded:
    """Stands for ``Crops.pixels`` without a cache: row i is decoded and cut from its photo whenever it is asked for."""

    def __init__(self, crops: Crops, images: pd.DataFrame, found: pd.DataFrame, data_dir: str | Path):
        table = pd.read_parquet(crops.folder / "crops.parquet")
        self.files, self.faces, self.boxes = made_from(table, images, found, data_dir)
        self.size = stored_size(crops.image_size)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the crop (H, W, 3) RGB uint8."""
        return make_crop(self.files[row], self.faces[row], self.boxes[row], self.size, "keep")


def with_pixels(data: batches.Epochs, pixels) -> batches.Epochs:
    """Return the same epochs of photos whose stored crops are ``pixels``: an array, or ``Decoded``."""
    photos = copy(data.photos)
    photos.crops = [replace(crops, pixels=pixels) for crops in photos.crops]
    return replace(data, photos=photos)


def loaded(data: batches.Epochs) -> int:
    """Go through an epoch without training and return its number of photos."""
    return sum(len(images) for images, _ in data(0))


def loading(data: batches.Epochs) -> Callable[[], int]:
    """Return a call of ``loaded``."""
    return lambda: loaded(data)


def step_parts(learner: train.Learner, data: batches.Epochs) -> pd.Series:
    """Return the median seconds of each part of a training step over one epoch."""
    learner.prepared.train()
    rows, epoch = [], iter(data(0))
    for _ in range(len(data(0))):
        rows.append(_one_step(learner, epoch))
    return pd.DataFrame(rows).median()


def _one_step(learner: train.Learner, epoch: Iterator[tuple[Tensor, Tensor]]) -> dict[str, float]:
    seconds = {}
    seconds["load, augment, collate"], (images, targets) = timed(lambda: next(epoch))
    seconds["forward"], logits = timed(lambda: learner.prepared(images))
    seconds["loss"], loss = timed(lambda: learner.criterion(logits, targets))
    seconds["backward"], _ = timed(loss.backward)
    seconds["optimizer"], _ = timed(lambda: (learner.optimizer.step(), learner.optimizer.zero_grad()))
    seconds["EMA"], _ = timed(lambda: learner.ema.update(learner.model, step=1))
    return seconds


# Inference


def make_run(params: Mapping, keys: pd.Index, precision: pd.DataFrame, folds: int) -> runs.Run:
    """Write a finished run with untrained folds, whose test photos are ``keys``, and return it; ``precision`` is choose's."""
    run = runs.start(params["runs_dir"], params)
    artefacts.write_table(precision.reset_index(), run.folder / "precision.csv")
    columns = heads.columns(params["task"])
    for fold in range(folds):
        train.save(make_model(params, torch.contiguous_format).state_dict(), run.fold(fold) / "best.pt")
        plain = pd.DataFrame(1 / len(columns), keys, columns).assign(fold=fold)
        artefacts.write_table(plain, run.fold(fold) / "test.parquet")
    return run


def our_views(run: runs.Run, tta: str) -> Callable[[], pd.DataFrame]:
    """Return a call that predicts a run's test photos through the views of ``tta``, all folds, as notebook 04 does."""

    def views() -> pd.DataFrame:
        for fold in run.folds:
            (run.fold(fold) / f"test_{tta}.parquet").unlink(missing_ok=True)
        return predict.viewed(run, "test", tta)

    return views


def pure_views(run: runs.Run, photos: int, views: int) -> Callable[[], None]:
    """Return a call that takes as many forward passes on one batch already in memory."""
    precision = chosen(pd.read_csv(run.folder / "precision.csv", index_col="precision"))
    restored = (models.restore(run.params, run.fold(fold)) for fold in run.folds)
    folds = [model.to(memory_format=precision.memory_format) for model in restored]
    images = torch.rand(min(photos, predict.BATCH_SIZE), 3, *run.params["image_size"]) * 255
    images = images.contiguous(memory_format=precision.memory_format)

    @torch.inference_mode()
    def passes() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision.mixed_precision == "bf16"):
            for model in folds:
                for _ in range(views * photos // len(images)):
                    model(images)

    return passes


# A set of the competition's size, and what it costs a process of its own


def link_set(images: pd.DataFrame, data_dir: str | Path, folder: Path, photos: int) -> Path:
    """Link photos again and again into a set of about ``photos`` in the competition's layout, three fifths of it train.

    ``images`` is the index of ``data_dir``; people with all seven photos are repeated under new names. Returns ``folder``.
    """
    whole, test = people(images).query("photos == 7"), images[(images["split"] == "eval") & (images["status"] != "missing")]
    if whole.empty or test.empty:
        raise DataError(f"{data_dir}: nothing to repeat: it needs a person with seven photos and a test photo")
    count = max(1, round(photos * 0.6 / 7))
    files = images.groupby("person")["file"].agg(list)
    rows = [_link_person(number, row, files[row.Index], data_dir, folder) for number, row in _repeated(whole, count)]
    keys = [f"{number:040x}{Path(row.file).suffix}" for number, row in _repeated(test, photos - 7 * count)]
    for key, (_, row) in zip(keys, _repeated(test, len(keys)), strict=True):
        _link(folder / "eval/images" / key, resolve(data_dir) / row.file)
    artefacts.write_table(pd.DataFrame(rows), folder / "train/train.csv")
    artefacts.write_table(pd.DataFrame({"ImageID": keys, "ans": 0}), folder / "eval/info.csv")
    return folder


def _repeated(table: pd.DataFrame, count: int) -> Iterator[tuple[int, tuple]]:
    return enumerate(islice(cycle(table.itertuples()), count))


def _link_person(number: int, row: tuple, files: Sequence[str], data_dir: str | Path, folder: Path) -> dict:
    identity = {"id": f"{number:06d}", "gender": labels.GENDERS[row.gender], "race": row.race, "age": row.age}
    person = "_".join(map(str, identity.values()))
    for file in files:
        _link(folder / "train/images" / person / Path(file).name, resolve(data_dir) / file)
    return identity | {"path": person}


def _link(link: Path, file: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(file)


STATEMENTS = {  # by stage: its imports, and the call that does its work
    "index and audit": ("from lib.data import dataset", "dataset.build_images({data!r}, {work!r})"),
    "faces": (
        "from lib.data import dataset; from lib.face import faces",
        "faces.build_faces(dataset.load_images({work!r}), {data!r}, {work!r})",
    ),
    "crops": (
        "from lib.data import dataset; from lib.face import crops, faces",
        "crops.build_crops(dataset.load_images({work!r}), faces.load_faces({work!r}), {data!r}, {work!r}, {geometry})",
    ),
    "train": ("from lib.bench import bench", "bench.train_briefly({work!r})"),
}


def stage_alone(name: str, data_dir: Path, work_dir: Path) -> dict[str, float]:
    """Run a stage of STATEMENTS in a process of its own; return its seconds and peak memory as ``alone`` does."""
    geometry = ", ".join(repr(recipe()[key]) for key in predict.GEOMETRY)
    return alone(*(part.format(data=str(data_dir), work=str(work_dir), geometry=geometry) for part in STATEMENTS[name]))


def stage_costs(
    images: pd.DataFrame, data_dir: str | Path, work_dir: str | Path, folder: Path, photos: int, detected: int
) -> pd.DataFrame:
    """Return stage, photos, seconds and memory (as ``alone``) of every stage in turn on a new set linked below ``folder``.

    Faces are looked for in ``detected`` of them; the others' are known from ``work_dir``, as when a stopped run goes on.
    """
    linked, work = link_set(images, data_dir, folder / f"set{photos}", photos), folder / f"work{photos}"
    first, *others = STATEMENTS
    rows = [{"stage": first, "photos": photos} | stage_alone(first, linked, work)]
    know_faces(work, work_dir, max(0, photos - detected))
    rows += [{"stage": name, "photos": photos} | stage_alone(name, linked, work) for name in others]
    return pd.DataFrame(rows)


def know_faces(work: Path, work_dir: str | Path, photos: int) -> None:
    """Leave in ``work`` the faces of its first ``photos``, as a stopped run would: those of equal pictures in ``work_dir``."""
    known = pd.read_parquet(resolve(work_dir) / faces.DETECTIONS).drop_duplicates("source").set_index("source")
    sources = faces.fingerprints(load_images(work))[:photos]
    table = known.reindex(sources).set_axis(sources.index).assign(source=sources)
    artefacts.write_table(table, work / faces.DETECTIONS)


def train_briefly(work_dir: str) -> None:
    """Take three steps of the recipe, load every photo of an epoch, and predict two batches."""
    params = recipe()
    images, crops = load_images(work_dir), open_crops(work_dir, *(params[name] for name in predict.GEOMETRY))
    photos = training_set.with_crops(images, crops, "train")
    learner, data = make_training(params, photos, crops, PRECISIONS["fp32_channels_last"], 3)
    our_epoch(learner, data)()
    data.max_batches = 0
    loaded(data)
    some = photos.index[: 2 * predict.BATCH_SIZE]
    predict.predict(learner.evaluated(), crops, some, heads.columns(params["task"]), PRECISIONS["fp32_channels_last"])


def alone(imports: str, statement: str) -> dict[str, float]:
    """Run a statement in a Python process of its own; return its ``seconds`` without the imports, and its peak memory.

    ``megabytes`` is what the process has resident, ``own`` the same without pages of files, which the system takes back when it
    needs them (Linux counts them apart). Looked at every 20 ms; the stages start threads, no processes. CalledProcessError
    when the statement fails.
    """
    code = f"import time\n{imports}\nstart = time.perf_counter()\n{statement}\nprint(time.perf_counter() - start)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        peak = np.zeros(2)
        while process.poll() is None:
            peak = np.maximum(peak, _resident(process.pid))
            time.sleep(EVERY)
        printed = process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, statement)
    return {"seconds": float(printed.splitlines()[-1]), **dict(zip(MEMORY, peak / 2**20, strict=True))}


def _resident(pid: int) -> tuple[int, int]:
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.NoSuchProcess:  # it ended while it was looked at
        return 0, 0
    return memory.rss, memory.rss - getattr(memory, "shared", 0)


def peaks(costs: pd.DataFrame) -> pd.DataFrame:
    """Return each stage's memory at the larger of two sizes of ``stage_costs``, and ``growth`` of ``own`` a thousand photos."""
    few, many = (rows.set_index("stage") for _, rows in costs.groupby("photos", sort=True))
    return many[MEMORY].assign(growth=1000 * (many["own"] - few["own"]) / (many["photos"] - few["photos"]))


# What a stage costs before it does anything


def kernel_seconds(notebook: Path) -> float:
    """Return the seconds from starting a kernel to the end of a notebook's parameters and imports, its first two code cells."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    return timed(lambda: _run_cells(["".join(cell["source"]) for cell in cells[:2]]))[0]


def _run_cells(sources: Sequence[str]) -> None:
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(PROJECT), extra_arguments=["--log-level=CRITICAL"])
    try:
        for source in sources:
            reply = client.execute_interactive(source, allow_stdin=False, output_hook=lambda message: None)["content"]
            if reply["status"] != "ok":
                raise RuntimeError(f"{reply['ename']}: {reply['evalue']}")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def check_seconds(parameter_file: str | Path) -> tuple[float, bool]:
    """Return the seconds of ``python -m lib.run --check`` on a parameter file, and whether it imports torch."""
    command = ["-m", "lib.run", "--check", str(resolve(parameter_file))]
    run = partial(subprocess.run, cwd=PROJECT, check=True, capture_output=True, text=True)
    seconds, _ = timed(lambda: run([sys.executable, *command]))
    imported = run([sys.executable, "-X", "importtime", *command]).stderr
    return seconds, "torch" in (line.rpartition("|")[2].strip() for line in imported.splitlines())
