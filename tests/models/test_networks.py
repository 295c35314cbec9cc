"""The backbones compute what the papers say: against NumPy, on every kind of block."""

import numpy as np
import pytest

from keras_fmm import models
from tests.models.families import small
from tests.support import network_references as references
from tests.support.weights import randomise


def randomised(model):
    for number, layer in enumerate(model.layers):
        randomise(layer, seed=number)
        # Keeps the maps of one size, or the scores would be 0 and 1.
        if hasattr(layer, "kernel"):
            fan_in = np.prod(layer.kernel.shape[:-1])
            layer.kernel.assign(np.asarray(layer.kernel.value) * np.sqrt(1 / fan_in))
    return model


def images(model):
    x = np.random.default_rng(7).normal(size=(2, *model.input_shape[1:]))
    return x, np.asarray(model(x.astype("float32")))


BLOCKS = ("stage1_block1", "stage2_block1", "stage3_block1", "stage4_block1")


def compare(got, expected):
    assert expected.std() > 0.01
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gate", [None, "squeeze_excite"])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_resnet(bottleneck, gate):
    attention = gate and {"branch": gate, "stage": gate}
    model = randomised(small("bottleneck_resnet", bottleneck=bottleneck, attention=attention))
    x, got = images(model)
    net = references.Network(model, epsilon=1.001e-5)
    x = references.small_stem(net, x)
    for index, name in enumerate(BLOCKS):
        block = references.bottleneck if bottleneck else references.basic
        x = block(net, x, name, strides=2 if index else 1)
        x = net.squeeze_excite(x, f"stage{index + 1}_attention") if gate else x
    compare(got, net.scores(x))


def test_resnets_imagenet_stem():
    model = randomised(small("basic_resnet"))
    x, got = images(model)
    net = references.Network(model, epsilon=1.001e-5)
    x = references.imagenet_stem(net, x)
    for index, name in enumerate(BLOCKS):
        x = references.basic(net, x, name, strides=2 if index else 1)
    compare(got, net.scores(x))


@pytest.mark.parametrize("residual", ["add", "multiply"])
@pytest.mark.parametrize("width", [1, 2])
def test_wide_resnet(width, residual):
    model = models.WideResNet(
        10, width, input_shape=(8, 6, 3), residual=residual, attention="squeeze_excite"
    )
    x, got = images(randomised(model))
    net = references.Network(model, epsilon=1e-5)
    x = net.convolution(x, "stem_conv")
    for index, name in enumerate(BLOCKS[:3]):
        x = references.preactivation(
            net, x, name, strides=2 if index else 1, multiply=residual == "multiply"
        )
    x = np.maximum(net.batch_norm(x, "head_bn"), 0)
    compare(got, net.scores(x))


@pytest.mark.slow_on_tensorflow
def test_mobilenets_first_block():
    # The rest is compared with keras.applications, in test_weights.
    model = randomised(small("mobilenet", attention="squeeze_excite"))
    x, _ = images(model)
    net = references.Network(model, epsilon=1e-3)
    first = models.feature_model(model, ["stem_relu", "stage1"])
    stem, got = (np.asarray(y) for y in first(x.astype("float32")))
    y = stem.astype("float64")
    for half, convolve in (
        ("depthwise", net.depthwise_convolution),
        ("pointwise", net.convolution),
    ):
        name = f"stage1_block1_{half}"
        y = np.clip(net.batch_norm(convolve(y, f"{name}_conv"), f"{name}_bn"), 0, 6)
        y = net.squeeze_excite(y, f"{name}_attention")
    compare(got, y)
