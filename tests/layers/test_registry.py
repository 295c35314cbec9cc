import functools

import keras
import pytest

from keras_fmm import layers


@pytest.mark.parametrize("name", layers.GATES)
def test_each_name_gives_a_fresh_gate_named_as_asked(name):
    gate = layers.get_gate(name, name="stage1_attention")
    assert isinstance(gate, layers.GATES[name])
    assert gate.name == "stage1_attention"
    assert gate is not layers.get_gate(name)


def test_every_gate_class_has_a_name():
    gates = {
        value
        for value in vars(layers).values()
        if isinstance(value, type) and issubclass(value, layers.FeatureGate)
    }
    assert set(layers.GATES.values()) == gates - {layers.FeatureGate}


def test_none_is_none():
    assert layers.get_gate(None) is None


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"one of 'squeeze_excite', 'eca',.*attention='se'"):
        layers.get_gate("se")


@pytest.mark.parametrize("attention", [3, layers.CBAM()])
def test_refuses_what_is_neither_name_nor_callable(attention):
    with pytest.raises(TypeError, match="None, a name or a callable without arguments. Received"):
        layers.get_gate(attention)


def test_refuses_a_callable_that_gives_no_layer():
    with pytest.raises(TypeError, match="must return a `keras.layers.Layer`.* which returned 3"):
        layers.get_gate(lambda: 3)


def test_any_fresh_layer_may_stand_in_a_gates_place():
    gate = layers.get_gate(lambda: keras.layers.Dropout(0.5), name="stage1_attention")
    assert gate.name == "stage1_attention"


def test_refuses_a_layer_in_use():
    gate = layers.CBAM()
    gate.build((None, None, None, 4))
    with pytest.raises(ValueError, match="must return a fresh layer at each call"):
        layers.get_gate(lambda: gate)


def test_convolutions_by_name_by_callable_and_plain():
    assert layers.get_convolution(None) is keras.layers.Conv2D
    assert layers.get_convolution("aw") is layers.AWConv2D
    mine = functools.partial(layers.AWConv2D, reduction=2)
    assert layers.get_convolution(mine) is mine


def test_refuses_other_convolutions():
    with pytest.raises(ValueError, match="None, one of 'aw', or a callable. Received: .*'conv'"):
        layers.get_convolution("conv")
    with pytest.raises(TypeError, match=r"that takes what Conv2D takes. Received: convolution=3"):
        layers.get_convolution(3)
    with pytest.raises(TypeError, match="functools.partial"):
        layers.get_convolution(layers.AWConv2D(2, 3))
