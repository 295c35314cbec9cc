"""Files of integers with self-attention in them."""

import keras
import numpy as np
import pytest

from keras_fmm import export, layers
from tests.export import toys


def decibels(layer, path, least, quantization="int8"):
    """Returns by how many decibels what Keras says of noise from `least` on is more than an error.

    The error is that of a file.
    """
    images, others = np.maximum(np.random.default_rng(0).normal(size=(2, 40, 12, 12, 32)), least)
    inputs = keras.Input((12, 12, 32))
    model = keras.Model(inputs, layer(inputs))
    if isinstance(layer, layers.AttentionAugmentedConv2D):
        # As in networks: it makes alike what convolution and attention give.
        norm = keras.layers.BatchNormalization()
        found = model(images)
        model = keras.Model(inputs, norm(model.output))
        norm.moving_mean.assign(np.mean(found, (0, 1, 2)))
        norm.moving_variance.assign(np.var(found, (0, 1, 2)))
    export.to_tflite(model, path, quantization=quantization, representative_data=images)
    # LiteRT's is wrong where -1 is divided by more than 64, as the integers that stand for numbers.
    assert "DIV" not in {operator.name for operator in export.inspect(path).operators}
    return toys.decibels(export.run_tflite(path, others), model(others))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantization", "of_window", "of_all"), [("int8", 25, 28), ("int16x8", 35, 35)]
)
def test_noise_of_integers(tmp_path, quantization, of_window, of_all):
    keras.utils.set_random_seed(0)
    local = layers.LocalSelfAttention2D(32, 5, num_heads=4)
    assert decibels(local, tmp_path / "local.tflite", 0, quantization) > of_window
    augmented = layers.AttentionAugmentedConv2D(32, 3, num_heads=2, value_ratio=0.25)
    assert decibels(augmented, tmp_path / "augmented.tflite", -9, quantization) > of_all


@pytest.mark.slow_on_tensorflow
def test_weights_of_integers_leave_the_positions_in_a_window(tmp_path):
    # LiteRT makes integers of what it multiplies with such weights: masks of -1e9 among it would
    # make zeros of all else.
    keras.utils.set_random_seed(0)
    local = layers.LocalSelfAttention2D(32, 5, num_heads=4)
    assert decibels(local, tmp_path / "local.tflite", 0, "dynamic") > 30


def test_what_mean_and_maximum_say_adds_up_in_int16(tmp_path):
    keras.utils.set_random_seed(0)
    gate = layers.ChannelAttention(4, gate_activation="linear")
    # Off by what one number cannot hold, LiteRT's sum of both gives 12 decibels.
    assert decibels(gate, tmp_path / "gate.tflite", 0, "int16x8") > 40
