import io

import numpy as np
import pytest

from keras_fmm import plots

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 8, 12, 3))
QUERIES = [(0, 0), (3, 1)]


def panels(figure):
    """The panels with an image, by rows, without the colour bars."""
    return [axes for axes in figure.axes if not axes.axison]


@pytest.mark.parametrize("head", [None, 2])
def test_draws_where_each_query_looks_over_the_image(head):
    maps = RNG.uniform(size=(2, 2, 3, 4, 6))
    figure = plots.query_attention(IMAGES, maps, QUERIES, head=head, titles=["a", "b"])
    found = panels(figure)
    assert [axes.get_title() for axes in found] == [
        "a",
        "(0, 0)",
        "(3, 1)",
        "b",
        "(0, 0)",
        "(3, 1)",
    ]
    expected = maps.mean(axis=2) if head is None else maps[:, :, head]
    for number, axes in enumerate(found):
        row, column = divmod(number, 3)
        image, *over = axes.get_images()
        np.testing.assert_allclose(image.get_array(), IMAGES[row] / 255, atol=1e-6)
        assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 11.5), (7.5, -0.5))
        crosses = [tuple(line.get_xydata()[0]) for line in axes.get_lines()]
        # A position of the map of 4x6 is 2x2 pixels, whose first has its middle at 0.
        places = [(0.5, 0.5), (2.5, 6.5)]
        assert crosses == (places[column - 1 : column] if column else places)
        if column:
            np.testing.assert_allclose(over[0].get_array(), expected[row, column - 1], rtol=1e-6)
            assert tuple(over[0].get_extent()) == (-0.5, 11.5, 7.5, -0.5)
            assert over[0].get_clim()[0] == 0
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("side", "extent"), [(3, (-0.5, 5.5, 9.5, 3.5)), (4, (-0.5, 7.5, 11.5, 3.5))]
)
def test_a_window_lies_around_its_query(side, extent):
    maps = RNG.uniform(size=(2, 2, 3, side, side))
    figure = plots.query_attention(IMAGES, maps, QUERIES, map_size=(4, 6))
    _, over = panels(figure)[2].get_images()
    # The query is in row 3 and column 1 of positions of 2x2 pixels; an even window reaches
    # further down and to the right.
    assert tuple(over.get_extent()) == extent


MAPS = np.ones((2, 2, 3, 4, 6))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": IMAGES[0]}, ValueError, "`images` must be"),
        ({"maps": MAPS[0]}, ValueError, r"`maps` must be \(n, queries, heads, h, w\)"),
        ({"maps": MAPS[:, :1]}, ValueError, "for 2 images and 2 queries"),
        ({"maps": -MAPS}, ValueError, "at least 0"),
        ({"queries": [(0, 0), (4, 0)]}, ValueError, r"of \(4, 6\). Received: the query \(4, 0\)"),
        ({"queries": [(0, 0), (0, 0, 0)]}, ValueError, r"Received: the query \(0, 0, 0\)"),
        ({"queries": [(0, 0), 3]}, TypeError, "`queries` must be a list"),
        ({"queries": 3}, TypeError, "`queries` must be a list"),
        ({"map_size": 4}, TypeError, "`map_size` must be a pair"),
        ({"head": 3}, ValueError, "`head` must be one of the 3 heads"),
        ({"titles": ["one"]}, ValueError, "1 titles for 2 images"),
    ],
)
def test_refuses_what_does_not_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        plots.query_attention(**{"images": IMAGES, "maps": MAPS, "queries": QUERIES, **arguments})
