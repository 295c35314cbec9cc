import functools

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis.strategies import booleans, sampled_from

from keras_fmm import data, layers
from tests.support import aw_cases, calls, gradients, references, weights

IMPLEMENTATIONS = ["vectorized_map", "factored", "loop"]


def make(case, **arguments):
    layer = layers.AWConv2D(**{"reduction": 2, **case.arguments, **arguments})
    layer.build(case.shape)
    return layer


# Each implementation by itself is tried with as many cases in tests/ops/per_sample_conv.
@pytest.mark.slow_on_tensorflow
@hypothesis.given(
    case=aw_cases.cases(),
    implementation=sampled_from(IMPLEMENTATIONS),
    training=booleans(),
    use_residual=booleans(),
    activation=sampled_from(["relu", None]),
)
def test_equals_equations_4_to_8(case, implementation, training, use_residual, activation):
    x = case.random(*case.shape)
    layer = make(
        case, implementation=implementation, use_residual=use_residual, activation=activation
    )
    values = weights.randomise(layer, case.seed)
    exact = x.astype("float64")
    attention = references.aw_attention(exact, values["kernel"].shape, values, case.reductions)
    seen, outputs = calls.of_layer(
        layer, x, {"training": False, "return_attention_map": True}, {"training": training}
    )
    found = np.repeat(seen, case.input_reduction, axis=3)
    np.testing.assert_allclose(found, attention, rtol=1e-4, atol=1e-5)
    expected = references.aw_conv2d(
        exact, values, case.reductions, case.conv, use_residual, training
    )
    if activation:
        expected = references.relu(expected)
    np.testing.assert_allclose(outputs, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.slow_on_tensorflow
@hypothesis.given(case=aw_cases.cases(), implementation=sampled_from(IMPLEMENTATIONS))
def test_gradients_equal_finite_differences_of_the_equations(case, implementation):
    x = case.random(*case.shape)
    layer = make(case, implementation=implementation)
    values = weights.randomise(layer, case.seed)
    trainable = [
        name for name, weight in zip(values, layer.weights, strict=True) if weight.trainable
    ]
    cotangent = case.random(*layer.compute_output_shape(case.shape))

    def loss(arrays):
        replaced = {**values, **dict(zip(trainable, arrays[1:], strict=True))}
        outputs = references.aw_conv2d(arrays[0], replaced, case.reductions, case.conv)
        return (outputs * cotangent).sum()

    arrays = [x.astype("float64"), *(values[name] for name in trainable)]
    found = gradients.of_layer(layer, x, cotangent)
    rng = np.random.default_rng(case.seed)
    for place, gradient in enumerate(found):
        directions = [np.zeros_like(array) for array in arrays]
        directions[place] = rng.normal(size=arrays[place].shape)
        terms = gradient * directions[place]
        np.testing.assert_allclose(
            terms.sum(),
            gradients.along(loss, arrays, directions),
            atol=1e-3 * np.abs(terms).sum() + 1e-4,
        )


only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="is about TensorFlow"
)


@pytest.mark.slow_on_tensorflow
@only_tensorflow
@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((3, 7, 5, 4), {"kernel_size": (2, 3), "padding": "same", "strides": (2, 3)}),
        ((3, 4, 4, 4), {"kernel_size": 1}),
        (
            (2, 6, 6, 4),
            {
                "kernel_size": 2,
                "strides": 2,
                "input_reduction": 2,
                "kernel_reduction": 2,
                "implementation": "loop",
            },
        ),
    ],
)
def test_a_step_of_training_is_the_same_under_xla_with_all_sizes_unknown(shape, arguments):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=shape).astype("float32")
    results = []
    for jit_compile in (False, True):
        layer = layers.AWConv2D(4, reduction=2, **arguments)
        model = keras.Sequential([keras.Input((None, None, shape[3])), layer])
        weights.randomise(layer)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        targets = np.zeros(layer.compute_output_shape(shape), "float32")
        model.fit(inputs, targets, batch_size=len(inputs), verbose=0)
        results.append(model.get_weights())
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-4)


def test_one_gain_for_the_whole_kernel_reaches_it_as_one():
    seen = []

    class Seeing(layers.AWConv2D):
        def _convolve(self, inputs, gain):
            seen.append(tuple(gain.shape)[1:])
            return super()._convolve(inputs, gain)

    x = np.ones((2, 5, 5, 4), "float32")
    for layer in (
        Seeing(6, 3, kernel_reduction=3),
        Seeing(6, 3),
        Seeing(6, (3, 6), kernel_reduction=3, padding="same"),
    ):
        layer.build(x.shape)
        calls.of_layer(layer, x, {"training": False})
    assert seen == [(1, 1, 1, 6), (3, 3, 1, 6), (3, 6, 1, 6)]


@pytest.mark.slow
@only_tensorflow
def test_every_implementation_learns_the_same():
    digits = data.load("digits")
    images, labels = (array[:256] for array in digits.arrays("train"))
    losses = {}
    for implementation in IMPLEMENTATIONS:
        keras.utils.set_random_seed(0)
        # Two layers, so that one learns from what the other hands back.
        convolution = functools.partial(
            layers.AWConv2D, 16, 3, activation="relu", implementation=implementation
        )
        model = keras.Sequential(
            [
                keras.Input(digits.input_shape),
                data.preprocessing(digits, "scale"),
                convolution(padding="same"),
                convolution(strides=2),
                keras.layers.Flatten(),
                keras.layers.Dense(digits.classes, "softmax"),
            ]
        )
        model.compile(keras.optimizers.SGD(0.05, 0.9), "sparse_categorical_crossentropy")
        # Or the first step would be traced twice.
        model.optimizer.build(model.trainable_variables)
        history = model.fit(images, labels, batch_size=64, epochs=3, shuffle=False, verbose=0)
        losses[implementation] = history.history["loss"]
    assert losses["factored"][-1] < 0.9 * losses["factored"][0]
    for implementation in IMPLEMENTATIONS:
        np.testing.assert_allclose(losses[implementation], losses["factored"], rtol=1e-3)


def test_by_hand():
    # A 1x1 kernel of 2 on the constant image 3; batch norm 1 divides by sqrt(1 + 1e-5); the
    # second product is zero, so the attention is sigmoid(beta) = 1/4 and the kernel 2 * 5/4.
    layer = layers.AWConv2D(1, 1, use_bias=False)
    x = np.full((1, 2, 2, 1), 3.0, "float32")
    layer.build(x.shape)
    layer.kernel.assign([[[[2.0]]]])
    layer.pointwise_conv2.kernel.assign([[0.0]])
    layer.batch_norm2.beta.assign([-np.log(3.0)])
    np.testing.assert_allclose(layer.attention_map(x), np.full((1, 1, 1, 1, 1), 0.25), rtol=1e-6)
    np.testing.assert_allclose(layer(x), np.full((1, 2, 2, 1), 7.5), rtol=1e-6)


def test_channels_of_the_second_product_are_rows_of_filters():
    # Equation 8 reads them as C2 rows of C1/r_C1: entry 2 * f + g for filter f and group g.
    layer = layers.AWConv2D(3, 1, input_reduction=2, attention_activation=None)
    layer.build((None, None, None, 4))
    layer.pointwise_conv2.kernel.assign(np.zeros((1, 6)))
    layer.batch_norm2.beta.assign(np.arange(6.0))
    attention = layer.attention_map(np.ones((1, 1, 1, 4), "float32"))
    np.testing.assert_array_equal(np.asarray(attention)[0, 0, 0], [[0, 2, 4], [1, 3, 5]])


def test_with_attention_of_a_half_it_is_a_convolution_by_one_and_a_half():
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype("float32")
    layer = layers.AWConv2D(3, 3)
    layer.build(x.shape)
    # gamma = beta = 0 in the second batch norm: the sigmoid of 0 everywhere.
    layer.batch_norm2.gamma.assign(np.zeros(3))
    plain = keras.layers.Conv2D(3, 3)
    plain.build(x.shape)
    plain.set_weights([1.5 * np.asarray(layer.kernel), np.asarray(layer.bias)])
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-4, atol=1e-5)


def test_it_is_a_conv2d():
    # Tools that look for convolutions, as Grad-CAM does, find it; old arguments keep their places.
    layer = layers.AWConv2D(4, 3, 2, "same", None, 1, 1, "relu", False)
    assert isinstance(layer, keras.layers.Conv2D)
    plain = keras.layers.Conv2D(4, 3, 2, "same", None, 1, 1, "relu", False).get_config()
    config = layer.get_config()
    assert {key: config[key] for key in plain} | {"name": ""} == plain | {"name": ""}


def test_every_argument_of_conv2d_reaches_it():
    given = {
        "activity_regularizer": "l1",
        "kernel_constraint": "non_neg",
        "bias_constraint": "max_norm",
        "kernel_regularizer": "l2",
        "bias_regularizer": "l1",
        "kernel_initializer": "ones",
        "bias_initializer": "ones",
        "activation": "tanh",
        "data_format": "channels_first",
        "strides": (1, 2),
        "padding": "same",
    }
    plain = keras.layers.Conv2D(4, 3, **given).get_config()
    config = layers.AWConv2D(4, 3, **given).get_config()
    assert {key: config[key] for key in plain if key != "name"} == {
        key: value for key, value in plain.items() if key != "name"
    }


def test_the_moving_averages_have_a_momentum_of_0_9():
    x = np.random.default_rng(0).normal(size=(4, 5, 5, 4)).astype("float32")
    layer = layers.AWConv2D(3, 1, reduction=1)
    layer.build(x.shape)
    mean = (x.mean(axis=(1, 2)) @ np.asarray(layer.pointwise_conv1.kernel)).mean(axis=0)
    layer(x, training=True)
    np.testing.assert_allclose(layer.batch_norm1.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_lora_trains_beside_a_frozen_kernel_and_is_saved(lora_rank, tmp_path):
    layer = layers.AWConv2D(4, 3, lora_rank=lora_rank)
    model = keras.Sequential([keras.Input((5, 5, 2)), layer])
    if lora_rank is None:
        layer.enable_lora(2)
    assert not layer._kernel.trainable
    layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 2)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("implementation", ["factored", "loop"])
def test_refuses_maps_smaller_than_a_valid_kernel(implementation):
    layer = layers.AWConv2D(2, 3, implementation=implementation)
    layer.build((None, None, None, 2))
    message = r"must not be larger than the inputs. Received: inputs.shape=\(1, 2, 5, 2\)"
    with pytest.raises(ValueError, match=message):
        layer(np.ones((1, 2, 5, 2), "float32"))


@pytest.mark.parametrize("implementation", ["factored", "loop"])
def test_sums_over_taps_in_float32(implementation):
    # 16 taps of 1, after one of 4096, where float16 counts in fours: a sum in it stays at 4096.
    layer = layers.AWConv2D(
        1, (1, 17), padding="same", use_bias=False, implementation=implementation, dtype="float16"
    )
    x = np.ones((1, 1, 17, 1), "float16")
    x[0, 0, 0] = 4096
    layer.build(x.shape)
    layer.kernel.assign(np.full((1, 17, 1, 1), 2 / 3))
    layer.batch_norm2.gamma.assign([0.0])
    (outputs,) = calls.of_layer(layer, x, {"training": False})
    centre = float(np.asarray(outputs, "float64")[0, 0, 8, 0])
    assert abs(centre - (4096 + 16)) < 5


@pytest.mark.parametrize("implementation", ["auto", *IMPLEMENTATIONS])
def test_pixels_as_integers_count_as_numbers(implementation):
    layer = layers.AWConv2D(3, 3, implementation=implementation)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 2), "uint8")
    outputs = layer(pixels)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    np.testing.assert_allclose(outputs, layer(pixels.astype("float32")), rtol=1e-6)


def test_synchronized_reaches_both_batch_norms():
    layer = layers.AWConv2D(3, 3, synchronized=True)
    if keras.backend.backend() != "tensorflow":
        with pytest.raises(ValueError, match="only supported with the TensorFlow backend"):
            layer.build((None, None, None, 2))
        return
    layer.build((None, None, None, 2))
    assert layer.batch_norm1.synchronized
    assert layer.batch_norm2.synchronized


def test_multiply_adds_by_hand():
    # 3 x 3 outputs of 3 x 3 x 8 x 4; the attention on 9 cells, 8 -> 2 -> 4; 288 kernel entries.
    layer = layers.AWConv2D(4, 3, reduction=4)
    assert layer.multiply_adds((None, 5, 5, 8)) == 9 * 288 + 9 * (16 + 8) + 288
    # Groups of 2 input channels and a grid of one cell: 8 -> 2 -> 4/2 * 4 entries.
    layer = layers.AWConv2D(
        4, 3, reduction=4, input_reduction=2, output_reduction=2, kernel_reduction=3
    )
    assert layer.multiply_adds((None, 5, 5, 8)) == 9 * 288 + (16 + 16) + 288


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 2}, "`groups` must be 1. Received: groups=2"),
        ({"filters": 0}, "`filters` must be a positive integer. Received: filters=0"),
        ({"reduction": 0}, "`reduction` must be a positive integer. Received: reduction=0"),
        ({"input_reduction": -1}, "`input_reduction` must be a positive integer. Received"),
        ({"output_reduction": 3}, r"`output_reduction` must divide the filters \(4\). Received"),
        (
            {"kernel_reduction": 2},
            r"must divide both sides of the kernel \(3\). Received: kernel_reduction=2. "
            r"Choose one of \[1, 3\]",
        ),
        ({"implementation": "fast"}, "`implementation` must be one of 'auto'"),
        ({"strides": 2, "dilation_rate": 2}, "not supported in conjunction"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.AWConv2D(**{"filters": 4, "kernel_size": 3, **arguments})


@pytest.mark.parametrize("name", ["reduction", "input_reduction", "output_reduction"])
def test_refuses_a_fraction(name):
    with pytest.raises(TypeError, match=f"`{name}` must be a positive integer. Received: {name}=0"):
        layers.AWConv2D(4, 3, **{name: 0.5})


def test_refuses_an_input_reduction_that_does_not_divide_the_channels():
    message = r"`input_reduction` must divide the input channels \(4\). Received: input_reduction=3"
    with pytest.raises(ValueError, match=message):
        layers.AWConv2D(2, 3, input_reduction=3).build((None, None, None, 4))


@pytest.mark.slow_on_tensorflow
@only_tensorflow
def test_the_reference_cannot_be_trained_under_xla_on_tensorflow_as_its_docstring_says():
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.AWConv2D(2, 3, implementation="vectorized_map")]
    )
    model.compile("sgd", "mse", jit_compile=True)
    with pytest.raises(Exception, match="tensor list size"):
        model.fit(np.ones((2, 4, 4, 2)), np.ones((2, 2, 2, 2)), verbose=0)


@pytest.mark.parametrize(
    ("arguments", "factor"),
    [
        ({}, 1.5),
        ({"use_residual": False, "use_bias": False}, 0.5),
        ({"attention_activation": "tanh", "activation": "relu"}, 1.0),
        ({"attention_activation": "exponential", "dtype": "mixed_float16"}, 2.0),
        ({"attention_activation": "softmax"}, 1 + 1 / 6),
    ],
)
def test_starts_as_a_convolution(arguments, factor):
    x = np.random.default_rng(0).normal(size=(3, 6, 5, 4)).astype("float32")
    layer = layers.AWConv2D(6, 3, strides=2, reduction=2, **arguments)
    kept = {key: arguments[key] for key in ("use_bias", "activation", "dtype") if key in arguments}
    convolution = keras.layers.Conv2D(6, 3, strides=2, **kept)
    for each in (layer, convolution):
        each.build(x.shape)
        weights.randomise(each)
    kernel, *bias = convolution.get_weights()
    layer.start_as_convolution(kernel, *bias)
    np.testing.assert_allclose(layer.kernel, kernel / factor, rtol=1e-6)
    atol = 5e-2 if "dtype" in arguments else 1e-4
    expected = keras.ops.cast(convolution(x), "float32")
    for outputs in calls.of_layer(layer, x, {"training": True}, {"training": False}):
        np.testing.assert_allclose(keras.ops.cast(outputs, "float32"), expected, atol=atol)


def test_refuses_to_start_as_a_convolution():
    kernel, bias = np.ones((3, 3, 4, 6)), np.ones(6)
    with pytest.raises(ValueError, match="Only a built layer can start as a convolution"):
        layers.AWConv2D(6, 3).start_as_convolution(kernel, bias)

    def built(**arguments):
        layer = layers.AWConv2D(6, 3, **arguments)
        layer.build((None, 8, 8, 4))
        return layer

    with pytest.raises(ValueError, match="`bias` must be given with `use_bias=True`, and only th"):
        built().start_as_convolution(kernel)
    with pytest.raises(ValueError, match="`bias` must be given with"):
        built(use_bias=False).start_as_convolution(kernel, bias)
    with pytest.raises(TypeError, match="`kernel` must be an array of real numbers"):
        built().start_as_convolution(None, bias)
    convolution = keras.layers.Conv2D(6, 3)
    convolution.build((None, 8, 8, 4))
    built().start_as_convolution(convolution.kernel, convolution.bias)
    odd = built(use_residual=False, attention_activation="tanh")
    before = odd.get_weights()
    with pytest.raises(ValueError, match='must not start at 0.*attention_activation="sigmoid"'):
        odd.start_as_convolution(kernel, bias)
    for old, new in zip(before, odd.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
