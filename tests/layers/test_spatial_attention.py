import keras
import numpy as np
import pytest

from keras_fmm import layers
from tests.support import references, weights


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 3, 5, 1), (3, 4, 2, 8)])
@pytest.mark.parametrize("use_max_pool", [True, False])
@pytest.mark.parametrize("use_batch_norm", [True, False])
def test_equals_equation_3(shape, use_max_pool, use_batch_norm):
    x = np.random.default_rng(1).normal(size=shape)
    layer = layers.SpatialAttention(3, use_max_pool, use_batch_norm)
    layer.build(shape)
    kernel, *batch_norm = weights.randomise(layer).values()
    gate = references.spatial_gate(x, kernel, batch_norm or None, use_max_pool)
    np.testing.assert_allclose(layer.attention_map(x), gate, rtol=1e-5)
    np.testing.assert_allclose(layer(x), gate * x, rtol=1e-5, atol=1e-6)


def test_by_hand():
    # One position, channels 0 and 4: max 4, mean 2; logit 4 * 1 + 2 * -2 = 0, gate 1/2.
    layer = layers.SpatialAttention(1, use_batch_norm=False)
    x = np.array([0.0, 4.0], "float32").reshape(1, 1, 1, 2)
    layer.build(x.shape)
    layer.set_weights([np.array([1.0, -2.0]).reshape(1, 1, 2, 1)])
    np.testing.assert_allclose(np.asarray(layer(x)).ravel(), [0.0, 2.0])


def test_training_normalises_by_the_batch_and_moves_the_averages():
    x = np.random.default_rng(2).normal(size=(4, 5, 5, 3)).astype("float32")
    layer = layers.SpatialAttention(3, gate_activation=None)
    logits = np.asarray(layer.attention_map(x, training=True))
    assert abs(logits.mean()) < 1e-5
    assert abs(logits.std() - 1) < 1e-2
    # A momentum of 0.99.
    plain = np.asarray(layer.convolution(np.stack([x.max(axis=3), x.mean(axis=3)], axis=3)))
    np.testing.assert_allclose(
        layer.batch_norm.moving_mean, [0.01 * plain.mean()], rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("training", [False, True])
def test_a_frozen_batch_norm_shifts_no_map(dtype, training):
    x = np.random.default_rng(3).normal(size=(8, 20, 20, 3)).astype("float32")
    layer = layers.SpatialAttention(3, gate_activation=None, dtype=dtype)
    layer.build(x.shape)
    gamma, beta, mean, variance = 0.875, 0.25, 34.0, 0.5
    layer.set_weights(
        [np.ones((3, 3, 2, 1)), *(np.array([each]) for each in (gamma, beta, mean, variance))]
    )
    layer.trainable = False
    logits = layer.attention_map(x, training=training)
    logits = keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32"))
    # A kernel of ones sums its window.
    padded = np.pad(x.max(axis=3) + x.mean(axis=3), ((0, 0), (1, 1), (1, 1)))
    sums = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).sum(axis=(3, 4))
    expected = gamma * (sums - mean) / np.sqrt(variance + 1e-5) + beta
    # The weights are exact in half precision; rounding moves positions, but not all together.
    assert abs(np.mean(logits[..., 0] - expected)) < 0.01


def test_looking_at_the_map_leaves_the_averages_alone():
    layer = layers.SpatialAttention(3)
    layer.attention_map(np.ones((2, 4, 4, 3), "float32"))
    assert (np.asarray(layer.batch_norm.moving_mean) == 0).all()


def test_multiply_adds_by_hand():
    # 15 positions, 3 x 3 taps of 2 channels; 120 entries gated.
    assert layers.SpatialAttention(3).multiply_adds((None, 3, 5, 8)) == 15 * 18 + 120


def test_refuses_a_kernel_size_of_zero():
    with pytest.raises(ValueError, match="`kernel_size` must be a positive integer. Received"):
        layers.SpatialAttention(0)


@pytest.mark.parametrize("gate", [layers.SpatialAttention, layers.CBAM])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_an_activation_of_one_value_cannot_start_as_the_identity(gate, data_format):
    # A softmax of one number is 1, which is the identity and stays it.
    layer = gate(gate_activation="softmax", data_format=data_format)
    layer.build((None, 6, 6, 6))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=r"can still learn. Received: softmax .* has 1 number"):
        layer.start_as_identity()
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
