import keras
import numpy as np
import pytest

from keras_fmm import layers
from tests.support import references, weights


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 3, 5, 1), (3, 4, 2, 8)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_equals_equation_7(shape, kernel_size):
    x = np.random.default_rng(1).normal(size=shape)
    layer = layers.EfficientChannelAttention(kernel_size)
    layer.build(shape)
    (kernel,) = weights.randomise(layer).values()
    gate = references.eca_gate(x, kernel.ravel())
    np.testing.assert_allclose(layer.attention_map(x), gate, rtol=1e-5)
    np.testing.assert_allclose(layer(x), gate * x, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's XLA")
def test_is_the_same_where_xla_compiles_it():
    import tensorflow as tf

    x = np.random.default_rng(1).normal(size=(3, 2, 2, 8)).astype("float32")
    layer = layers.EfficientChannelAttention(5)
    layer.build(x.shape)
    (kernel,) = weights.randomise(layer).values()
    gate = tf.function(layer.attention_map, jit_compile=True)(x)
    np.testing.assert_allclose(gate, references.eca_gate(x, kernel.ravel()), rtol=1e-5)


@pytest.mark.parametrize(
    ("channels", "size"), [(1, 1), (64, 3), (128, 5), (256, 5), (1024, 5), (2048, 7)]
)
def test_default_kernel_size_follows_the_channels(channels, size):
    layer = layers.EfficientChannelAttention()
    layer.build((None, None, None, channels))
    assert layer.convolution.kernel.shape == (size, 1, 1)
    assert layer.kernel_size is None


def test_a_rule_that_goes_below_zero_still_gives_a_kernel():
    layer = layers.EfficientChannelAttention(beta=-20)
    layer.build((None, None, None, 64))
    assert layer.convolution.kernel.shape == (7, 1, 1)


def test_the_gates_activation_is_the_one_given():
    x = np.random.default_rng(0).normal(size=(1, 2, 2, 4)).astype("float32")
    layer = layers.EfficientChannelAttention(1, gate_activation=None)
    layer.build(x.shape)
    layer.convolution.kernel.assign([[[2.0]]])
    np.testing.assert_allclose(
        np.asarray(layer.attention_map(x)).ravel(), 2 * x.mean(axis=(1, 2)).ravel(), rtol=1e-5
    )


def test_multiply_adds_by_hand():
    assert layers.EfficientChannelAttention(3).multiply_adds((None, 3, 5, 8)) == 24 + 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, "`kernel_size` must be odd. Received: kernel_size=4"),
        ({"kernel_size": 0}, "`kernel_size` must be a positive integer. Received: kernel_size=0"),
        ({"gamma": 0}, "`gamma` must not be zero. Received: gamma=0.0. The default"),
        ({"beta": float("nan")}, "`beta` must be a finite number. Received: beta=nan"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.EfficientChannelAttention(**arguments)


def test_refuses_what_is_no_number():
    with pytest.raises(TypeError, match="`gamma` must be a finite number. Received: gamma='2'"):
        layers.EfficientChannelAttention(gamma="2")
