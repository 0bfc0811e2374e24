"""The files of a fold in training, for modules that need no more: training loads slowly."""

CHECKPOINTS = ("last.pt", "before.pt")  # to continue from: the last epoch's, and the one before it
TIMES = ["seconds", "photos_per_second"]  # columns of a history that differ from run to run
