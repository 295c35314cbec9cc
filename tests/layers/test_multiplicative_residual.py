import math

import keras
import numpy as np
import pytest

from keras_fmm import layers
from keras_fmm.layers.multiplicative_residual import FORMS


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 3, 5, 1), (3, 4)])
def test_is_the_product(shape):
    branch, shortcut = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
    np.testing.assert_allclose(
        layers.MultiplicativeResidual()([branch, shortcut]), branch * shortcut
    )


@pytest.mark.parametrize(
    ("branch", "shortcut"), [((2, 4, 4, 3), (2, 4, 4, 1)), ((2, 4, 4, 3), (4, 3)), ((2, 3), (1, 3))]
)
def test_refuses_shapes_that_would_broadcast(branch, shortcut):
    message = r"must have one shape. Received: input_shape=.*Project the shortcut"
    inputs = [np.ones(branch), np.ones(shortcut)]
    with pytest.raises(ValueError, match=message):
        layers.MultiplicativeResidual()(inputs)
    layer = layers.MultiplicativeResidual()
    layer.build([(None,) * len(branch)] * 2)
    with pytest.raises(ValueError, match=message):
        layer(inputs)


@pytest.mark.parametrize("form", FORMS)
def test_a_built_layer_refuses_what_a_new_one_does(form):
    inputs, pooled = keras.Input((4, 4, 3)), keras.Input((1, 1, 3))
    layer = made(form)
    layer([inputs, inputs])
    with pytest.raises(ValueError, match=r"must have one shape"):
        layer([inputs, pooled])
    with pytest.raises(ValueError, match=r"must have one shape"):
        layer.compute_output_shape([(None, 4, 4, 3), (None, 1, 1, 3)])
    # What its rows would be taken for.
    with pytest.raises(ValueError, match=r"called on a list of two tensors"):
        layer(np.ones((2, 4, 4, 3), "float32"))
    with pytest.raises(ValueError, match=r"called on a list of two tensors"):
        layer([np.ones((2, 4, 4, 3), "float32"), None])
    # One position beside sizes that are not known, as in a block of global context.
    with pytest.raises(ValueError, match=r"1 beside a size that is not known .* known sizes"):
        made(form)([keras.Input((None, None, 3)), pooled])


@pytest.mark.parametrize("form", ["centered", "linear", "sum_product"])
@pytest.mark.parametrize(("built", "called"), [(3, 1), (1, 3), (3, 5)])
def test_weights_are_of_the_channels_they_were_built_for(form, built, called):
    layer = made(form)
    layer.build([(None, 4, 4, built)] * 2)
    inputs = [np.ones((2, 4, 4, called), "float32")] * 2
    with pytest.raises(ValueError, match=f"as many channels. Received: .* for {built} channels"):
        layer(inputs)
    with pytest.raises(ValueError, match="as many channels"):
        layer([keras.Input((4, 4, called))] * 2)


def test_unknown_sizes_may_turn_out_equal():
    a, b = keras.Input((None, 4, 3)), keras.Input((4, None, 3))
    model = keras.Model([a, b], layers.MultiplicativeResidual()([a, b]))
    x = np.full((1, 4, 4, 3), 2.0, "float32")
    np.testing.assert_array_equal(model([x, x]), x * x)


@pytest.mark.parametrize("inputs", [[np.ones((1, 2))] * 3, [np.ones((1, 2))], np.ones((2, 2))])
def test_refuses_anything_but_two_tensors(inputs):
    with pytest.raises(ValueError, match=r"called on a list of two tensors, \[branch, shortcut\]"):
        layers.MultiplicativeResidual()(inputs)


def test_multiply_adds_by_hand():
    assert layers.MultiplicativeResidual().multiply_adds([(None, 3, 5, 8)] * 2) == 120


def by_entry(form, branch, shortcut, scale, depth):
    """Returns what the forms' equations give, entry by entry."""
    outputs = np.empty(branch.shape)
    for index in np.ndindex(branch.shape):
        f, x, a = float(branch[index]), float(shortcut[index]), float(scale[index[-1]])
        outputs[index] = {
            "product": f * x,
            "centered": x * (1 + a * math.tanh(f)),
            "linear": x * (1 + a * f),
            "exponential": x * math.exp(math.tanh(f) / math.sqrt(depth)),
            "scaled": x * (1 + math.tanh(f) / math.sqrt(depth)),
            "sum_product": x + f * (1 + a * x),
        }[form]
    return outputs


def made(form, **arguments):
    depth = 7 if form in ("exponential", "scaled") else None
    return layers.MultiplicativeResidual(form, depth=depth, **arguments)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4)])
def test_each_form_is_its_equation(form, shape):
    rng = np.random.default_rng(2)
    branch, shortcut = (3 * rng.normal(size=(2, *shape))).astype("float32")
    scale = rng.normal(size=shape[-1]).astype("float32")
    layer = made(form)
    layer.build([shape, shape])
    layer.set_weights([scale] * len(layer.weights))
    outputs = keras.ops.convert_to_numpy(layer([branch, shortcut]))
    expected = by_entry(form, branch, shortcut, scale, 7)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    if len(shape) == 4:
        first = made(form, data_format="channels_first")
        pair = [np.moveaxis(x, -1, 1) for x in (branch, shortcut)]
        first.build([pair[0].shape] * 2)
        first.set_weights(layer.get_weights())
        found = keras.ops.convert_to_numpy(first(pair))
        np.testing.assert_allclose(np.moveaxis(found, 1, -1), outputs, rtol=1e-6)


def test_how_the_forms_start():
    branch, shortcut = np.random.default_rng(3).normal(size=(2, 2, 3, 3, 4)).astype("float32")
    for form in ("centered", "linear"):
        np.testing.assert_array_equal(made(form)([branch, shortcut]), shortcut)
    layer = made("sum_product")
    np.testing.assert_array_equal(layer([branch, shortcut]), branch + shortcut)
    layer.scale.assign(np.ones(4))
    layer.start_as_sum()
    np.testing.assert_array_equal(layer([branch, shortcut]), branch + shortcut)
    with pytest.raises(ValueError, match=r"alone can be the sum. Received: form='linear'"):
        made("linear").start_as_sum()
    with pytest.raises(ValueError, match="Only a built MultiplicativeResidual .* Received: one wi"):
        made("sum_product").start_as_sum()


@pytest.mark.parametrize("form", ["exponential", "scaled"])
def test_depth_bounds_the_growth_of_a_chain(form):
    layer, x = layers.MultiplicativeResidual(form, depth=50), np.float32([[1.0, -1.0]])
    for _ in range(50):
        x = layer([np.full((1, 2), 1e6, "float32"), x])
    assert 1 < np.abs(x).max() <= math.exp(math.sqrt(50)) * (1 + 1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"form": "sum"}, ValueError, "`form` must be one of 'product', 'centered'"),
        ({"form": ["product"]}, ValueError, "`form` must be one of"),
        (
            {"form": "scaled"},
            ValueError,
            "`depth`.*must be given .*Received: form='scaled', depth=None. Give",
        ),
        ({"form": "centered", "depth": 3}, ValueError, "`depth` must be left out but for"),
        ({"form": "scaled", "depth": 0}, ValueError, "`depth` must be a positive integer"),
        ({"form": "scaled", "depth": 2.0}, TypeError, "`depth` must be a positive integer"),
        ({"data_format": "last"}, ValueError, "data_format"),
    ],
)
def test_refuses_other_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        layers.MultiplicativeResidual(**arguments)


def test_weights_need_the_channels():
    unknown = [keras.Input((4, 4, None))] * 2
    with pytest.raises(ValueError, match="their number must be known. Received: input_shape"):
        made("centered")(unknown)
    with pytest.raises(ValueError, match="must have an axis of them beside the batch. Received"):
        made("sum_product")([np.ones(4), np.ones(4)])
    np.testing.assert_array_equal(made("product")([np.full(4, 2.0), np.full(4, 3.0)]), [6.0] * 4)
    assert made("scaled")(unknown).shape == (None, 4, 4, None)
    assert made("linear").multiply_adds([(None, 3, 5, 8)] * 2) == 240
