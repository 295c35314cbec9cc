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


def test_an_absent_package_names_the_extra():
    message = (
        r"Drawing needs no_such_package, which could not be imported \(No module.*\). "
        r"Install the extra `plots`: `pip install -e .\[plots\]` in the checkout."
    )
    with pytest.raises(ImportError, match=message):
        checks.package("no_such_package.part", "Drawing", "plots")
    with pytest.raises(ImportError, match="Install no_such_package."):
        checks.package("no_such_package", "Drawing", None)
    assert checks.package("math", "Counting", None).pi > 3


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_are_finite(value):
    with pytest.raises(ValueError, match="`x` must be a finite number. Received: x="):
        checks.number("x", value)


@pytest.mark.parametrize("value", ["epochs", b"epochs", {"epochs": 1}, 3, None, {"a", "b"}])
def test_what_is_no_list(value):
    with pytest.raises(TypeError, match="`names` must be a list or tuple. Received: names="):
        checks.listed("names", value)


def test_a_list_of_any_kind():
    for value in (["a", "b"], ("a", "b"), np.array(["a", "b"]), iter("ab")):
        assert checks.listed("names", value) == ["a", "b"]
    assert checks.listed("names", {"a"}, ordered=False) == ["a"]
