import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import export, half_precision
from tests.export import toys


@keras.saving.register_keras_serializable("test_float32")
class Registered(layers.Layer):
    """Makes a sub-layer in `build`, of its own policy."""

    def build(self, input_shape):
        self.dense = layers.Dense(5, name="dense", dtype=self.dtype_policy)
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)


class Unregistered(layers.Layer):
    """Makes a sub-layer in `__init__`, of the policy of the moment."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def _mixed(policy):
    """Nested models, sub-layers, a wrapper, a lambda, a shared layer, operations, float32 end."""
    keras.config.set_dtype_policy(policy)
    inner = toys.cnn()
    sequential = keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.LayerNormalization()])
    inputs = keras.Input((8, 8, 3))
    x = sequential(inner(inputs))
    shared = layers.Dense(5, activation="tanh")
    x = shared(shared(x)) + Registered()(x) + Unregistered(5)(x)
    x = layers.Multiply()([x, layers.Add()([x, x]) + 3.0]) * 0.05
    x = layers.Lambda(lambda tensor: tensor * 2)(x)
    x = layers.TimeDistributed(layers.Dense(5))(layers.Reshape((1, 5))(x))
    outputs = layers.Dense(4, dtype="float32")(layers.Flatten()(x))
    model = keras.Model(inputs, outputs)
    model.compile("adam", lambda labels, outputs: outputs - labels)
    return model


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_mixed_model_exports_and_agrees(tmp_path, policy):
    model = _mixed(policy)
    assert len(half_precision.half_precision_layers(model)) > 10
    path = export.to_tflite(model, tmp_path / "toy.tflite")
    assert keras.config.dtype_policy().name == policy
    report = export.compare(model, toys.images(), tflite=path)
    assert report["tflite"].max_difference < (1e-2 if policy == "mixed_float16" else 1e-1)


def test_the_copy_is_float32_throughout_and_leaves_the_model_alone():
    model = _mixed("mixed_float16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy = half_precision.as_float32(model)
    assert half_precision.half_precision_layers(copy) == []
    assert not copy.compiled
    assert model.layers[1].compute_dtype == "float16"
    for old, new in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    made_so = _mixed("float32")
    made_so.set_weights(model.get_weights())
    np.testing.assert_allclose(copy(toys.images()), made_so(toys.images()), rtol=1e-6)


def test_a_layer_shared_with_a_nested_model_is_refused(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    inputs, shared = keras.Input((4,)), layers.Dense(4)
    nested = keras.Model(inputs, shared(inputs))
    with pytest.raises(ValueError, match=r"cannot be rebuilt.*set_weights"):
        export.to_tflite(keras.Model(inputs, shared(nested(inputs))), tmp_path / "toy.tflite")


def test_a_float32_model_is_not_copied():
    model = toys.cnn()
    assert half_precision.as_float32(model) is model


def test_a_pure_float16_model_exports_as_float32(tmp_path):
    keras.config.set_dtype_policy("float16")
    inputs = keras.Input((8, 8, 3), dtype="float16")
    model = keras.Model(inputs, layers.Dense(4)(layers.Flatten()(inputs)))
    path = export.to_tflite(model, tmp_path / "toy.tflite")
    outputs = export.run_tflite(path, toys.images())
    assert outputs.dtype == "float32"
    np.testing.assert_allclose(outputs, model(toys.images()), atol=2e-2)


def test_a_model_that_cannot_be_rebuilt_is_refused(tmp_path):
    class NoConfig(keras.Model):
        def __init__(self, model):
            super().__init__(dtype="mixed_float16")
            self.model = model

        def call(self, inputs):
            return self.model(inputs)

        def get_config(self):
            raise NotImplementedError("no configuration")

    model = NoConfig(toys.cnn())
    model(toys.images())
    with pytest.raises(ValueError, match=r"cannot be rebuilt.*no configuration.*set_weights"):
        export.to_tflite(model, tmp_path / "toy.tflite")
    assert keras.config.dtype_policy().name == "float32"
    assert list(tmp_path.iterdir()) == []
