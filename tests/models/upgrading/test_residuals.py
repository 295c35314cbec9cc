"""Residuals in the place of a model's sums: which, in which order, and how they start."""

import functools

import keras
import numpy as np
import pytest
from keras import layers as kl

from keras_fmm import layers, models
from tests.support.own_layers import Bent
from tests.support.weights import enliven


def conv(name, filters=4, size=3):
    return kl.Conv2D(filters, size, padding="same", name=name)


@pytest.fixture(scope="module")
def model():
    """A sum of each kind: as a layer, bare, in a nested model, with a projection; and others."""
    inputs = keras.Input((6, 6, 3), name="image")
    stem = conv("stem")(inputs)
    x = kl.Add(name="first")([stem, conv("branch1")(stem)])
    x = conv("branch2")(x) + x
    inside = keras.Input((None, None, 4))
    nested = kl.Add(name="inner")([conv("branch3")(inside), inside])
    x = keras.Model(inside, nested, name="nested")(x)
    projected = kl.Add(name="projected")(
        [conv("short", 8, 1)(x), kl.ReLU(name="end4")(conv("branch4", 8)(x))]
    )
    x = kl.Add(name="three")([projected, conv("a", 8)(projected), conv("b", 8)(projected)])
    x = kl.Add(name="equal")([conv("c", 8)(x), conv("d", 8)(x)])
    x = kl.Multiply(name="product")([x, conv("e", 8)(x)])
    outputs = kl.GlobalAveragePooling2D(name="pool")(x) + 1.0
    return enliven(keras.Model(inputs, outputs))


def bare_sum(model):
    bare = [operation.name for operation in model.operations if not isinstance(operation, kl.Layer)]
    return bare[0]


def bent(model):
    return {layer.name for layer in model._flatten_layers() if isinstance(layer, Bent)}


def images(model):
    return np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")


def test_by_default_every_sum_of_a_branch_and_its_shortcut(model):
    upgraded = models.upgrade(model, residual=Bent)
    assert bent(upgraded) == {"first", bare_sum(model), "inner", "projected"}
    np.testing.assert_allclose(upgraded(images(model)), model(images(model)), atol=1e-4)
    assert {"three", "equal"} <= {layer.name for layer in upgraded.layers}


def test_the_branch_comes_first_whatever_the_order_of_the_sum(model):
    upgraded = models.upgrade(model, residual=Bent)
    for name, branch in (
        ("first", "branch1"),
        (bare_sum(model), "branch2"),
        ("projected", "end4"),
    ):
        assert upgraded.get_layer(name).input[0]._keras_history.operation.name == branch
    inner = upgraded.get_layer("nested").get_layer("inner")
    assert inner.input[0]._keras_history.operation.name == "branch3"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["first"], {"first"}),
        (["nested/inner"], {"inner"}),
        (lambda operation: operation.name != "first", {"BARE", "inner", "projected"}),
    ],
)
def test_names_paths_and_predicates(model, where, expected):
    upgraded = models.upgrade(model, residual=Bent, residual_where=where)
    assert bent(upgraded) == {bare_sum(model) if x == "BARE" else x for x in expected}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stem", "which is of class Conv2D and no sum"),
        ("product", "which is of class Multiply and no sum"),
        ("three", "which sums 3 tensors, not two"),
        ("equal", "which sums no branch with weights and a shorter shortcut"),
    ],
)
def test_refuses_what_is_no_such_sum(model, name, reason):
    with pytest.raises(ValueError, match=f"'{name}', {reason}"):
        models.upgrade(model, residual=Bent, residual_where=[name])


def test_refuses_where_there_are_none(model):
    plain = models.ToyCNN(input_shape=(8, 8, 3))
    with pytest.raises(ValueError, match="of a model with no sums of a residual branch and its"):
        models.upgrade(plain, residual=Bent)
    with pytest.raises(ValueError, match=r"Received: residual_where=\[\].* 4 Add, such as 'first'"):
        models.upgrade(model, residual=Bent, residual_where=[])
    with pytest.raises(ValueError, match="`residual_where` says where `residual` goes"):
        models.upgrade(model, attention="eca", residual_where=["first"])


class Primed(Bent):
    """Is the sum only when told so."""

    def build(self, input_shape):
        super().build(input_shape)
        self.bend.assign(np.ones(input_shape[0][-1]))

    def start_as_sum(self):
        self.bend.assign(np.zeros(self.bend.shape))


def test_a_residual_starts_as_the_sum_or_is_refused(model):
    upgraded = models.upgrade(model, residual=Primed, residual_where=["first"])
    np.testing.assert_allclose(upgraded(images(model)), model(images(model)), atol=1e-4)
    with pytest.raises(ValueError, match=r"in the place of 'first', whose.*`start_as_sum\(\)`"):
        models.upgrade(model, residual=kl.Subtract)
    with pytest.raises(ValueError, match=r"have the shape \(None, 6, 6, 4\).*gives .*6, 6, 8\)"):
        models.upgrade(model, residual=kl.Concatenate)
    with pytest.raises(ValueError, match="`residual` must be .*'add', 'multiply'"):
        models.upgrade(model, residual="sum")
    with pytest.raises(TypeError, match="`residual` must be a name or a callable"):
        models.upgrade(model, residual=kl.Add())


def test_sums_become_products_that_start_as_them(model):
    residual = functools.partial(layers.MultiplicativeResidual, "sum_product")
    upgraded = models.upgrade(model, residual=residual)
    np.testing.assert_allclose(upgraded(images(model)), model(images(model)), atol=1e-4)
    added = {x.name for x in upgraded._flatten_layers() if hasattr(x, "form")}
    assert added == {"first", bare_sum(model), "inner", "projected"}
    for other in (
        "multiply",
        layers.MultiplicativeResidual,
        functools.partial(residual.func, "centered"),
    ):
        with pytest.raises(ValueError, match="At 'first': .*\"sum_product\" alone can be the sum"):
            models.upgrade(model, residual=other)


def test_a_shared_sum_stays_shared():
    inputs = keras.Input((6, 6, 4))
    add = kl.Add(name="add")
    x = add([conv("one")(inputs), inputs])
    model = enliven(keras.Model(inputs, add([conv("two")(x), x])))
    upgraded = models.upgrade(model, residual=Bent)
    assert len(upgraded.get_layer("add")._inbound_nodes) == 2
    upgraded.get_layer("add").bend.assign([1.0] * 4)
    x = expected = images(model)
    for name in ("one", "two"):
        branch = np.asarray(model.get_layer(name)(expected))
        expected = expected + branch * (1 + expected)
    np.testing.assert_allclose(upgraded(x), expected, rtol=1e-3, atol=1e-3)


def test_half_precision_and_a_gate_at_the_branchs_end():
    keras.config.set_dtype_policy("mixed_float16")
    inputs = keras.Input((6, 6, 4))
    outputs = kl.Add(name="sum")([inputs, conv("branch")(inputs)])
    keras.config.set_dtype_policy("float32")
    upgraded = models.upgrade(keras.Model(inputs, outputs), attention="eca", residual=Bent)
    merged = upgraded.get_layer("sum")
    assert merged.dtype_policy.name == "mixed_float16"
    assert merged.input[0] is upgraded.get_layer("branch_attention").output


@pytest.mark.parametrize("channels", [(6, 1), (1, 6), (4, 6)])
def test_a_sum_of_several_channels_is_left_out(channels):
    add, x = kl.Add(name="add"), keras.Input((6, 6, 3))
    inputs = x
    for count in channels:
        x = conv(f"short{count}", count)(x)
        x = add([conv(f"branch{count}", count)(x), x])
    last = kl.Add(name="last")([conv("branch", channels[1])(x), x])
    model = enliven(keras.Model(inputs, last))
    residual = functools.partial(layers.MultiplicativeResidual, "sum_product")
    upgraded = models.upgrade(model, residual=residual)
    assert isinstance(upgraded.get_layer("add"), kl.Add)
    np.testing.assert_allclose(upgraded(images(model)), model(images(model)), atol=1e-4)
    low, high = sorted(channels)
    with pytest.raises(ValueError, match=f"'add', which gives maps of {low} and {high} channels"):
        models.upgrade(model, residual=residual, residual_where=["add"])


def test_one_position_beside_sizes_that_are_not_known_is_no_shortcut():
    inputs = keras.Input((None, None, 3))
    x = conv("stem")(inputs)
    pooled = conv("context", size=1)(kl.GlobalAveragePooling2D(keepdims=True)(x))
    x = kl.Add(name="context_sum")([x, pooled])
    model = enliven(keras.Model(inputs, kl.Add(name="sum")([conv("branch")(x), x])))
    upgraded = models.upgrade(model, residual=Bent)
    assert bent(upgraded) == {"sum"}
    with pytest.raises(ValueError, match="'context_sum', which sums no branch .* same shape"):
        models.upgrade(model, residual=Bent, residual_where=["context_sum"])


@pytest.mark.parametrize("order", [1, -1])
def test_a_bare_sum_keeps_its_dtype(order):
    inputs = keras.Input((6, 6, 3))
    shortcut = kl.Conv2D(4, 3, padding="same", dtype="float32")(inputs)
    branch = kl.Conv2D(4, 3, padding="same", dtype="mixed_float16")(shortcut)
    first, second = [branch, shortcut][::order]
    model = enliven(keras.Model(inputs, first + second))
    residual = functools.partial(layers.MultiplicativeResidual, "sum_product")
    upgraded = models.upgrade(model, residual=residual)
    assert upgraded.output.dtype == model.output.dtype == "float32"
    np.testing.assert_allclose(upgraded(images(model)), model(images(model)), atol=1e-4)


def test_the_regularizer_of_a_sum_is_kept():
    inputs = keras.Input((6, 6, 4))
    outputs = kl.Add(activity_regularizer="l2")([conv("branch")(inputs), inputs])
    model = enliven(keras.Model(inputs, outputs))
    upgraded = models.upgrade(model, residual=Bent)
    for either in (model, upgraded):
        either(images(model))
    assert float(upgraded.losses[0]) == pytest.approx(float(model.losses[0]), rel=1e-4)
