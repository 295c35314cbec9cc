import numpy as np
import pytest
from PIL import Image

from keras_fmm import data
from keras_fmm.data.boxes import geometry
from tests.data.boxes.made import painted


def found_in(image):
    """Returns the box of what is at least half white."""
    rows, columns = (np.flatnonzero((image[..., 0] >= 127.5).any(axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize(("horizontal", "vertical"), [(1, 0), (0, 1), (1, 1), (0, 0)])
def test_flip(horizontal, vertical):
    flip = data.RandomBoxFlip(horizontal, vertical)
    box = [3, 5, 20, 9]
    image, boxes = flip(painted((40, 60), box), np.array([box], "float64"), np.random.default_rng())
    assert found_in(image) == boxes[0].tolist()
    assert (boxes[0].tolist() == box) == (not horizontal and not vertical)


@pytest.mark.parametrize("seed", range(40))
def test_zoom(seed):
    random = np.random.default_rng(seed)
    size = (random.integers(40, 90), random.integers(40, 90))
    left, top = random.integers(0, 25, 2)
    box = [left, top, left + random.integers(6, 15), top + random.integers(6, 15)]
    zoom = data.RandomBoxZoom(0.6, 1.6, 1.3, visible=0, fill=0)
    image, boxes = zoom(painted(size, box, 3), np.array([box], "float64"), random)
    assert image.shape == (*size, 3)
    assert image.dtype == "float32"
    if (boxes[0, 2:] - boxes[0, :2]).min() < 1.5:
        return
    assert np.abs(found_in(image) - boxes[0]).max() <= 0.75
    height, width = size
    assert (boxes[0] >= 0).all()
    assert (boxes[0] <= [width, height, width, height]).all()


def test_what_is_hardly_visible_is_dropped():
    box = [30, 10, 50, 30]
    zoom = data.RandomBoxZoom(0.5, 0.5, 1, visible=0.4)
    dropped = []
    for seed in range(60):
        image, boxes = zoom(
            painted((40, 60), box), np.array([box], "float64"), np.random.default_rng(seed)
        )
        # The image is twice as large.
        visible = image.sum() / 255 / (4 * 20 * 20)
        is_dropped = geometry.areas(boxes)[0] == 0
        if abs(visible - 0.4) > 0.05:
            assert is_dropped == (visible < 0.4)
            dropped.append(is_dropped)
    assert 0 < sum(dropped) < len(dropped)


@pytest.mark.parametrize(
    ("corner", "sides", "size"),
    [
        ((0, 0), (20, 30), (20, 30)),
        ((2.3, 4.1), (9.5, 11.25), (20, 30)),
        ((0, 5), (20, 25), (7, 9)),
    ],
)
def test_a_window_is_as_pillow_resizes_it(corner, sides, size):
    image = np.random.default_rng(0).uniform(0, 255, (20, 30, 1)).astype("float32")
    (top, left), (high, wide) = corner, sides
    expected = Image.fromarray(image[..., 0]).resize(
        size[::-1], Image.Resampling.BILINEAR, (left, top, left + wide, top + high)
    )
    found = geometry.window(image, corner, sides, size)
    np.testing.assert_allclose(found[..., 0], np.asarray(expected), atol=0.01)


def test_beyond_the_image_is_fill():
    found = geometry.window(np.full((10, 10, 2), 200, "float32"), (-10, 0), (20, 10), (20, 10), 7)
    assert (found[:10] == 7).all()
    np.testing.assert_allclose(found[10:], 200, atol=1e-4)


def test_brightness():
    image = painted((8, 8), [0, 0, 4, 8]) / 255 * 100 + 50
    boxes = np.array([[0.0, 0.0, 4.0, 8.0]])
    found, kept = data.RandomBoxBrightness(0.1, 0)(image, boxes, np.random.default_rng(1))
    assert kept is boxes
    added = found - image
    assert np.ptp(added) < 1e-4
    assert 0 < abs(added[0, 0, 0]) <= 25.5
    found, _ = data.RandomBoxBrightness(0, 0.5)(image, boxes, np.random.default_rng(1))
    np.testing.assert_allclose(found.mean(), image.mean(), rtol=1e-5)
    assert 50 <= np.ptp(found) <= 150
    found, _ = data.RandomBoxBrightness(1, 1)(image, boxes, np.random.default_rng(2))
    assert 0 <= found.min() <= found.max() <= 255


@pytest.mark.parametrize(
    ("kind", "given", "match"),
    [
        (data.RandomBoxFlip, {"horizontal": 1.5}, "`horizontal` must be from 0 to 1"),
        (data.RandomBoxFlip, {"vertical": np.nan}, "`vertical` must be a finite number"),
        (data.RandomBoxZoom, {"smallest": 0}, "`smallest` must be above 0"),
        (data.RandomBoxZoom, {"smallest": 2}, "`smallest` must be above 0 and at most `largest`"),
        (data.RandomBoxZoom, {"stretch": 0.5}, "`stretch` must be from 1 to 16"),
        (data.RandomBoxZoom, {"visible": -1}, "`visible` must be from 0 to 1"),
        (data.RandomBoxBrightness, {"contrast": 2}, "`contrast` must be from 0 to 1"),
    ],
)
def test_out_of_range(kind, given, match):
    with pytest.raises(ValueError, match=match):
        kind(**given)
