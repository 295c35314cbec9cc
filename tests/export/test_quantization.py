"""Quantized TFLite files: what they say, what they are given to measure on, what is refused."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export
from keras_fmm.layers import (
    AWConv2D,
    SpatialAttention,
)
from tests.export import toys
from tests.support import weights
from tests.support.layer_table import FIRST_ROWS

IMAGES = toys.images(40)


def convolved(layer, dead=True):
    """A convolution, the layer, and pooling, as a network has it.

    The hidden units of the layer's attention are off for all images, or all on.
    """
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(layer(x)))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(4)(x))
    weights.randomise(layer)
    for inner in layer._flatten_layers(include_self=False):
        if inner.name in ("squeeze", "batch_norm1"):
            offset = inner.bias if inner.name == "squeeze" else inner.beta
            offset.assign(np.full(offset.shape, -100 if dead else 1))
    return model


def error(model, path):
    """The largest difference, as a part of the outputs' range."""
    expected = np.asarray(model(IMAGES))
    return np.abs(export.run_tflite(path, IMAGES) - expected).max() / np.ptp(expected)


def wide(row):
    """Returns the row's layer as wide as in a network: few numbers average rounding less."""
    arguments = {"reduction": 16, "filters": 32}
    return row.make(**{name: arguments[name] for name in arguments.keys() & row.arguments.keys()})


# The first way of using each layer, and AW-convolutions of other forms.
LAYERS = {
    **{
        row.layer.__name__: functools.partial(wide, row)
        for row in FIRST_ROWS
        if "int8" in row.exports
    },
    "AWConv2D 1x1": lambda: AWConv2D(32, 1),
    "AWConv2D strides": lambda: AWConv2D(32, (2, 3), strides=2),
    "AWConv2D r_C1": lambda: AWConv2D(8, 3, padding="same", input_reduction=16),
}
# In parts of the outputs' range: int8 has 255 steps for each tensor, of which rounding takes
# half a one each time; the other two round to 8 and 10 bits of the weights alone.
BOUNDS = {"float16": 1e-3, "dynamic": 0.02, "int8": 0.04, "int16x8": 0.01}
# Of a range that is 0 to 0, int8 files are such that LiteRT refuses them, unless it is mended.
MANY_OPERATORS = "AWConv2D r_C1"
# Without hidden units of its own there is none that could be off.
HIDDEN = [name for name in LAYERS if name not in ("EfficientChannelAttention", "SpatialAttention")]
CASES = [
    *((name, "int8", False) for name in LAYERS if name != MANY_OPERATORS),
    *((name, "int8", True) for name in HIDDEN if name != MANY_OPERATORS),
    *(pytest.param(MANY_OPERATORS, "int8", dead, marks=pytest.mark.slow) for dead in (False, True)),
    *((name, other, False) for name in ("CBAM", "AWConv2D") for other in BOUNDS if other != "int8"),
]


@pytest.mark.parametrize(("name", "quantization", "dead"), CASES)
def test_says_what_keras_says(tmp_path, name, quantization, dead):
    model = convolved(LAYERS[name](), dead)
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
        # The last operator gives floats again.
        assert between == {"float32"}
        assert found.outputs[0].dtype == "float32"


def test_a_file_that_says_something_else_is_refused(tmp_path):
    # A product that is used twice has its bias in the first one's scale in int16x8, a fault of
    # TensorFlow's converter. Layers of this package know; a user's may not.
    inputs = keras.Input((8, 8, 3))
    product = layers.Dense(4, bias_initializer="ones")
    x = layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, product(x) + product(x / 100))
    arguments = {"representative_data": IMAGES, "path": tmp_path / "toy.tflite"}
    with pytest.raises(ValueError, match="outputs are off by"):
        export.to_tflite(model, quantization="int16x8", **arguments)
    assert list(tmp_path.iterdir()) == []
    assert error(model, export.to_tflite(model, quantization="int8", **arguments)) < BOUNDS["int8"]


@pytest.mark.parametrize("classes", [10, 1000])
def test_probabilities_of_other_classes_are_refused(tmp_path, classes):
    inputs = keras.Input((8, 8, 3))
    biases = keras.initializers.RandomNormal(stddev=2, seed=0)
    product = layers.Dense(classes, bias_initializer=biases)
    x = layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, layers.Softmax()(product(10 * x) + product(x / 100)))
    with pytest.raises(ValueError, match="must say about what the model says"):
        export.to_tflite(
            model, tmp_path / "toy.tflite", quantization="int16x8", representative_data=IMAGES
        )


def test_roots_and_quotients_keep_their_ranges(tmp_path):
    # Their outputs are not in the units of their inputs.
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, kernel_initializer=keras.initializers.RandomNormal(stddev=10))(inputs)
    model = keras.Model(inputs, layers.LayerNormalization()(x))
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    expected = np.asarray(model(IMAGES))
    assert np.sqrt(np.mean((export.run_tflite(path, IMAGES) - expected) ** 2)) < 0.03


@pytest.mark.parametrize("batch_size", [3, None])
@pytest.mark.parametrize("quantization", ["int8", "int16x8"])
def test_any_batch(tmp_path, batch_size, quantization):
    model = convolved(AWConv2D(8, 3, padding="same"), dead=False)
    path = export.to_tflite(
        model,
        tmp_path / "toy.tflite",
        batch_size,
        quantization=quantization,
        representative_data=IMAGES,
    )
    assert error(model, path) < BOUNDS[quantization]


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


def test_one_image_that_gives_one_number(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1)])
    export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES[:1]
    )


DARK = np.random.default_rng(0).integers(0, 14, (9, 8, 8, 3), "uint8")
PEAKS = np.zeros((9, 8, 8, 3))
PEAKS[:, 0, 0, 0] = 3


@pytest.mark.parametrize(
    ("scaling", "images"),
    [(layers.Rescaling(1 / 255), DARK), (layers.Normalization(mean=0.1, variance=0.01), PEAKS)],
    ids=["dark", "peaks"],
)
def test_unusual_images_are_taken(tmp_path, scaling, images):
    export.to_tflite(
        first(scaling), tmp_path / "toy.tflite", quantization="int8", representative_data=images
    )


def test_a_layer_of_another_model_too(tmp_path):
    layer = layers.BatchNormalization()
    for _ in range(2):
        inputs = keras.Input((8, 8, 3))
        model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )


def test_untrained_scores_are_no_reason_to_refuse(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1000, activation="softmax")]
    )
    model.layers[-1].kernel.assign(model.layers[-1].kernel / 100)
    export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )


@pytest.mark.parametrize("kernel_size", [1, 3])
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


@pytest.mark.parametrize("size", [1, 2])
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


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_two_scores_that_are_close_are_told_apart_where_others_are_far(tmp_path, activation):
    inputs = keras.Input((8, 8, 3))
    product = layers.Dense(3, activation=activation)
    model = keras.Model(inputs, product(layers.GlobalAveragePooling2D()(inputs)))
    # A step of eight bits would be 0.4, and the first two differ by less for most images.
    product.kernel.assign([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    product.bias.assign([0, 0, -100])
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    expected = np.asarray(model(IMAGES)).argmax(axis=-1)
    assert set(expected) == {0, 1}
    assert np.mean(export.run_tflite(path, IMAGES).argmax(axis=-1) == expected) > 0.9
    found = export.inspect(path)
    assert [each.dtype for each in found.operators if each.name == "FULLY_CONNECTED"] == ["float32"]
    assert set(found.weight_bytes) >= {"int8"}
    if activation is None:
        arguments = {"representative_data": IMAGES, "io_dtype": "int8"}
        export.to_tflite(model, path, quantization="int8", **arguments)
        assert {operator.dtype for operator in export.inspect(path).operators} == {"int8"}


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


def pipeline(*arrays):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(7)


@pytest.mark.parametrize(
    "data",
    [
        lambda: pipeline(IMAGES),
        lambda: pipeline(IMAGES, np.zeros(len(IMAGES))),
        lambda: (IMAGES[start : start + 9] for start in range(0, len(IMAGES), 9)),
        lambda: lambda: ([image[None]] for image in IMAGES),
        lambda: [IMAGES[:30], IMAGES[30:]],
    ],
    ids=["pipeline", "labels", "generator", "function", "list"],
)
def test_the_same_images_in_any_form_give_the_same_file(tmp_path, data):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, activation="relu")])
    contents = []
    for given in (IMAGES, data()):
        path = export.to_tflite(
            model, tmp_path / "toy.tflite", quantization="int8", representative_data=given
        )
        contents.append(export.run_tflite(path, IMAGES))
    np.testing.assert_array_equal(*contents)


def endless():
    while True:
        yield IMAGES


def test_an_endless_generator_ends(tmp_path):
    export.to_tflite(
        toys.cnn(), tmp_path / "toy.tflite", quantization="int8", representative_data=endless()
    )


def first(layer, size=8):
    """A model that begins with a layer."""
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, layers.Conv2D(2, 3)(layer(inputs)))


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), "uint8")
RESCALED = first(layers.Rescaling(1 / 255))


@pytest.mark.parametrize(
    ("model", "data", "kind", "message"),
    [
        (toys.cnn(), None, ValueError, "`representative_data` must be given with quantization='i"),
        (toys.cnn(), [], ValueError, "must hold at least one image. Received: none"),
        (toys.cnn(), IMAGES[:0], ValueError, "must hold at least one image"),
        (toys.cnn(), 3, TypeError, "must be an array of images, a tf.data pipeline"),
        (toys.cnn(), IMAGES[0], ValueError, r"batches of what the model takes, \(None, 8, 8, 3\)"),
        (toys.cnn(), toys.images(size=9), ValueError, r"Received: a batch of shape \(5, 9, 9, 3\)"),
        (toys.cnn(), np.array([["cat"]]), TypeError, "must hold numbers"),
        (toys.cnn(), [{"image": IMAGES}], TypeError, "must hold numbers. Received: a batch of d"),
        (toys.cnn(), IMAGES * np.nan, ValueError, "must be finite"),
        (toys.cnn(), PIXELS, ValueError, "images of dtype uint8, as they are stored"),
        (RESCALED, PIXELS / 255, ValueError, "Give images as they are stored"),
        (first(layers.Normalization(mean=100, variance=80**2)), PIXELS / 255, ValueError, "spread"),
        (toys.cnn(), 255 * IMAGES, ValueError, "the variance that the layer .* met in training"),
        (toys.cnn(size=None), IMAGES, ValueError, "height and width must be known for int8"),
    ],
)
def test_representative_data_that_is_refused(tmp_path, model, data, kind, message):
    path = tmp_path / "toy.tflite"
    path.write_bytes(b"the old file")
    with pytest.raises(kind, match=message):
        export.to_tflite(model, path, quantization="int8", representative_data=data)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]


def test_pixels_are_taken_by_a_model_that_scales_them(tmp_path):
    path = export.to_tflite(
        RESCALED, tmp_path / "toy.tflite", quantization="int8", representative_data=PIXELS
    )
    # Images of 0 to 255 are themselves as uint8.
    np.testing.assert_allclose(
        export.run_tflite(path, PIXELS), RESCALED(PIXELS.astype("float32")), atol=0.05
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
    with pytest.raises(TypeError, match="`class_names` must be a sequence of str"):
        export.to_tflite(toys.cnn(), tmp_path / "toy.tflite", class_names="abcd")
    assert list(tmp_path.iterdir()) == []


def test_several_inputs_cannot_be_measured(tmp_path):
    inputs = [keras.Input((3,)) for _ in range(2)]
    model = keras.Model(inputs, layers.Subtract()(inputs))
    with pytest.raises(ValueError, match="Only a functional or Sequential model of one input"):
        export.to_tflite(
            model, tmp_path / "toy.tflite", quantization="int8", representative_data=np.ones((9, 3))
        )


def test_it_prints_nothing(tmp_path, capfd):
    export.to_tflite(
        toys.cnn(), tmp_path / "toy.tflite", quantization="int8", representative_data=IMAGES
    )
    assert capfd.readouterr().out == ""
