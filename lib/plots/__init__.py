"""The figures of the notebooks: a module per stage, and what all of them share."""

from lib.plots.style import set_style

__all__ = ["set_style"]
