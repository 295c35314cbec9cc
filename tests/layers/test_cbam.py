import numpy as np
import pytest

from keras_fmm import layers
from tests.support import references, weights


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 3, 5, 1), (3, 4, 2, 8)])
@pytest.mark.parametrize("use_max_pool", [True, False])
@pytest.mark.parametrize("use_spatial", [True, False])
def test_equals_equations_1_to_3(shape, use_max_pool, use_spatial):
    x = np.random.default_rng(1).normal(size=shape)
    layer = layers.CBAM(2, 3, use_max_pool, use_spatial)
    layer.build(shape)
    values = list(weights.randomise(layer).values())
    gate = references.channel_gate(x, values[:4], use_max_pool)
    if use_spatial:
        gate = gate * references.spatial_gate(gate * x, values[4], values[5:], use_max_pool)
    np.testing.assert_allclose(layer.attention_map(x), gate, rtol=1e-5)
    np.testing.assert_allclose(layer(x), gate * x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("use_spatial", [True, False])
def test_its_map_of_channels_last_inputs_is_its_attention_map(data_format, use_spatial):
    x = np.random.default_rng(1).normal(size=(2, 4, 5, 6)).astype("float32")
    layer = layers.CBAM(2, 3, use_spatial=use_spatial, data_format=data_format)
    given = x if data_format == "channels_last" else np.moveaxis(x, -1, 1)
    layer.build(given.shape)
    weights.randomise(layer)
    found = np.asarray(layer.compute_attention_map(x))
    expected = np.asarray(layer.attention_map(given))
    if data_format == "channels_first":
        expected = np.moveaxis(expected, 1, -1)
    np.testing.assert_array_equal(found, expected)


def test_multiply_adds_are_those_of_both():
    shape = (None, 3, 5, 8)
    channel = layers.ChannelAttention(4).multiply_adds(shape)
    spatial = layers.SpatialAttention(7).multiply_adds(shape)
    assert layers.CBAM(4).multiply_adds(shape) == channel + spatial
    assert layers.CBAM(4, use_spatial=False).multiply_adds(shape) == channel


def test_the_product_is_its_only_merge():
    with pytest.raises(ValueError, match="by the product only. Received: merge='add'. Chain"):
        layers.CBAM(merge="add")


def test_its_activation_is_that_of_both():
    x = np.random.default_rng(1).normal(size=(2, 4, 4, 6)).astype("float32")
    layer = layers.CBAM(2, 3, gate_activation="tanh")
    channel = layers.ChannelAttention(2, gate_activation="tanh")
    spatial = layers.SpatialAttention(3, gate_activation="tanh")
    for each in (layer, channel, spatial):
        each.build(x.shape)
    weights.randomise(layer)
    values = layer.get_weights()
    channel.set_weights(values[:4])
    spatial.set_weights(values[4:])
    np.testing.assert_allclose(layer(x), spatial(channel(x)), rtol=1e-5, atol=1e-6)
