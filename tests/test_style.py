"""The look of all figures."""

import matplotlib.pyplot as plt
import pytest

from lib.plots import set_style

NAME = "photo $\\none$.jpg"  # as mathematics this is an error


def drawn(name):
    figure = plt.figure(figsize=(1, 1))
    figure.suptitle(name)
    figure.canvas.draw()
    plt.close(figure)


def test_a_dollar_in_the_name_of_a_file_is_no_mathematics():
    with plt.rc_context():
        plt.rcdefaults()
        with pytest.raises(ValueError, match="none"):
            drawn(NAME)
        set_style()
        drawn(NAME)
