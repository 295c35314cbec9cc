"""RoIAlign: equal to loops written from its definition, in values and gradients."""

import math

import keras
import numpy as np
import pytest

from keras_fmm.detection import RoIAlign
from tests.support import gradients

RANDOM = np.random.default_rng(0)
# Inside, across the border, outside, of no area, turned round, and smaller than a position.
BOXES = np.array(
    [
        [[8, 8, 60, 44], [-30, -9, 40, 95], [200, 0, 300, 50], [9, 9, 9, 9]],
        [[50, 20, 20, 50], [3, 3, 5, 6], [0, 0, 104, 88], [60.5, 33.25, 111.5, 92]],
    ],
    "float32",
)
MAP = RANDOM.normal(size=(2, 11, 13, 3)).astype("float32")


def read(x, row, column):
    """Bilinear interpolation in one map, by the definition."""
    rows, columns = x.shape[:2]
    if not (-1 <= row <= rows and -1 <= column <= columns):
        return np.zeros(x.shape[2])
    row, column = min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)
    total = np.zeros(x.shape[2])
    for i in range(rows):
        for j in range(columns):
            total += x[i, j] * max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
    return total


def cut(x, box, size, stride, ratio, aligned):
    x1, y1, x2, y2 = np.asarray(box, float) / stride - (0.5 if aligned else 0)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    found = np.zeros((size, size, x.shape[2]))
    for i in range(size):
        for j in range(size):
            for k in range(ratio):
                for m in range(ratio):
                    row = y1 + (i + (k + 0.5) / ratio) * height / size
                    column = x1 + (j + (m + 0.5) / ratio) * width / size
                    found[i, j] += read(x, row, column) / ratio**2
    return found


@pytest.mark.parametrize(("aligned", "ratio"), [(True, 2), (False, 1), (False, 3)])
def test_one_map_by_loops(aligned, ratio):
    layer = RoIAlign(3, [8], ratio, aligned)
    expected = [
        [cut(x, box, 3, 8, ratio, aligned) for box in boxes]
        for x, boxes in zip(MAP, BOXES, strict=True)
    ]
    found = keras.ops.convert_to_numpy(layer([BOXES, MAP]))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert layer.compute_output_shape([BOXES.shape, MAP.shape]) == found.shape
    first = RoIAlign(3, [8], ratio, aligned, data_format="channels_first")
    found = keras.ops.convert_to_numpy(first([BOXES, MAP.transpose(0, 3, 1, 2)]))
    np.testing.assert_allclose(found.transpose(0, 1, 3, 4, 2), expected, atol=1e-5)


def test_gradient_of_the_map():
    """It is linear in the map: the gradient of a weighted sum, times a map, is that map's sum."""
    layer = RoIAlign(3, [8])
    weights = RANDOM.normal(size=(2, 4, 3, 3, 3)).astype("float32")
    (slope,) = gradients.of_function(
        lambda x: keras.ops.sum(keras.ops.multiply(layer([BOXES, x]), weights)), [MAP]
    )
    other = RANDOM.normal(size=MAP.shape).astype("float32")
    expected = np.sum(keras.ops.convert_to_numpy(layer([BOXES, other])) * weights)
    np.testing.assert_allclose(np.sum(slope * other), expected, rtol=1e-4)


def test_levels_by_equation_1():
    """Maps of one number each: it tells which map was read."""
    sides = [1, 55, 111.9, 112, 112.1, 223.9, 224, 447, 448, 900]
    boxes = np.array([[[0, 0, side, side] for side in sides]], "float32")
    maps = [
        np.full((1, 512 // 2**level, 512 // 2**level, 1), level, "float32") for level in (2, 3, 4)
    ]
    found = keras.ops.convert_to_numpy(RoIAlign(1, [4, 8, 16], 1)([boxes, *maps]))
    expected = [min(max(math.floor(4 + math.log2(side / 224)), 2), 4) for side in sides]
    np.testing.assert_array_equal(found.ravel(), expected)


def test_each_box_is_read_from_its_map():
    sizes = [(40, 44), (20, 22), (10, 11)]
    maps = [RANDOM.normal(size=(1, *size, 2)).astype("float32") for size in sizes]
    boxes = np.array([[[4, 4, 60, 70], [0, 0, 130, 120], [-40, -60, 200, 240]]], "float32")
    found = RoIAlign(2, [4, 8, 16])([boxes, *maps])
    for index, (x, stride) in enumerate(zip(maps, (4, 8, 16), strict=True)):
        expected = cut(x[0], boxes[0, index], 2, stride, 2, True)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found)[0, index], expected, atol=1e-5)


@pytest.mark.slow_on_tensorflow
def test_no_box_unknown_sides_and_half_precision():
    layer = RoIAlign(2, [8], dtype="mixed_float16")
    assert layer([BOXES[:, :0], MAP]).shape == (2, 0, 2, 2, 3)
    boxes, x = keras.Input((None, 4)), keras.Input((None, None, 3))
    model = keras.Model([boxes, x], layer([boxes, x]))
    # Half precision knows 1001 only as 1000 or 1002.
    far = BOXES + 1000
    wide = np.zeros((2, 140, 140, 3), "float32")
    wide[:, 125:136, 125:138] = MAP
    found = model.predict([far, wide], verbose=0)
    assert found.dtype == "float16"
    exact = keras.ops.convert_to_numpy(RoIAlign(2, [8])([far, wide]))
    np.testing.assert_allclose(found, exact, atol=5e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RoIAlign(strides=[8, 32]), "powers of 2"),
        (lambda: RoIAlign(strides=[]), "above 0"),
        (lambda: RoIAlign(pool_size=0), "positive integer"),
        (lambda: RoIAlign()([BOXES, MAP]), "as many maps as `strides`"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
