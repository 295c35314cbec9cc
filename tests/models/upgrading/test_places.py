"""Choosing layers by name and predicate, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers as kl

from keras_fmm import layers, models


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((8, 8, 4), name="image")
    inside = keras.Input((8, 8, 4), name="inside")
    x = kl.Conv2D(4, 3, padding="same", name="conv")(inside)
    nested = keras.Model(inside, kl.ReLU(name="relu")(x), name="nested")
    x = kl.Conv2D(4, 3, padding="same", name="conv")(inputs)
    x = kl.ReLU(name="only_here")(nested(kl.ReLU(name="relu")(x)))
    x = kl.Conv2D(4, 3, groups=2, name="grouped")(x)
    x = kl.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.AWConv2D(4, 1, name="aw")(x)
    x = OwnConv2D(4, 1, name="own")(x)
    loras = kl.Conv2D(4, 1, name="lora")
    x = loras(x)
    loras.enable_lora(2)
    lists = Twice(name="twice")(x)
    x = kl.Flatten(name="flat")(lists[0])
    whole = keras.ops.cast(lists[1], "int32")
    model = keras.Model(inputs, [kl.Dense(2, name="dense")(x), whole], name="whole")
    model.whole_name = whole._keras_history.operation.name
    return model


class OwnConv2D(kl.Conv2D):
    pass


class Twice(kl.Layer):
    def call(self, inputs):
        return [inputs, inputs * 2.0]


def found(model, where):
    """The gates by path."""
    upgraded = models.upgrade(model, attention="eca", attention_where=where)
    nested = upgraded.get_layer("nested")
    names = {layer.name for layer in upgraded.layers}
    names |= {f"nested/{layer.name}" for layer in nested.layers}
    return {name for name in names if name.endswith("_attention")}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["only_here"], {"only_here_attention"}),
        (("only_here", "depthwise", "only_here"), {"only_here_attention", "depthwise_attention"}),
        (np.array(["only_here"]), {"only_here_attention"}),
        (["nested/conv"], {"nested/conv_attention"}),
        (["/conv", "nested/relu"], {"conv_attention", "nested/relu_attention"}),
        (["nested"], {"nested_attention"}),
        (
            lambda layer: isinstance(layer, kl.ReLU),
            {"relu_attention", "nested/relu_attention", "only_here_attention"},
        ),
    ],
)
def test_names_paths_and_predicates(model, where, expected):
    assert found(model, where) == expected


def test_predicates_are_called_once_on_what_can_be_chosen(model):
    seen = []
    models.upgrade(
        model,
        attention="eca",
        attention_where=lambda layer: seen.append(layer.name) or True,
    )
    # Not an input, a nested model, an operation, several outputs or another rank.
    once = ["aw", "conv", "conv", "depthwise", "grouped", "lora", "only_here", "own", "relu"]
    assert sorted(seen) == [*once, "relu"]
    seen.clear()
    models.upgrade(
        model,
        convolution="aw",
        convolution_where=lambda layer: seen.append(layer.name) or True,
    )
    assert seen == ["conv", "conv"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            ["grouped"],
            r"keras.layers.Conv2D with groups=1. Received: 'grouped', which has groups=2",
        ),
        (["depthwise"], "'depthwise', which is of class DepthwiseConv2D. Leave it out"),
        (["own"], "'own', which is of class OwnConv2D, which may compute something else"),
        (["aw"], "'aw', which is an AWConv2D already"),
        (["lora"], "'lora', which has LoRA enabled"),
        (["dense"], "'dense', which is of class Dense. Leave"),
        (["nested"], "'nested', which is of class Functional"),
        (["conv"], "'conv', which stands for several .* one of the paths '/conv', 'nested/conv'"),
        (["cnv"], "convolution_where='cnv', which is none of the model 'whole'. Near it: '/conv'"),
        (["nested/cnov"], "Near it: 'nested/conv'"),
        (["zzz"], r"Its last layers are .*'/dense'\.$"),
        (["/nested"], "'nested', which is of class Functional"),
        (["nested.relu"], "'nested/relu', which is of class ReLU"),
        (["nested/conv:2"], "Of this layer it takes 'nested/conv'"),
        (["nested/conv/"], "which is none of .* Near it: 'nested/conv'"),
        ([""], "convolution_where='', which is none of"),
        ([], r"must choose at least one layer. Received: convolution_where=\[\], of a model with"),
        (lambda layer: False, "must choose at least one layer"),
    ],
)
def test_refuses_convolutions(model, where, message):
    with pytest.raises(ValueError, match=message):
        models.upgrade(model, convolution="aw", convolution_where=where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (["image"], "one float output of rank 4. Received: 'image', which is an input"),
        (["inside"], "'inside', which is none of the model"),
        (["twice"], "'twice', which has 2 outputs"),
        (["flat"], r"'flat', which gives float32 of shape \(None, 64\)"),
        (["relu"], r"paths '/relu', 'nested/relu'"),
        ([], r"these feature maps: .*4 Conv2D, such as"),
    ],
)
def test_refuses_gates(model, where, message):
    with pytest.raises(ValueError, match=message):
        models.upgrade(model, attention="eca", attention_where=where)
    with pytest.raises(ValueError, match=r"which gives int32 of shape"):
        models.upgrade(model, attention="eca", attention_where=[model.whole_name])


@pytest.mark.parametrize("where", ["conv", 3, [1], [None], b"conv"])
def test_refuses_other_types(model, where):
    with pytest.raises(TypeError, match="must be None, a list of layer names or a function"):
        models.upgrade(model, attention="eca", attention_where=where)


def test_nothing_to_choose_by_default():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(2)(inputs))
    with pytest.raises(ValueError, match="which takes the default, of a model with no feature ma"):
        models.upgrade(model, attention="eca")
    with pytest.raises(ValueError, match="of a model with no convolutions"):
        models.upgrade(model, convolution="aw")


def test_a_layer_of_two_paths_is_one():
    shared = kl.Conv2D(4, 3, padding="same", name="shared")
    one, two, inputs = (keras.Input((8, 8, 4)) for _ in range(3))
    first = keras.Model(one, shared(one), name="first")
    second = keras.Model(two, shared(two), name="second")
    model = keras.Model(inputs, second(first(inputs)))
    for name in ("shared", "first/shared", "second/shared"):
        upgraded = models.upgrade(model, attention="eca", attention_where=[name])
        gates = [upgraded.get_layer(x).get_layer("shared_attention") for x in ("first", "second")]
        assert gates[0] is gates[1]


@pytest.mark.parametrize("where", [lambda: True, lambda layer, name: True])
def test_a_predicate_is_of_one_layer(model, where):
    message = (
        r"`attention_where` as a function must be of one argument, a layer. Received: .* takes"
    )
    with pytest.raises(TypeError, match=message):
        models.upgrade(model, attention="eca", attention_where=where)
