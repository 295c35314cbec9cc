import io

import numpy as np
import pytest

from keras_fmm import plots

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 6, 4, 3))
MAPS = RNG.uniform(0, 3, (2, 3, 2))


def pictures(figure):
    """The images of each panel that shows images, the colour bars left out."""
    return [axes.get_images() for axes in figure.axes if not axes.axison]


@pytest.mark.parametrize("maps", [MAPS, MAPS[..., None]])
def test_draws_the_image_and_the_map_stretched_over_it(maps):
    figure = plots.heat_map_overlay(IMAGES, maps, ["first", "second"])
    panels = pictures(figure)
    assert [len(panel) for panel in panels] == [1, 2, 1, 2]
    for row, ((plain,), (under, over)) in enumerate(zip(panels[::2], panels[1::2], strict=True)):
        np.testing.assert_allclose(plain.get_array(), IMAGES[row] / 255, atol=1e-6)
        np.testing.assert_array_equal(under.get_array(), plain.get_array())
        np.testing.assert_allclose(over.get_array(), MAPS[row], rtol=1e-6)
        assert over.get_extent() == under.get_extent()
        assert over.get_interpolation() == "bilinear"
        # Colours from the map's own least value to its greatest.
        np.testing.assert_allclose(over.get_clim(), (MAPS[row].min(), MAPS[row].max()), rtol=1e-6)
    assert [axes.get_title() for axes in figure.axes[:4:2]] == ["first", "second"]
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (IMAGES / 255, IMAGES / 255),
        (IMAGES[..., :1], IMAGES[..., :1] / 255),
        (IMAGES / 100 - 1, (IMAGES - IMAGES.min()) / (IMAGES.max() - IMAGES.min())),
        (np.full((2, 6, 4, 3), -2.0), np.zeros((2, 6, 4, 3))),
    ],
    ids=["unit", "grey", "standardized", "constant"],
)
def test_draws_images_of_any_range(images, expected):
    figure = plots.heat_map_overlay(images, np.zeros((2, 1, 1)))
    for row, panel in enumerate(pictures(figure)[::2]):
        found = np.asarray(panel[0].get_array()).reshape(expected[row].shape)
        np.testing.assert_allclose(found, expected[row], atol=1e-6)
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": IMAGES[0]}, r"`images` must be .*of shape \(6, 4, 3\)"),
        ({"images": np.zeros((2, 6, 4, 2))}, "of 1 or 3 channels"),
        ({"maps": MAPS[:1]}, "must be one .* for each image.*for 2 images"),
        ({"maps": np.zeros((2, 3, 2, 8))}, "take one, or their sum"),
        ({"maps": MAPS * np.nan}, "`maps` must be finite"),
        ({"titles": ["one"]}, "1 titles for 2 images"),
    ],
)
def test_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.heat_map_overlay(**{"images": IMAGES, "maps": MAPS, **arguments})


@pytest.mark.parametrize("titles", ["ab", {"a", "b"}, {"a": 1, "b": 2}])
def test_titles_have_an_order_and_are_no_letters(titles):
    with pytest.raises(TypeError, match="`titles` must be a list or tuple"):
        plots.heat_map_overlay(IMAGES, MAPS, titles)


def test_rendered_by_tf_explain():
    display = pytest.importorskip("tf_explain.utils.display")
    found = plots.tf_explain_overlay(IMAGES, MAPS)
    assert (found.dtype, found.shape) == (np.uint8, IMAGES.shape)
    for picture, image, heat in zip(found, IMAGES, MAPS, strict=True):
        expected = display.heatmap_display(heat, image.astype("uint8"))
        # tf-explain cuts off what is behind the point.
        np.testing.assert_allclose(picture.astype(int), expected, atol=2)
    # A map without a range is that of its least value everywhere.
    level = plots.tf_explain_overlay(IMAGES[..., :1], np.zeros((2, 3, 2)))
    assert level.shape == IMAGES.shape
