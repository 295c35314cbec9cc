"""Biases make up for what rounding the weights changes."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export
from tests.export import toys

# Some hundred times a channel's largest weight is 1, so that a step is 1/127, and the others are
# 0.4 of one: rounded they are 0, and the sum over 63 of them is gone.
CHANNELS = 64
STEP = 1 / 127
KERNEL = np.full((CHANNELS, 32), 0.4 * STEP, "float32")
KERNEL[0] = 1


def images(n, seed):
    return np.random.default_rng(seed).uniform(0, 1, (n, 4, 4, CHANNELS)).astype("float32")


@pytest.mark.parametrize("quantization", ["int8", "dynamic", "int16x8"])
def test_the_mean_that_rounding_takes_is_in_the_bias(tmp_path, quantization):
    inputs = keras.Input((4, 4, CHANNELS))
    # Without a bias; called twice, on values of other means; in a nested model.
    conv = layers.Conv2D(32, 1, use_bias=False)
    dense = layers.Dense(32)
    outputs = [conv(inputs), dense(layers.ReLU()(conv(3 * inputs)))]
    inner = keras.Model(inputs, [layers.GlobalAveragePooling2D()(x) for x in outputs])
    given = keras.Input((4, 4, CHANNELS))
    model = keras.Model(given, inner(given))
    conv.kernel.assign(KERNEL[None, None])
    dense.kernel.assign(np.eye(32) + 0.3 * STEP)
    before = [np.array(x) for x in model.get_weights()]

    path = export.to_tflite(
        model,
        tmp_path / "toy.tflite",
        quantization=quantization,
        representative_data=images(60, 0),
    )
    others = images(40, 1)
    found = export.run_tflite(path, others)
    lost = 0.5 * 63 * 0.4 * STEP  # 0.1 of outputs of about 0.6; of 3 times the images 0.3
    for got, expected, without in zip(found, model(others), (lost, 3 * lost), strict=True):
        assert abs(np.mean(got - np.asarray(expected))) < 0.1 * without
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    # The biases from before are not in the file.
    toys.assert_nothing_is_unused(path)


def test_without_images_dynamic_is_what_it_was(tmp_path):
    inputs = keras.Input((4, 4, CHANNELS))
    conv = layers.Conv2D(32, 1, use_bias=False)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(conv(inputs)))
    conv.kernel.assign(KERNEL[None, None])
    path = export.to_tflite(model, tmp_path / "toy.tflite", quantization="dynamic")
    found = export.run_tflite(path, images(40, 1))
    assert np.mean(np.asarray(model(images(40, 1))) - found) > 0.05


@pytest.mark.slow_on_tensorflow
def test_channels_before_a_depthwise_product_share_no_scale(tmp_path):
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(2, 1, use_bias=False)
    gain = layers.Dense(2, activation="sigmoid")(layers.GlobalAveragePooling2D()(inputs))
    x = conv(inputs) * layers.Reshape((1, 1, 2))(gain)
    depthwise = layers.DepthwiseConv2D(1, use_bias=False)
    model = keras.Model(inputs, depthwise(x))
    # The second channel is within a step of the first, and then as large.
    conv.kernel.assign(np.array([[200, 1], [0, 1], [0, 1]]).reshape((1, 1, 3, 2)))
    depthwise.kernel.assign(np.array([1 / 200, 1]).reshape((1, 1, 2, 1)))
    path = export.to_tflite(
        model,
        tmp_path / "toy.tflite",
        quantization="int8",
        representative_data=toys.images(60),
    )
    others = toys.images(20, seed=1)
    expected = np.asarray(model(others))[..., 1]
    error = export.run_tflite(path, others)[..., 1] - expected
    # Were they not stretched, the step would be 3, and the error as large as what there is.
    assert np.sqrt(np.mean(error**2)) < 0.15 * expected.std()


def test_products_side_by_side_before_a_batch_norm_share_no_scale(tmp_path):
    inputs = keras.Input((8, 8, 3))
    near, far = layers.Conv2D(2, 1, use_bias=False), layers.Conv2D(2, 3, padding="same")
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, norm(layers.Concatenate()([near(inputs), far(inputs)])))
    # The first two are within a step of the others, and then as large.
    near.kernel.assign(np.array([[1, 0], [0, 1], [0, 0]]).reshape((1, 1, 3, 2)) / 100)
    side_by_side = keras.Model(inputs, norm.input)(toys.images(60))
    norm.moving_mean.assign(np.mean(side_by_side, (0, 1, 2)))
    norm.moving_variance.assign(np.var(side_by_side, (0, 1, 2)))
    norm.epsilon = 1e-9
    path = export.to_tflite(
        model, tmp_path / "toy.tflite", quantization="int8", representative_data=toys.images(60)
    )
    others = toys.images(20, seed=1)
    found, expected = export.run_tflite(path, others), np.asarray(model(others))
    for channel in range(4):
        assert toys.decibels(found[..., channel], expected[..., channel]) > 25
