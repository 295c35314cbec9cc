import numpy as np
import pytest

from keras_fmm import layers
from tests.support import references, weights


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 3, 5, 1), (3, 4, 2, 8)])
@pytest.mark.parametrize("use_max_pool", [True, False])
def test_equals_equation_2(shape, use_max_pool):
    x = np.random.default_rng(1).normal(size=shape)
    layer = layers.ChannelAttention(reduction=2, use_max_pool=use_max_pool)
    layer.build(shape)
    mlp = list(weights.randomise(layer).values())
    gate = references.channel_gate(x, mlp, use_max=use_max_pool)
    np.testing.assert_allclose(layer.attention_map(x), gate, rtol=1e-5)
    np.testing.assert_allclose(layer(x), gate * x, rtol=1e-5, atol=1e-6)


def test_without_the_max_it_is_squeeze_excite():
    x = np.random.default_rng(2).normal(size=(2, 3, 3, 8)).astype("float32")
    channel = layers.ChannelAttention(reduction=2, use_max_pool=False)
    squeeze = layers.SqueezeExcite(reduction=2)
    channel.build(x.shape)
    squeeze.build(x.shape)
    squeeze.set_weights(channel.get_weights())
    np.testing.assert_array_equal(channel(x), squeeze(x))


def test_multiply_adds_by_hand():
    # The MLP of 2 * 8 * 2 runs twice.
    layer = layers.ChannelAttention(reduction=4)
    assert layer.multiply_adds((None, 3, 5, 8)) == 2 * 32 + 120
