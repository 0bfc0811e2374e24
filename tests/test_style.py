"""The look of all figures."""

import matplotlib.pyplot as plt
import pytest

from lib.plots import set_style
from lib.plots.style import log_ticks

NAME = "photo $\\none$.jpg"  # as mathematics this is an error


def drawn(name):
    figure = plt.figure(figsize=(1, 1))
    figure.suptitle(name)
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.parametrize(("low", "high"), [(2, 8), (0.0003, 0.01), (1, 4000)])
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(low, high):
    with plt.rc_context():
        set_style()
        figure, axes = plt.subplots()
        axes.plot([low, high], [0, 1])
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
        figure.canvas.draw()
        labels = axes.get_xticklabels() + axes.get_xticklabels(minor=True)
        shown = [label.get_text() for label in labels if label.get_text()]
        plt.close(figure)
    assert len([text for text in shown if low <= float(text) <= high]) >= 2


def test_a_dollar_in_the_name_of_a_file_is_no_mathematics():
    with plt.rc_context():
        plt.rcdefaults()
        with pytest.raises(ValueError, match="none"):
            drawn(NAME)
        set_style()
        drawn(NAME)
