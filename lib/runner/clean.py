"""Delete what is not wanted any more: a run, or crop caches that no run needs.

What would be deleted is listed first, with its size; only ``--yes`` deletes.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lib.artefacts import leftovers, remove, resolve
from lib.errors import ArtefactError, FacefoldError, ParameterError
from lib.face import crops
from lib.runner.kernels import shown
from lib.textfiles import read_rows, read_yaml
from lib.workers import held, one_process


def clean(paths: Sequence[Path], runs_dir: Path, yes: bool) -> int:
    """List what ``paths`` hold that can go, delete it if ``yes``; return the exit code 0.

    A path is a run's folder, a data set's work folder, or a folder of those. ``runs_dir`` has the
    runs whose crops are kept. What dead processes left goes too.
    """
    paths = [path.absolute() for path in paths]
    found = {item: _used_by(item) for path in paths for item in _removable(path, resolve(runs_dir))}
    left = {item: "  (left by a dead process)" for path in paths for item in _left(path)}
    outside = {item: why for item, why in left.items() if not found.keys() & set(item.parents)}
    found |= outside  # the others go with their folder
    for path, why in found.items():
        print(f"{size(path):>10}  {shown(path)}{why}")
    if not found:
        print("nothing to delete")
    elif not yes:
        print("Nothing was deleted. To delete this: the same command with --yes.")
    for path in found if yes else []:
        _delete(path)
        print(f"deleted {shown(path)}")
    return 0


def _left(path: Path) -> list[Path]:
    """Return what dead processes left in a run or a work folder, or in one of a folder of those."""
    folders = [path, *path.glob("*"), *path.glob("*/crops")]
    return [item for folder in folders for item in leftovers(folder)]


def _removable(path: Path, runs_dir: Path) -> list[Path]:
    if (path / "params.yaml").is_file():
        if folds := held(path, "fold*"):
            raise ArtefactError(
                f"{shown(path)} is being trained ({', '.join(folds)}): stop that first"
            )
        return [path]
    sets = [folder for folder in (path, *path.glob("*")) if (folder / "images.parquet").is_file()]
    if not sets:
        raise ParameterError(
            f"--clean {shown(path)}: this is neither a run (with params.yaml) nor a work folder "
            "(with images.parquet): give runs/<experiment>, work/<set> or work"
        )
    needed = needed_caches(runs_dir)
    caches = sorted(cache for folder in sets for cache in folder.glob("crops/*"))
    return [
        cache
        for cache in caches
        if cache.is_dir() and cache.parent.resolve() / _name(cache) not in needed
    ]


def _name(folder: Path) -> str:
    """Return what a folder is called, or will be if it is a hidden one that is being built."""
    building = crops.BUILDING.fullmatch(folder.name)
    return building[1] if building else folder.name


def needed_caches(runs_dir: Path) -> set[Path]:
    """Return the folders of crops that the runs in ``runs_dir``, or one folder deeper, need."""
    files = [file for depth in ("*", "*/*") for file in runs_dir.glob(f"{depth}/params.yaml")]
    caches = [cache for file in files for cache in _caches(file)]
    return {cache.parent.resolve() / cache.name for cache in caches}


def _caches(file: Path) -> Iterable[Path]:
    params = read_yaml(file)
    try:
        geometry = crops.geometry(params)
        folders = [params["work_dir"], *params["extra_data"]]
        return [crops.cache_folder(folder, **geometry) for folder in folders]
    except (KeyError, TypeError, FacefoldError) as error:
        raise ParameterError(
            f"{shown(file)} does not say which crops its run needs ({error}): delete or move that "
            "run first"
        ) from None


def _used_by(path: Path) -> str:
    """Return which runs and submissions came from a run, in brackets."""
    if not (path / "params.yaml").is_file():
        return ""
    others = path.parent.glob("*/params.yaml")
    users = [f.parent.name for f in others if read_yaml(f).get("init_from") == path.name]
    ledger = resolve(read_yaml(path / "params.yaml").get("submissions_dir", "submissions"))
    if (ledger / "ledger.csv").is_file():
        rows = read_rows(ledger / "ledger.csv", ["name", "runs"])
        made = zip(rows["name"], rows["runs"], strict=True)
        users += [f"submission {name}" for name, runs in made if path.name in runs.split(";")]
    return f"  (used by {', '.join(dict.fromkeys(users))})" if users else ""


def size(path: Path) -> str:
    """Return how much the files below a path hold, in MB of a million bytes."""
    files = [] if path.is_symlink() else [path, *path.rglob("*")]
    return f"{sum(file.lstat().st_size for file in files if file.is_file()) / 1e6:.1f} MB"


def _delete(path: Path) -> None:
    """Delete a file, a folder, or a link but not what it links to, once nobody is making it."""
    with one_process(path.with_name(_name(path))):
        remove(path)
