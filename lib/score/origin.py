"""What a run comes from: hashes of its data and code, the versions and the machine."""

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version

import pandas as pd
import psutil

from lib import PROJECT, artefacts
from lib.data.index import load_images

CODE = ("task", "data", "face", "learn", "score")  # the packages that decide what a run comes to
PACKAGES = ("torch", "timm", "accelerate", "albumentations", "numpy", "pandas", "scikit-learn")
FILES = ("file", "bytes", "modified")  # where a photo is, not what it is


def origin(params: Mapping) -> dict:
    """Return hashes of data and code, the seed, the commit, versions and hardware."""
    import torch  # seconds, which only the start of a run has to spend

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "data": _data(params),
        "code": _code(),
        "seed": params.get("seed"),
        "commit": artefacts.git_commit(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in PACKAGES},
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gigabytes": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu,
    }


def _data(params: Mapping) -> str:
    """Return a hash of the photos, their labels, and the corrections of them."""
    work_dir = params.get("work_dir", "")
    if not (artefacts.resolve(work_dir) / "images.parquet").exists():
        return ""
    images = load_images(work_dir)
    rows = pd.util.hash_pandas_object(images.drop(columns=list(FILES), errors="ignore"))
    corrections = [
        artefacts.file_hash(artefacts.resolve(file)) for file in params.get("relabel", [])
    ]
    return artefacts.fingerprint(rows.tolist(), corrections)


def _code() -> str:
    """Return a hash of the modules that a run depends on."""
    digest = hashlib.sha256()
    for package in CODE:
        for path in sorted((PROJECT / "lib" / package).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
