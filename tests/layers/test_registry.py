import functools

import keras
import pytest

from keras_fmm import layers


class Own(keras.layers.Layer):
    """A layer that may stand in any role."""

    def __init__(self, filters=None, kernel_size=None, strides=1, padding="same", **kwargs):
        kwargs.pop("use_bias", None)
        super().__init__(**kwargs)


CONVOLUTION = {
    "filters": 64,
    "kernel_size": 3,
    "strides": 1,
    "padding": "same",
    "use_bias": False,
    "name": "mine",
}
# How each role's callable is asked for a layer, and what it is called with.
ROLES = {
    "attention": (lambda choice: layers.get_gate(choice, name="mine"), ()),
    "block": (lambda choice: layers.get_block(choice, name="mine"), ()),
    "convolution": (lambda choice: layers.get_convolution(choice)(**CONVOLUTION), CONVOLUTION),
    "residual": (lambda choice: layers.get_residual(choice, name="mine"), ("name",)),
}
every_role = pytest.mark.parametrize("role", ROLES)


def asked(role, choice):
    return ROLES[role][0](choice)


NAMES = [
    *(("attention", name, kind) for name, kind in layers.GATES.items()),
    *(("convolution", name, kind) for name, kind in layers.CONVOLUTIONS.items()),
    *(("residual", name, kind) for name, kind in layers.RESIDUALS.items()),
    *(("block", name, kind) for name, kind in layers.BLOCKS.items()),
]


@pytest.mark.parametrize(("role", "name", "kind"), NAMES)
def test_each_name_gives_a_fresh_layer_named_as_asked(role, name, kind):
    layer = asked(role, name)
    # A name may stand for a class with an argument of its own.
    assert type(layer) is getattr(kind, "func", kind)
    for argument, value in getattr(kind, "keywords", {}).items():
        assert getattr(layer, argument) == value
    assert layer.name == "mine"
    assert layer is not asked(role, name)


def test_short_names_are_of_names_that_are_known():
    assert set(layers.SHORT_NAMES) <= {*layers.GATES, *layers.CONVOLUTIONS}
    assert len(set(layers.SHORT_NAMES.values())) == len(layers.SHORT_NAMES)


def test_none_is_none_or_plain():
    assert layers.get_gate(None) is None
    assert layers.get_block(None) is None
    assert layers.get_convolution(None) is keras.layers.Conv2D
    with pytest.raises(TypeError, match="`residual` must be a name or a callable taking `name"):
        layers.get_residual(None)


@pytest.mark.parametrize("name", ["a/b", 3])
@pytest.mark.parametrize("get", [layers.get_gate, layers.get_residual])
def test_a_name_is_one_that_keras_takes(get, name):
    with pytest.raises(ValueError, match="`name` must be .*str"):
        get("eca" if get is layers.get_gate else "multiply", name)


@every_role
def test_any_fresh_layer_may_stand_in_a_roles_place(role):
    assert asked(role, Own).name == "mine"
    assert asked(role, functools.partial(Own, trainable=False)).trainable is False
    # Without weights a layer is built from the start.
    drop = asked(role, lambda name=None, **_: keras.layers.Dropout(0.5, name=name))
    assert drop.name == "mine"


KNOWN = {
    "attention": "None, one of 'squeeze_excite', 'eca',.*, or a callable without arguments that",
    "block": "None, a callable without arguments that returns",
    "convolution": "None, one of 'aw', .*, or a callable taking what Conv2D takes that returns",
    "residual": "one of 'add', 'multiply', .*, or a callable taking `name` that returns",
}


@every_role
def test_unknown_names_list_the_known(role):
    message = rf"`{role}` must be {KNOWN[role]}.* a layer. Received: {role}='se'. .*[Gg]ive "
    with pytest.raises(ValueError, match=message):
        asked(role, "se")


@every_role
@pytest.mark.parametrize("choice", [3, layers.CBAM(), ["eca"]])
def test_refuses_what_is_neither_name_nor_callable(role, choice):
    message = rf"`{role}` must be .*a name or a callable .*\. Received: {role}=.*\. .*[Gg]ive "
    with pytest.raises(TypeError, match=message):
        asked(role, choice)


@every_role
@pytest.mark.parametrize("wrong", [3, None, Own, [Own()]])
def test_refuses_a_callable_that_gives_no_layer(role, wrong):
    message = rf"given as `{role}` must return a `keras.layers.Layer`. Received: .* which returned "
    with pytest.raises(TypeError, match=message):
        asked(role, lambda **_: wrong)


@every_role
def test_refuses_a_callable_that_takes_something_else(role):
    given = "".join(f".*{name}" for name in ROLES[role][1])
    message = (
        rf"given as `{role}` must be one .*which cannot be called w{given}.*: it takes \(x, \*\*_\)"
    )
    with pytest.raises(TypeError, match=message):
        asked(role, lambda x, **_: Own())


@every_role
@pytest.mark.parametrize(
    ("error", "kind"), [(ValueError, ValueError), (TypeError, TypeError), (KeyError, ValueError)]
)
def test_says_which_callable_raised_what(role, error, kind):
    def broken(**_):
        raise error("`reduction` is odd")

    message = rf"{role}=<function .*broken.* raised {error.__name__}: .*`reduction` is odd"
    with pytest.raises(kind, match=message) as raised:
        asked(role, broken)
    assert isinstance(raised.value.__cause__, error)


@every_role
def test_refuses_the_same_layer_again(role):
    layer = Own()
    asked(role, lambda **_: layer)
    message = rf"given as `{role}` must return a fresh layer at each call. .* {layer.name!r} again"
    with pytest.raises(ValueError, match=message):
        asked(role, lambda **_: layer)


@every_role
def test_refuses_a_layer_in_use(role):
    layer = layers.CBAM()
    layer.build((None, None, None, 4))
    with pytest.raises(ValueError, match="'cbam.*which is built already. Make the layer in the ca"):
        asked(role, lambda **_: layer)


def test_a_callable_is_called_once_for_each_layer():
    calls = []
    layers.get_gate(lambda: calls.append(1) or Own())
    assert calls == [1]
