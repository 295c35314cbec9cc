"""Files of integers with self-attention in them."""

import keras
import numpy as np
import pytest

from keras_fmm import export, layers
from tests.export import toys


def decibels(layer, path, least):
    """Returns by how many decibels what Keras says of noise from `least` on is more than an error.

    The error is that of a file of int8.
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
    export.to_tflite(model, path, quantization="int8", representative_data=images)
    # LiteRT's is wrong where -1 is divided by more than 64, as the integers that stand for numbers.
    assert "DIV" not in {operator.name for operator in export.inspect(path).operators}
    return toys.decibels(export.run_tflite(path, others), model(others))


@pytest.mark.slow
def test_noise_of_int8(tmp_path):
    keras.utils.set_random_seed(0)
    local = layers.LocalSelfAttention2D(32, 5, num_heads=4)
    assert decibels(local, tmp_path / "local.tflite", 0) > 25
    augmented = layers.AttentionAugmentedConv2D(32, 3, num_heads=2, value_ratio=0.25)
    assert decibels(augmented, tmp_path / "augmented.tflite", -9) > 28
