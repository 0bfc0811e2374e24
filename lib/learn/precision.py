"""Which numeric precision is fastest here: a probe of a few steps decides, as no rule does.

On CPUs bf16 units speed dense networks up and slow depthwise ones down; a GPU's need no probe.
"""

import time
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs
from torch import nn

from lib import artefacts
from lib.errors import one_of
from lib.workers import one_process


class Precision(NamedTuple):
    """How numbers are computed and laid out."""

    mixed_precision: str  # accelerate's word
    memory_format: torch.memory_format


PRECISIONS = {
    "fp32": Precision("no", torch.contiguous_format),
    "fp32_channels_last": Precision("no", torch.channels_last),
    "bf16_channels_last": Precision("bf16", torch.channels_last),
}
CHOICES = ("auto", *PRECISIONS)
PROBE_STEPS = 2  # timed steps, after one that is not


def choose(name: str, model: nn.Module, image_size, batch_size: int, path: Path) -> pd.DataFrame:
    """Return precisions, one ``chosen`` (``auto`` probes on a CPU), as ``path`` keeps them.

    Of several processes that train folds of one run the first one probes, for all.
    """
    with one_process(path):
        return _choose(name, model, image_size, batch_size, path)


def _choose(name: str, model: nn.Module, image_size, batch_size: int, path: Path) -> pd.DataFrame:
    if path.exists():
        return pd.read_csv(path, index_col="precision")
    table = pd.DataFrame(index=pd.Index(PRECISIONS, name="precision"))
    if name != "auto":
        one_of(CHOICES, name, "precision")
        table["chosen"] = table.index == name
    elif torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        table["chosen"] = table.index == ("bf16_channels_last" if native else "fp32_channels_last")
    else:
        speeds = [speed(model, each, image_size, batch_size) for each in PRECISIONS.values()]
        table["images_per_second"] = speeds
        table["chosen"] = table["images_per_second"] == max(speeds)
    artefacts.write_table(table.reset_index(), path)
    return table


def chosen(table: pd.DataFrame) -> Precision:
    """Return the precision that a table of ``choose`` names."""
    return PRECISIONS[table.index[table["chosen"]][0]]


def speed(model: nn.Module, precision: Precision, image_size, batch_size: int) -> float:
    """Return images per second, forward and backward, of a copy of ``model`` on random pictures."""
    model = deepcopy(model).train().to(memory_format=precision.memory_format)
    images = torch.rand(batch_size, 3, *image_size) * 255
    images = images.contiguous(memory_format=precision.memory_format)
    for step in range(PROBE_STEPS + 1):
        if step == 1:
            start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision.mixed_precision == "bf16"):
            outputs = model(images)
        sum(output.float().square().mean() for output in outputs.values()).backward()
    return batch_size * PROBE_STEPS / (time.perf_counter() - start)


def accelerator(precision: Precision, accumulate: int = 1, compiled: bool = False) -> Accelerator:
    """Return accelerate's manager of device, processes, precision, accumulation, torch.compile."""
    AcceleratorState._reset_state()  # else a kernel refuses to change its precision
    return Accelerator(
        mixed_precision=precision.mixed_precision,
        gradient_accumulation_steps=accumulate,
        dynamo_backend="inductor" if compiled else "no",
        # Epochs makes the batches even; a frozen backbone has no gradients.
        dataloader_config=DataLoaderConfiguration(even_batches=False, non_blocking=True),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
