"""Folds on nodes without a shared disk, as far as no Ray is needed.

``tests/soak_cluster.py --no-shared-disk`` runs a batch on nodes that work in other folders.
"""

import hashlib
import os
from types import SimpleNamespace

import pytest

from lib import artefacts
from lib.errors import ArtefactError, ParameterError
from lib.runner import chain, cluster, finished, parameters, parcels, shipping
from lib.runner.stages import Step, notebook_of
from lib.runner.units import Unit

DEFAULTS = {key: each.default for key, each in parameters.declared(notebook_of("train")).items()}


class Store:
    """Ray's object store, which counts what is fetched."""

    def __init__(self):
        self.kept, self.fetched = [], 0

    def put(self, piece):
        self.kept.append(piece)
        return len(self.kept) - 1

    def get(self, number):
        self.fetched += 1
        return self.kept[number]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that is taken for the project's."""
    for module in (artefacts, finished, parcels, shipping):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(finished, "TASKS", tmp_path / "params" / "tasks")
    monkeypatch.setattr(parcels, "CACHE", tmp_path / "cache")
    return tmp_path


def write(project, *paths):
    for path in paths:
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(path)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def training(**changes):
    return Step("train", {}, DEFAULTS | changes)


def fold(**changes):
    return Unit("a", training(**changes), "runs/a/fold0/03_train", "fold 0", "x", gpus=0.0)


def test_a_file_is_sent_in_pieces_and_fetched_once(project, monkeypatch):
    monkeypatch.setattr(parcels, "PIECE", 1000)
    content, store = os.urandom(2500), Store()
    (project / "table.parquet").write_bytes(content)
    sent = parcels.send(store, project / "table.parquet")
    assert sent[:2] == ("table.parquet", hashlib.sha256(content).hexdigest())
    assert [len(piece) for piece in store.kept] == [1000, 1000, 500]
    assert parcels.fetch(store, sent).read_bytes() == content
    parcels.fetch(store, sent)
    assert store.fetched == 3


def test_a_file_that_was_damaged_on_its_way_is_not_kept(project):
    write(project, "table.parquet")
    store = Store()
    sent = parcels.send(store, project / "table.parquet")
    whole, store.kept = store.kept, [b"other"]
    with pytest.raises(ArtefactError, match=r"table.parquet was damaged on its way"):
        parcels.fetch(store, sent)
    store.kept = whole
    assert parcels.fetch(store, sent).read_text() == "table.parquet"


def test_an_archive_takes_the_place_of_a_folder_whole_or_not_at_all(project):
    write(project, "node/best.pt", "node/deep/history.csv", "node/.lock", "here/last.pt")
    archive, digest = parcels.pack(project / "node")
    with pytest.raises(ArtefactError, match="damaged"):
        parcels.unpack(archive[:-1], digest, project / "here")
    assert names(project / "here") == ["last.pt"]
    parcels.unpack(archive, digest, project / "here")
    assert names(project / "here") == ["best.pt", "deep"]
    assert (project / "here/deep/history.csv").read_text() == "node/deep/history.csv"
    assert not list(project.glob(".*"))


def test_a_fold_is_sent_what_it_reads_but_no_photos_and_no_code(project):
    crops = "work/demo/crops/face_m0.25_keep_112x112"
    read = [
        "work/demo/images.parquet", f"{crops}/pixels.npy", f"{crops}/crops.parquet",
        "work/other/images.parquet", "runs/base/metrics.json", "runs/base/fold0/best.pt",
        "submissions/first.parquet", "submissions/first.json", "mine/relabel.csv",
    ]  # fmt: skip
    others = [
        "data/demo/train/1.jpg", "params/relabel/core.csv", "lib/learn/loop.py",
        "work/demo/crops/whole_keep_112x112/pixels.npy", "runs/base/.params.yaml.lock",
        "runs/another/metrics.json", "submissions/second.parquet",
    ]  # fmt: skip
    write(project, *read, *others)
    step = training(
        extra_data=["work/other"], init_from="base", pseudo_labels="first",
        relabel=["params/relabel/core.csv", "mine/relabel.csv"],
    )  # fmt: skip
    found = [str(path.relative_to(project)) for path in shipping.reads(step)]
    assert sorted(found) == sorted(read)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"work_dir": "/disk/work"}, r"work_dir='/disk/work' is outside the project"),
        ({"extra_data": ["work/a", "../b"]}, r"extra_data='\.\./b' is outside the project"),
        ({"weights_path": "~/b0.pt"}, r"weights_path='~/b0.pt' is outside the project"),
        ({"precision": "auto"}, r"precision='auto' is measured once"),
    ],
)
def test_what_would_mean_something_else_on_a_node_is_refused(changes, told):
    shipping.check_sendable(fold())
    with pytest.raises(ParameterError, match=told):
        shipping.check_sendable(fold(**changes))


@pytest.mark.parametrize("on", [[], ["--on", "local:2"], ["--on", "ray"]])
def test_one_machine_needs_no_sending(capsys, on):
    with pytest.raises(SystemExit):
        chain.main(["a.yaml", "--no-shared-disk", *on])
    assert "--no-shared-disk goes with --on auto or ray://" in capsys.readouterr().err


def test_only_folds_are_sent():
    whole = fold()._replace(part="", makes="")
    sweep = fold()._replace(step=Step("sweep", {}, {}), makes="")
    assert [shipping.is_sent(each) for each in (fold(), whole, sweep)] == [True, False, False]


@pytest.mark.parametrize(
    ("on", "told"), [("ray", "Ray does not start here"), ("auto", "no Ray answers: start it first")]
)
def test_a_ray_that_cannot_start_is_told_in_a_sentence(monkeypatch, on, told):
    def init(**options):
        raise Exception("The current node timed out during startup.\nMore lines")

    ended = []
    broken = SimpleNamespace(init=init, shutdown=lambda: ended.append(True))
    monkeypatch.setattr(cluster, "_ray", lambda on: broken)
    monkeypatch.setattr(cluster, "_start_here", lambda ray, options: ray.init(**options))
    with pytest.raises(ParameterError) as error:
        cluster.open_ray(on, allow_public=False)
    assert told in str(error.value)
    assert str(error.value).endswith("(Exception: The current node timed out during startup.)")
    assert ended
