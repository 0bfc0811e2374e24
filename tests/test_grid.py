import numpy as np
import pytest

from lib.plots.grid import grid


def test_an_empty_grid_says_so_in_words(capsys):
    assert grid([], [], "Copies", 8) is None
    assert grid([None], [""], "Copies", 8) is None
    assert capsys.readouterr().out.startswith("Copies\nThere is nothing to show.")


@pytest.mark.parametrize("shape", [(8, 6, 3), (1, 1, 3), (1, 5000, 3), (5000, 1, 3)])
def test_pictures_of_any_shape_are_shown_under_their_captions(shape):
    picture = np.full(shape, 90, np.uint8)
    figure = grid([picture, None, picture], ["one", "", "two\nlines"], "Some", 2)
    assert [axes.get_title() for axes in figure.axes] == ["one", "two\nlines"]
    assert max(figure.get_size_inches()) < 15
