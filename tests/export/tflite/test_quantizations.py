"""Quantized TFLite files: what they say, what they are given to measure on, what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export
from keras_fmm.layers import (
    CBAM,
    AWConv2D,
    SpatialAttention,
)
from tests.export import toys
from tests.support import weights
from tests.support.layer_table import FIRST_ROWS

IMAGES = toys.images(40)


def convolved(*branches, dead=False):
    """A convolution, the layers side by side, and pooling, as a network has them: n outputs.

    The hidden units of the layers' attention are off for all images, or all on.
    """
    inputs = keras.Input((8, 8, 3))
    trunk = layers.Conv2D(64, 3, padding="same", activation="relu")(inputs)
    outputs = []
    for layer in branches:
        x = layers.ReLU()(layers.BatchNormalization()(layer(trunk)))
        outputs.append(layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    for layer in branches:
        weights.randomise(layer)
        for inner in layer._flatten_layers(include_self=False):
            if inner.name in ("squeeze", "batch_norm1"):
                offset = inner.bias if inner.name == "squeeze" else inner.beta
                offset.assign(np.full(offset.shape, -100 if dead else 1))
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])


def error(model, path):
    """The largest difference, as a part of its output's range."""
    found, expected = (
        x if isinstance(x, list) else [x] for x in (export.run_tflite(path, IMAGES), model(IMAGES))
    )
    return max(
        np.abs(one - np.asarray(other)).max() / np.ptp(np.asarray(other))
        for one, other in zip(found, expected, strict=True)
    )


def of_role(role):
    """The first way of using each layer of a role that has an int8 file."""
    return [row.make() for row in FIRST_ROWS if row.role == role and "int8" in row.exports]


NETWORKS = {
    "gates": lambda: of_role("gate"),
    "convolutions": lambda: (
        *of_role("convolution"),
        AWConv2D(32, 1),
        AWConv2D(32, (2, 3), strides=2),
    ),
    "AWConv2D r_C1": lambda: (AWConv2D(8, 3, padding="same", input_reduction=16),),
    "both": lambda: (CBAM(16), AWConv2D(32, 3, padding="same")),
}
# In parts of the outputs' range: int8 has 255 steps for each tensor, of which rounding takes
# half a one each time; the other two round to 8 and 10 bits of the weights alone.
BOUNDS = {"float16": 1e-3, "dynamic": 0.02, "int8": 0.04, "int16x8": 0.01}
# Of a range that is 0 to 0, int8 files are such that LiteRT refuses them, unless it is mended.
MANY_OPERATORS = "AWConv2D r_C1"
SLOW_CASES = [
    ("gates", "int8", True),
    ("convolutions", "int8", False),
    (MANY_OPERATORS, "int8", False),
    (MANY_OPERATORS, "int8", True),
    ("both", "float16", False),
    ("both", "int16x8", False),
    ("gates", "int8", False),
]
CASES = [
    ("convolutions", "int8", True),
    ("both", "dynamic", False),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_CASES),
]


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize(("name", "quantization", "dead"), CASES)
def test_says_what_keras_says(tmp_path, name, quantization, dead):
    model = convolved(*NETWORKS[name](), dead=dead)
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization=quantization, representative_data=IMAGES
    )
    assert error(model, path) < BOUNDS[quantization]
    found = export.inspect(path)
    stored = {"float16": "float16", "dynamic": "int8", "int8": "int8", "int16x8": "int8"}
    assert stored[quantization] in found.weight_bytes
    assert found.metadata["quantization"] == quantization
    if quantization == "int8":
        between = {operator.dtype for operator in found.operators} - {"int8"}
        # The last operators give floats again.
        assert between == {"float32"}
        assert {output.dtype for output in found.outputs} == {"float32"}


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("batch_size", [3, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("quantization", ["int8", pytest.param("int16x8", marks=pytest.mark.slow)])
def test_any_batch(tmp_path, batch_size, quantization):
    model = convolved(AWConv2D(8, 3, padding="same"))
    path = export.to_tflite(
        model,
        tmp_path / "toy.tflite",
        batch_size,
        quantization=quantization,
        representative_data=IMAGES,
    )
    assert error(model, path) < BOUNDS[quantization]


@pytest.mark.slow_on_tensorflow
def test_a_model_of_one_batch_size_and_one_that_is_named(tmp_path):
    inputs = keras.Input(batch_shape=(2, 4, 4, 1))
    flat = layers.Dense(3)(keras.ops.reshape(inputs, (2, -1)))
    model = keras.Model(inputs, {"scores": flat})
    images = np.random.default_rng(0).normal(size=(9, 4, 4, 1)).astype("float32")
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", 2, quantization="int8", representative_data=images
    )
    expected = np.asarray(model(images[:2])["scores"])
    np.testing.assert_allclose(export.run_tflite(path, images[:2]), expected, atol=0.1)


@pytest.mark.slow_on_tensorflow
def test_one_image_that_gives_one_number(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1)])
    export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES[:1]
    )


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("kernel_size", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_an_aw_convolution_is_summed_in_one_operator_in_int8_alone(tmp_path, kernel_size):
    layer = AWConv2D(8, kernel_size, padding="same", reduction=4, implementation="factored")
    model = convolved(layer)
    weights.enliven(model)
    for quantization, count in ((None, 0), ("int8", 1)):
        path = export.to_tflite(
            model, tmp_path / "toy.tflite", quantization=quantization, representative_data=IMAGES
        )
        operators = export.inspect(path).operators
        names = [operator.name for operator in operators]
        assert names.count("DEPTHWISE_CONV_2D") == count
        # Where the fast kernels take a product with constant weights, which a batch product is not.
        assert "BATCH_MATMUL" not in names
    # The batch norm and the ReLU that follow are in that operator too.
    of_the_map = [each.name for each in operators if np.prod(each.shape) == 8 * 8 * 8]
    assert of_the_map.count("MUL") == kernel_size**2
    assert "ADD" not in of_the_map
    assert layer._integer_bits is None


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_taps_that_meet_only_zeros_are_left_out(tmp_path, size):
    inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D(8 // size)(layers.Conv2D(16, 3, padding="same")(inputs))
    x = AWConv2D(8, 3, padding="same", strides=2, reduction=4)(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    weights.enliven(model)
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    assert error(model, path) < BOUNDS["int8"]
    products = [each for each in export.inspect(path).operators if each.name == "MUL"]
    assert len([each for each in products if np.prod(each.shape) == 8]) == size**2


@pytest.mark.slow_on_tensorflow
def test_maps_below_zero_are_not_cut_to_the_range_of_their_maxima(tmp_path):
    # What is concatenated has one scale in TFLite, and a maximum has that of its inputs.
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    x = SpatialAttention(3)(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    assert error(model, path) < BOUNDS["int8"]
    assert "CONCATENATION" not in [each.name for each in export.inspect(path).operators]


@pytest.mark.slow_on_tensorflow
def test_the_size_falls(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(256, 3)(inputs)
    model = keras.Model(inputs, layers.Conv2D(64, 3)(x))
    sizes = {}
    for quantization in (None, "float16", "dynamic", "int8"):
        path = export.to_tflite(
            model, tmp_path / "toy.tflite", quantization=quantization, representative_data=IMAGES
        )
        sizes[quantization] = path.stat().st_size
    assert sizes["float16"] < 0.52 * sizes[None]
    assert max(sizes["dynamic"], sizes["int8"]) < 0.3 * sizes[None]


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("io_dtype", ["int8", "uint8", "int16"])
def test_integers_at_both_ends(tmp_path, io_dtype):
    model = toys.cnn()
    path = export.to_tflite(
        model,
        tmp_path / "toy.tflite",
        quantization="int16x8" if io_dtype == "int16" else "int8",
        representative_data=IMAGES,
        io_dtype=io_dtype,
    )
    found = export.inspect(path)
    assert [tensor.dtype for tensor in (*found.inputs, *found.outputs)] == [io_dtype] * 2
    assert error(model, path) < BOUNDS["int8"]
    # What is beyond the range that was measured counts as its end.
    taken = found.inputs[0]
    bounds = np.iinfo(io_dtype)
    ends = (np.array([bounds.min, bounds.max]) - taken.zero_point) * taken.scale
    beyond = 10 * IMAGES
    np.testing.assert_array_equal(
        export.run_tflite(path, beyond), export.run_tflite(path, np.clip(beyond, *ends))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "int4"}, "`quantization` must be one of None, 'float16', 'dynamic'"),
        ({"io_dtype": "int8"}, "must be one of 'float32' with quantization=None"),
        ({"quantization": "int8", "io_dtype": "int16"}, "'float32', 'int8', 'uint8' with"),
        ({"class_names": ["a", "b"]}, "must name each class .* 2 names for outputs of"),
        ({"class_names": ["a", "b", "c", "d\ne"]}, "names of one line each"),
        ({"class_names": ["a", "b", "c", "\ud800"]}, "that UTF-8 can hold"),
        ({"input_range": (0, np.inf)}, "pair of finite numbers"),
        ({"input_range": (1, 0)}, "pair of finite numbers, the smaller"),
        ({"input_range": 255}, "pair of finite numbers, the smaller"),
    ],
)
def test_refused_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        export.to_tflite(toys.cnn(), tmp_path / "toy.tflite", **arguments)
    with pytest.raises(TypeError, match="`class_names` must be a list or tuple of str"):
        export.to_tflite(toys.cnn(), tmp_path / "toy.tflite", class_names="abcd")
    assert list(tmp_path.iterdir()) == []
