import keras
import numpy as np
import pytest

from keras_fmm import layers, models


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


@keras.saving.register_keras_serializable("keras_fmm_tests")
class OfItsOwn(layers.FeatureGate):
    """A gate whose constructor takes what a base of 0.1.0 had, and no more."""

    def __init__(self, merge="multiply", data_format=None, name=None, dtype=None, trainable=True):
        super().__init__(
            merge=merge, data_format=data_format, name=name, dtype=dtype, trainable=trainable
        )

    def compute_attention_map(self, inputs, training=None):
        return keras.ops.max(inputs, axis=(1, 2), keepdims=True)


def test_a_gate_that_takes_no_activation_is_saved_and_made_again(tmp_path):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, OfItsOwn(name="gate")(inputs))
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    expected = np.asarray(model(images))
    for again in (
        keras.saving.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
        models.upgrade(model, attention="eca", attention_where=["gate"]),
    ):
        np.testing.assert_allclose(again(images), expected, rtol=1e-6)


@pytest.mark.parametrize("wrong", [lambda x: keras.ops.mean(x, axis=(1, 2)), lambda x: None])
def test_a_map_of_another_rank_is_refused(wrong):
    class Wrong(layers.FeatureGate):
        def compute_attention_map(self, inputs, training=None):
            return wrong(inputs)

    # As many images as columns: it would broadcast.
    with pytest.raises(ValueError, match=r"must return a tensor of rank 4 .*Received: Wrong"):
        Wrong()(np.ones((4, 3, 4, 8), "float32"))
