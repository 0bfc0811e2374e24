"""facefold: from photos of faces to mask, gender and age group, a module an idea.

Nothing is fetched from the network by importing this package or anything in it.
"""

import gc
import os
import warnings
from pathlib import Path

from lib import allocator

PROJECT = Path(__file__).resolve().parents[1]  # the folder that relative paths start from

# albumentations asks the network for a newer release while it is imported unless this is set first.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# A thread that waits for another spins for some 15 µs (libgomp's unit is a turn of its loop), then sleeps: long enough to meet
# the next layer awake, a fifth faster than sleeping at once, and short enough to leave the core to whatever else is busy:
# spinning as libgomp has it by default, a step beside one busy process took three times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Bars are plain text, in notebooks and headless alike: tqdm need not ask for notebook widgets.
warnings.filterwarnings("ignore", message="IProgress not found")

# Imports leave a million objects that stay: searching them for garbage again and again took a tenth of a notebook's start.
gc.set_threshold(50_000, 10, 10)

allocator.keep_freed()
