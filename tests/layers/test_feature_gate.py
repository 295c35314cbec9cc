import numpy as np
import pytest

from keras_fmm import layers


def test_a_gate_must_say_what_its_map_is():
    with pytest.raises(NotImplementedError, match="must override `compute_attention_map`"):
        layers.FeatureGate()(np.ones((1, 2, 2, 1)))


def test_a_gate_of_a_users_own_costs_what_it_multiplies():
    class Half(layers.FeatureGate):
        def compute_attention_map(self, inputs, training=None):
            return 0.5 * inputs[:, :1, :1] ** 0

    layer = Half()
    np.testing.assert_array_equal(layer(np.ones((1, 2, 2, 1))), np.full((1, 2, 2, 1), 0.5))
    assert layer.multiply_adds((None, 2, 2, 1)) == 4


def test_a_gate_of_a_users_own_must_say_how_it_starts_as_the_identity():
    class Half(layers.FeatureGate):
        pass

    gate = Half()
    gate.build((1, 2, 2, 1))
    with pytest.raises(NotImplementedError, match="`start_as_identity`. Received: Half, which do"):
        gate.start_as_identity()
