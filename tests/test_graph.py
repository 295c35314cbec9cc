import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm.graph import flat_graph

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 6, 6, 2)).astype("float32")


def inner(name="inner"):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(2, 3, padding="same", name="conv")(inputs)
    return keras.Model(inputs, layers.BatchNormalization(name="norm")(x), name=name)


def nested():
    inputs = keras.Input((6, 6, 2))
    return keras.Model(inputs, layers.Dense(3, name="top")(inner()(inputs * 2)))


def called_twice():
    inputs = keras.Input((6, 6, 2))
    shared = inner()
    return keras.Model(inputs, shared(shared(inputs)[:, ::-1]) + inputs)


def two_deep_in_sequentials():
    block = keras.Sequential([keras.Input((6, 6, 2)), inner()], name="block")
    return keras.Sequential([keras.Input((6, 6, 2)), block, layers.Flatten(name="flat")])


def several_inputs_within():
    a, b = keras.Input((6, 6, 2), name="a"), keras.Input((6, 6, 2), name="b")
    both = keras.Model({"b": b, "a": a}, [layers.Subtract(name="less")([a, b]), a], name="both")
    inputs = keras.Input((6, 6, 2))
    less, same = both({"a": inputs * 3, "b": inputs})
    return keras.Model(inputs, layers.Concatenate(name="join")([less, same]))


@pytest.mark.parametrize(
    ("build", "paths"),
    [
        (nested, {"inner/conv", "inner/norm", "inner", "top"}),
        (called_twice, {"inner/conv", "inner", "inner:2/conv", "inner:2"}),
        (two_deep_in_sequentials, {"block/inner/conv", "block/inner", "block", "flat"}),
        (several_inputs_within, {"both/less", "both", "join"}),
    ],
)
def test_the_graph_computes_what_the_model_does(build, paths):
    model = build()
    everything = model._flatten_layers()
    for layer in everything:
        layer.set_weights([RNG.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    noted = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything]
    flat = flat_graph(model)
    assert paths <= {call.path for call in flat.calls}
    found = keras.Model(flat.inputs, flat.outputs).predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(found, model.predict(IMAGES, verbose=0))
    assert [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything] == noted


def test_inner_outputs_are_those_of_the_layers():
    model = nested()
    backbone = model.get_layer("inner")
    flat = flat_graph(model)
    call = next(call for call in flat.calls if call.path == "inner/conv")
    found = keras.Model(flat.inputs, call.output).predict(IMAGES, verbose=0)
    expected = keras.Model(backbone.input, backbone.get_layer("conv").output)
    np.testing.assert_array_equal(found, expected.predict(IMAGES * 2, verbose=0))


class Own(keras.Model):
    """Adds to a graph what its nodes do not show."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) + 1


def test_a_call_that_is_more_than_its_graph_is_not_entered():
    inputs = keras.Input((6, 6, 2))
    own = Own(inputs, layers.Dense(2, name="within")(inputs), name="own")
    noisy = keras.Sequential([keras.Input((6, 6, 2)), layers.Dropout(0.5)], name="noisy")
    model = keras.Model(inputs, noisy(own(inputs), training=True))
    flat = flat_graph(model)
    assert [call.path for call in flat.calls] == ["own", "noisy"]
    found = keras.Model(flat.inputs, flat.calls[0].output).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, own.predict(IMAGES, verbose=0), rtol=1e-6)
    dropped = keras.Model(flat.inputs, flat.outputs).predict(IMAGES, verbose=0)
    assert 0.2 < (dropped == 0).mean() < 0.8
