"""facefold: from photos to a validated submission; each package holds one idea.

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

# A thread that waits for another spins briefly (libgomp counts turns of its loop), then sleeps.
# Measured training on two cores: a fifth faster than sleeping at once, as fast as libgomp's long
# default; next to one busy process a step takes 2 times as long, where the default takes 3.7 times
# and sleeping at once 1.4.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Progress bars are plain text everywhere: tqdm need not ask for notebook widgets.
warnings.filterwarnings("ignore", message="IProgress not found")

# Imports leave a million objects that stay: searching them for garbage repeatedly took a tenth of a
# notebook's start.
gc.set_threshold(50_000, 10, 10)

allocator.keep_freed()
