"""Layers that are hard to make again, beside the ones that get attention."""

import functools

import keras
import numpy as np
import pytest
from keras import layers as kl

from keras_fmm import models
from tests.models.upgrading.test_upgrade import assert_same_outputs
from tests.support.weights import enliven


def with_layer(layer):
    """A convolution with a gate to come, and behind it the layer."""
    inputs = keras.Input((6, 6, 4))
    x = kl.Conv2D(4, 3, padding="same", name="conv")(inputs)
    return enliven(keras.Model(inputs, layer(x)))


def upgrade(model):
    return models.upgrade(model, attention="eca", attention_where=["conv"])


OFFSET = 0.25


def shifted(x):
    return x + OFFSET


class Unregistered(kl.Layer):
    """Without `get_config`: Keras takes the constructor's arguments."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.inner = kl.Dense(3, activation=shifted, name="inner")
        self.inner.build(input_shape)

    def call(self, inputs):
        return self.inner(inputs) * self.factor

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 3)


class Holder(kl.Wrapper):
    def call(self, inputs):
        return self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


def closure():
    power = 3.0
    return lambda x, scale: keras.ops.tanh(x) * OFFSET + power * scale


LAYERS = {
    "unregistered": lambda: Unregistered(2.0),
    "wrapped unregistered": lambda: Holder(Unregistered(2.0)),
    "wrapped by Keras": lambda: kl.TimeDistributed(Unregistered(2.0)),
    "lambda with a closure": lambda: kl.Lambda(closure(), arguments={"scale": 0.5}),
    "lambda of a function": lambda: kl.Lambda(shifted, output_shape=(6, 6, 4)),
    "own activation": lambda: kl.Dense(3, activation=shifted),
    "model in a wrapper": lambda: kl.TimeDistributed(
        keras.Sequential([keras.Input((6, 4)), kl.Conv1D(3, 2), kl.BatchNormalization()])
    ),
    "subclassed model": lambda: SubclassedHead(),
    "attention with several weights": lambda: kl.ConvLSTM1D(2, 3),
    "a Sequential that overrides call": lambda: Overridden([keras.Input((6, 6, 4)), kl.Dense(2)]),
}


class SubclassedHead(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = kl.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


class Overridden(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs) * 2.0


@pytest.mark.parametrize("name", LAYERS)
def test_made_again_with_the_same_outputs(name):
    model = with_layer(LAYERS[name]())
    upgraded = upgrade(model)
    assert_same_outputs(upgraded, model)
    assert [layer.name for layer in model.layers[1:]] == [
        layer.name for layer in upgraded.layers[1:] if layer.name != "conv_attention"
    ]


class Halved(keras.Operation):
    """Without an argument `name`."""

    def __init__(self, factor=0.5):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_bare_operations_keep_their_names():
    inputs = keras.Input((6, 6, 4))
    x = kl.Conv2D(4, 3, padding="same", name="conv")(inputs)
    x = keras.ops.pad(Halved()(x)[:, 1:], ((0, 0), (1, 0), (0, 0), (0, 0)))
    x = keras.ops.concatenate([x, keras.ops.cast(x > 0, "float32")], axis=-1)
    model = enliven(keras.Model(inputs, keras.ops.mean(x, axis=-1) + np.ones((1, 6, 6), "float32")))
    upgraded = upgrade(model)
    names = [operation.name for operation in upgraded.operations]
    names.remove("conv_attention")
    assert names == [operation.name for operation in model.operations]
    assert_same_outputs(upgraded, model)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_quantized_layers_elsewhere(policy):
    dense = kl.Dense(8, name="dense", dtype=policy)
    model = with_layer(dense)
    dense.quantize("int8")
    upgraded = upgrade(model)
    assert upgraded.get_layer("dense").quantization_mode == "int8"
    assert_same_outputs(upgraded, model)
    gated = models.upgrade(model, attention="squeeze_excite", attention_where=["dense"])
    assert gated.get_layer("dense_attention").dtype_policy.name == policy
    assert_same_outputs(gated, model)


def test_lora_elsewhere():
    dense = kl.Dense(8, name="dense")
    model = with_layer(dense)
    dense.enable_lora(2)
    enliven(model)
    upgraded = upgrade(model)
    assert_same_outputs(upgraded, model)
    copy = upgraded.get_layer("dense")
    trainable = {variable.name for variable in copy.trainable_variables}
    assert trainable == {"bias", "lora_kernel_a", "lora_kernel_b"}


def test_sub_layers_and_variables_frozen_by_themselves():
    wrapped = kl.TimeDistributed(kl.BatchNormalization(), name="wrapped")
    model = with_layer(wrapped)
    wrapped.layer.trainable = False
    model.get_layer("conv").bias.trainable = False
    upgraded = upgrade(model)
    assert upgraded.get_layer("wrapped").trainable
    assert not upgraded.get_layer("wrapped").layer.trainable
    assert not upgraded.get_layer("conv").bias.trainable
    assert upgraded.get_layer("conv").kernel.trainable


def test_normalization_that_was_adapted():
    normalization = kl.Normalization(name="normalization")
    model = with_layer(normalization)
    normalization.adapt(np.random.default_rng(0).normal(3.0, 2.0, size=(9, 6, 6, 4)))
    assert_same_outputs(upgrade(model), model)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="strings need TensorFlow")
def test_vocabularies():
    words = keras.Input((1,), dtype="string")
    image = keras.Input((6, 6, 4))
    lookup = kl.StringLookup(name="lookup")
    lookup.adapt([["cat"], ["dog"]])
    known = kl.Embedding(4, 3)(lookup(words))
    x = kl.Conv2D(3, 3, padding="same", name="conv")(image)
    x = kl.GlobalAveragePooling2D()(x)
    model = enliven(keras.Model([words, image], kl.Flatten()(known) * x))
    upgraded = upgrade(model)
    strings = keras.ops.convert_to_tensor([["dog"], ["cow"]], "string")
    inputs = [strings, keras.ops.ones((2, 6, 6, 4))]
    np.testing.assert_allclose(upgraded(inputs), model(inputs), atol=1e-5)


def test_masks():
    words, image = keras.Input((5,), dtype="int32"), keras.Input((6, 6, 4))
    x = kl.LSTM(4)(kl.Embedding(7, 3, mask_zero=True)(words))
    features = kl.GlobalAveragePooling2D()(kl.Conv2D(4, 3, name="conv")(image))
    model = enliven(keras.Model([words, image], kl.Add()([x, features])))
    inputs = [np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 1]]), np.ones((2, 6, 6, 4), "float32")]
    np.testing.assert_allclose(upgrade(model)(inputs), model(inputs), atol=1e-5)


def test_seeds_of_dropout_go_with_it():
    # PyTorch draws from its one generator where no seed is given.
    model = with_layer(kl.Dropout(0.5, seed=1))
    x = np.ones((2, 6, 6, 4), "float32")
    model(x, training=True)
    upgraded = upgrade(model)
    for _ in range(2):
        expected = np.asarray(model(x, training=True))
        assert (expected == 0).any()
        np.testing.assert_allclose(upgraded(x, training=True), expected, atol=1e-6)


class NoConfig(kl.Layer):
    def __init__(self, values, **kwargs):
        super().__init__(**kwargs)
        self.values = values

    def call(self, inputs):
        return inputs * self.values


class WrongConfig(kl.Layer):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units))

    def call(self, inputs):
        return inputs @ self.kernel

    def get_config(self):
        return super().get_config() | {"units": 2}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            lambda: NoConfig(np.ones(4, "float32"), name="odd"),
            "'odd' of class NoConfig, which it c",
        ),
        (lambda: WrongConfig(3, name="odd"), r"'odd' of class WrongConfig, with .*\(4, 3\)"),
    ],
)
def test_refuses_layers_that_cannot_be_made_again(layer, message):
    with pytest.raises(ValueError, match=message):
        upgrade(with_layer(layer()))


def doubled(x):
    return 2 * x


class Doubler:
    def double(self, x):
        return 2 * x

    __call__ = double


NAMELESS = [
    lambda x: 2 * x,
    functools.partial(doubled),
    Doubler(),
    Doubler().double,
    np.tanh,
]


def test_a_function_without_a_name_is_found_in_a_wrapped_layer():
    model = with_layer(kl.TimeDistributed(kl.Dense(4, activation=doubled), name="odd"))
    model.get_layer("odd").layer.activation = np.tanh
    with pytest.raises(ValueError, match="'odd' of class TimeDistributed with activation=<ufunc"):
        upgrade(model)


@pytest.mark.parametrize("nameless", NAMELESS, ids=type)
@pytest.mark.parametrize("argument", [{"convolution": "aw"}, {"attention": "eca"}], ids=str)
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_function_without_a_name_is_refused_and_the_cure_cures(nameless, argument):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="stem")(inputs)
    x = keras.layers.Conv2D(4, 3, activation=doubled, name="conv")(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    # Keras cannot call what is NumPy's in making a model, only afterwards.
    model.get_layer("conv").activation = nameless
    message = "'conv' of class Conv2D with activation=.*, which Keras finds by no name. Give"
    with pytest.raises(ValueError, match=message):
        models.upgrade(model, **argument)
    model.get_layer("conv").activation = doubled
    images = np.random.default_rng(0).random((2, 8, 8, 3), "float32")
    upgraded = models.upgrade(model, **argument)
    np.testing.assert_allclose(upgraded(images), model(images), atol=1e-5)
