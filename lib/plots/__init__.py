"""Every figure of the notebooks, a module a stage."""

from lib.plots.style import set_style

__all__ = ["set_style"]
