import collections
import pathlib

import keras
import ml_dtypes
import numpy as np
import pytest

from keras_fmm import checks


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_integers_pass_as_int(value):
    number = checks.positive_integer("n", value)
    assert number == value
    assert type(number) is int


@pytest.mark.parametrize("value", [1.0, "3", None, True, [2]])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match=r"`n` must be a positive integer. Received: n="):
        checks.positive_integer("n", value)


def test_divides_lists_the_divisors():
    with pytest.raises(ValueError, match=r"`r` must divide the filters \(12\). Received: r=5. "):
        checks.divides("r", 5, 12, "the filters")
    assert checks.divides("r", 4, 12, "the filters") == 4


def test_channels_first_shapes_are_read_and_named_so():
    assert checks.channels_of("X", (None, 3, 4, 5), "channels_first") == 3
    assert checks.sizes_of("X", (None, 3, 4, 5), "channels_first") == (4, 5, 3)
    with pytest.raises(ValueError, match=r"\(batch, channels, height, width\)"):
        checks.channels_of("X", (3, 4, 5), "channels_first")
    with pytest.raises(ValueError, match=r"Give larger images, or fewer layers that make them sm"):
        checks.channels_of("X", (None, 3, 0, 5), "channels_first")
    with pytest.raises(ValueError, match=r"Received: .* Give feature maps that have a channel."):
        checks.channels_of("X", (None, 0, 4, 5), "channels_first")


def test_an_absent_package_names_the_extra():
    message = (
        r"Drawing needs no_such_package. Received: ModuleNotFoundError: No module .*'. "
        r"Install it with `pip install 'keras-fmm\[plots\]'`."
    )
    with pytest.raises(ImportError, match=message):
        checks.package("no_such_package.part", "Drawing", "plots")
    assert checks.package("math", "Counting", "plots").pi > 3


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_are_finite(value):
    with pytest.raises(ValueError, match="`x` must be a finite number. Received: x="):
        checks.number("x", value)


@pytest.mark.parametrize(
    "value", ["epochs", b"epochs", {"epochs": 1}, 3, None, {"a", "b"}, iter("ab")]
)
def test_what_is_no_list(value):
    with pytest.raises(TypeError, match="`names` must be a list or tuple. Received: names="):
        checks.listed("names", value)


def test_a_list_of_any_kind():
    for value in (["a", "b"], ("a", "b"), np.array(["a", "b"])):
        assert checks.listed("names", value) == ["a", "b"]
    assert checks.listed("names", {"a"}, ordered=False) == ["a"]


ORDERED = {
    "list": ["zebra", "ant"],
    "tuple": ("zebra", "ant"),
    "array": np.array(["zebra", "ant"]),
    "deque": collections.deque(["zebra", "ant"]),
}


@pytest.mark.parametrize("value", ORDERED.values(), ids=ORDERED)
def test_names_keep_their_order(value):
    names = checks.listed("labels", value, str)
    assert names == ["zebra", "ant"]
    assert {type(name) for name in names} == {str}


NOT_ORDERED = {
    "set": {"zebra", "ant"},
    "frozenset": frozenset({"zebra", "ant"}),
    "dict": {"zebra": 0, "ant": 1},
    "keys": {"zebra": 0}.keys(),
    "values": {0: "zebra"}.values(),
    "generator": (name for name in ["zebra"]),
    "map": map(str, [1, 2]),
    "str": "zebra",
    "bytes": b"zebra",
    "of bytes": [b"zebra"],
    "array of bytes": np.array([b"zebra"]),
    "array of arrays": np.array([["zebra"]]),
    "numbers": [0, 1],
    "with None": ["zebra", None],
    "None": None,
    "number": 3,
}


@pytest.mark.parametrize("value", NOT_ORDERED.values(), ids=NOT_ORDERED)
def test_names_without_an_order_are_refused(value):
    with pytest.raises(TypeError, match=r"`labels` must be a list or tuple of str. Received: lab"):
        checks.listed("labels", value, str)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float16", "float64", ml_dtypes.bfloat16])
def test_arrays_of_real_numbers_pass(dtype):
    array = checks.real_array("x", np.ones(2, dtype))
    assert array.dtype == dtype


@pytest.mark.parametrize(
    "value",
    [np.ones(2, "complex64"), ["a"], [None], {1: 2}, np.zeros(2, "datetime64[s]"), np.void(b"ab")],
    ids=str,
)
def test_arrays_of_others_are_refused(value):
    with pytest.raises(
        TypeError, match=r"`x` must be an array of real.* Received: x of d.* Of complex"
    ):
        checks.real_array("x", value)


def test_rows_of_several_lengths_are_refused():
    with pytest.raises(
        ValueError, match="`x` must be one array of numbers. Received: .*inhomog.* Give"
    ):
        checks.real_array("x", [[1], [1, 2]])


def test_paths():
    assert checks.path("path", "a/b") == pathlib.Path("a/b")
    assert checks.path("path", pathlib.Path("a")) == pathlib.Path("a")
    message = "`path` must be a str or `os.PathLike` that is not empty. Received: path="
    for value in (None, 3, b"a", ["a"], object()):
        with pytest.raises(TypeError, match=message):
            checks.path("path", value)
    for value in ("", "a\0b"):
        with pytest.raises(ValueError, match=message):
            checks.path("path", value)


def test_what_a_callable_takes():
    assert checks.takes(lambda x, y=1: x, 1)
    assert checks.takes(keras.layers.Dense, units=1)
    assert checks.takes(max, 1, 2)  # Written in C.
    assert not checks.takes(lambda: 1, 1)
    assert not checks.takes(lambda x: 1, x=1, y=2)


def test_what_keras_knows_by_name():
    assert checks.of_keras(gate_activation="relu") is keras.activations.relu
    assert checks.of_keras(kernel_regularizer=None) is None
    message = r"`activation` must be one of `keras.activations`.*activation='sigmod' \(Co"
    with pytest.raises(ValueError, match=message):
        checks.of_keras(activation="sigmod")
    message = r"`bias_initializer` must be one of `keras.initializers`.*: bias_initializer=3"
    with pytest.raises(ValueError, match=message):
        checks.of_keras(bias_initializer=3)


def test_instances_pairs_and_mappings():
    assert checks.instance("x", 3, int) == 3
    with pytest.raises(TypeError, match="`x` must be a keras.Model. Received: x=3"):
        checks.instance("x", 3, keras.Model)
    assert checks.pair("x", [np.int64(2), 3]) == (2, 3)
    for value in (3, (1,), (1, 2, 3), "ab", {1, 2}, (1.0, 2), None):
        with pytest.raises(TypeError, match=r"`x(\[0\])?` must be a .*Received: x"):
            checks.pair("x", value)
    with pytest.raises(
        ValueError, match=r"`x\[1\]` must be a positive integer. Received: x\[1\]=0"
    ):
        checks.pair("x", (1, 0))
    assert checks.mapping("x", {}) == {}
    with pytest.raises(TypeError, match=r"`x` must be a dict. Received: x=\[\]"):
        checks.mapping("x", [])
