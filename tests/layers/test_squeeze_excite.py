import keras
import numpy as np
import pytest

from keras_fmm import layers
from tests.support import references, weights

SHAPES = [(2, 1, 1, 3), (1, 3, 5, 1), (3, 4, 2, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["relu", None])
def test_equals_equations_2_to_4(shape, activation):
    x = np.random.default_rng(1).normal(size=shape)
    layer = layers.SqueezeExcite(reduction=2, activation=activation)
    layer.build(shape)
    mlp = list(weights.randomise(layer).values())
    hidden = references.relu if activation else lambda value: value
    gate = references.channel_gate(x, mlp, activation=hidden)
    np.testing.assert_allclose(layer.attention_map(x), gate, rtol=1e-5)
    np.testing.assert_allclose(layer(x), gate * x, rtol=1e-5, atol=1e-6)


def test_by_hand():
    # Means 1 and 3; hidden relu(1 * 1 + 3 * 1 - 3) = 1; logits 1 * ln 3 + 0 = ln 3 and 0 + 0 = 0;
    # gates 3/4 and 1/2.
    x = np.array([[[[0.0, 2.0], [2.0, 4.0]]]], "float32")
    layer = layers.SqueezeExcite(reduction=2)
    layer.build(x.shape)
    layer.set_weights(
        [np.array([[1.0], [1.0]]), np.array([-3.0]), np.array([[np.log(3.0), 0.0]]), np.zeros(2)]
    )
    np.testing.assert_allclose(layer(x)[0, 0], [[0.0, 1.0], [1.5, 2.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("channels", "arguments", "hidden"),
    [
        (64, {}, 4),
        (8, {}, 1),
        (64, {"divisor": 8}, 8),
        (128, {"divisor": 8}, 8),
        (256, {"divisor": 8}, 16),
        (72, {"reduction": 4, "divisor": 8}, 16),
        (80, {"reduction": 4, "divisor": 8}, 24),
        (2048, {"divisor": 8}, 128),
    ],
)
def test_hidden_units_are_rounded_to_the_nearest_multiple_of_the_divisor(
    channels, arguments, hidden
):
    layer = layers.SqueezeExcite(**arguments)
    layer.build((None, None, None, channels))
    assert layer.squeeze.kernel.shape == (channels, hidden)
    assert layer.get_config()["divisor"] == arguments.get("divisor", 1)


def test_no_activation_is_a_linear_squeeze():
    # AMnoRL: the logits are linear in the means, so minus the inputs gives minus the logits.
    layer = layers.SqueezeExcite(reduction=2, activation=None, gate_activation=None, use_bias=False)
    x = np.random.default_rng(2).normal(size=(1, 3, 3, 4)).astype("float32")
    np.testing.assert_allclose(layer.attention_map(-x), -np.asarray(layer.attention_map(x)))


def test_add_merges_by_the_sum():
    x = np.random.default_rng(3).normal(size=(2, 3, 3, 4)).astype("float32")
    layer = layers.SqueezeExcite(merge="add")
    np.testing.assert_allclose(layer(x), x + np.asarray(layer.attention_map(x)), rtol=1e-6)


def test_the_mean_of_many_large_float16_values_does_not_overflow():
    x = np.full((1, 64, 64, 2), 60000.0, "float16")
    layer = layers.SqueezeExcite(reduction=1, dtype="float16")
    layer.build(x.shape)
    layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    np.testing.assert_allclose(np.asarray(layer(x)), x / 2)


def test_the_two_products_draw_different_numbers_from_one_initializer_object():
    initializer = keras.initializers.GlorotUniform()
    layer = layers.SqueezeExcite(reduction=1, kernel_initializer=initializer)
    layer.build((None, None, None, 4))
    assert (np.asarray(layer.squeeze.kernel) != np.asarray(layer.excite.kernel)).any()


def test_an_initializer_may_be_a_function():
    layer = layers.SqueezeExcite(kernel_initializer=lambda shape, dtype: keras.ops.ones(shape))
    layer.build((None, None, None, 4))
    assert (np.asarray(layer.excite.kernel) == 1).all()


def test_multiply_adds_by_hand():
    # 2 products of 8 x 2, and 3 * 5 * 8 entries gated.
    assert layers.SqueezeExcite(reduction=4).multiply_adds((None, 3, 5, 8)) == 2 * 16 + 120
    assert layers.SqueezeExcite(reduction=4, merge="add").multiply_adds((None, 3, 5, 8)) == 32


@pytest.mark.parametrize("layer", [layers.SqueezeExcite, layers.ChannelAttention, layers.CBAM])
@pytest.mark.parametrize(
    ("reduction", "error"), [(0, ValueError), (-2, ValueError), (0.5, TypeError), (True, TypeError)]
)
def test_refuses_a_reduction_that_is_no_positive_integer(layer, reduction, error):
    message = rf"`reduction` must be a positive integer. Received: reduction={reduction}"
    with pytest.raises(error, match=message):
        layer(reduction=reduction)


def test_refuses_an_unknown_merge():
    with pytest.raises(ValueError, match="`merge` must be one of 'multiply', 'add'. Received"):
        layers.SqueezeExcite(merge="divide")
