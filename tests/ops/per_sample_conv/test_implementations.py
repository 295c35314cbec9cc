import hypothesis
import keras
import numpy as np
import pytest

from keras_fmm import ops
from keras_fmm.ops import tensorflow_gradients
from tests.support import aw_cases, calls, gradients, references

# JAX compiles every case anew.
FEW = 8 if keras.backend.backend() == "tensorflow" else 2
ALL = tuple(ops.IMPLEMENTATIONS.values())


def reference(case, x, kernel, gain, bias):
    kernels = kernel * np.repeat(gain, case.input_reduction, axis=3)
    return references.conv2d(x, kernels, *case.conv) + bias


def call(conv, case):
    return lambda x, kernel, gain, bias: conv(x, kernel, gain, *case.conv, bias)


def loss_of(conv, case, cotangent):
    def loss(*arrays):
        outputs = keras.ops.cast(call(conv, case)(*arrays), "float32")
        return keras.ops.sum(keras.ops.multiply(outputs, cotangent))

    return loss


def plain(x, kernel, gain, strides, padding, dilation_rate, bias):
    """The formula sample by sample, for automatic differentiation to be compared with."""
    repeats = kernel.shape[2] // gain.shape[3]
    outputs = [
        keras.ops.conv(
            x[n : n + 1],
            kernel * keras.ops.repeat(gain[n], repeats, axis=2),
            strides=strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=dilation_rate,
        )
        for n in range(x.shape[0])
    ]
    return keras.ops.concatenate(outputs) + bias


@pytest.mark.slow_on_tensorflow
@hypothesis.given(case=aw_cases.cases())
def test_all_equal_a_loop_over_samples_outputs_and_taps(case):
    arrays = case.conv_inputs()
    expected = reference(case, *(array.astype("float64") for array in arrays))
    outputs = calls.compiled(lambda *given: [call(conv, case)(*given) for conv in ALL])(*arrays)
    for conv, found in zip(ALL, outputs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=conv.__name__)


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize(
    "convs",
    [
        (ops.factored_conv, ops.loop_conv),
        # The formula as it stands, traced anew for each example.
        pytest.param((ops.vectorized_map_conv,), marks=pytest.mark.slow),
    ],
    ids=["ours", "vectorized_map"],
)
@hypothesis.given(case=aw_cases.cases())
def test_gradients_equal_finite_differences_of_the_loop(convs, case):
    arrays = case.conv_inputs()
    exact = [array.astype("float64") for array in arrays]
    rng = np.random.default_rng(case.seed)
    cotangent = rng.normal(size=reference(case, *exact).shape).astype("float32")

    def loss(arrays):
        return (reference(case, *arrays) * cotangent).sum()

    found = {
        conv.__name__: gradients.of_function(loss_of(conv, case, cotangent), arrays)
        for conv in convs
    }
    for place in range(len(arrays)):
        directions = [np.zeros_like(array) for array in exact]
        directions[place] = rng.normal(size=exact[place].shape)
        expected = gradients.along(loss, exact, directions)
        for name, ours in found.items():
            terms = ours[place] * directions[place]
            np.testing.assert_allclose(
                terms.sum(), expected, atol=1e-4 * np.abs(terms).sum(), err_msg=name
            )


@pytest.mark.slow_on_tensorflow
@hypothesis.given(case=aw_cases.cases())
@hypothesis.settings(max_examples=FEW)
def test_second_derivatives_equal_those_of_automatic_differentiation(case):
    arrays = case.conv_inputs()
    rng = np.random.default_rng(case.seed)
    vectors = [rng.normal(size=array.shape).astype("float32") for array in arrays]
    cotangent = rng.normal(size=reference(case, *arrays).shape).astype("float32")

    def squared(conv):
        # The square, for second derivatives that are not zero.
        return lambda *args: keras.ops.sum(
            keras.ops.multiply(keras.ops.square(call(conv, case)(*args)), cotangent)
        )

    expected = gradients.of_gradient(squared(plain), arrays, vectors)
    for conv in (ops.factored_conv, ops.loop_conv):
        found = gradients.of_gradient(squared(conv), arrays, vectors)
        for one, other in zip(found, expected, strict=True):
            atol = 1e-4 * max(1, np.abs(other).max())
            np.testing.assert_allclose(one, other, atol=atol, rtol=1e-3, err_msg=conv.__name__)


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
@hypothesis.given(case=aw_cases.cases())
@hypothesis.settings(max_examples=FEW)
def test_in_half_precision_all_round_a_few_times(dtype, case):
    # All is linear in each argument: with every number made positive, the result bounds the sum
    # of the terms' sizes, and an error is that times the rounding of a few steps.
    arrays = case.conv_inputs()
    halves = [keras.ops.cast(array, dtype) for array in arrays]
    rounded = [np.asarray(keras.ops.cast(array, "float32")) for array in halves]
    cotangent = np.ones_like(reference(case, *arrays))
    epsilon = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]

    exact = reference(case, *(array.astype("float64") for array in rounded))
    sizes = reference(case, *(np.abs(array).astype("float64") for array in rounded))
    outputs = calls.compiled(lambda *given: [call(conv, case)(*given) for conv in ALL])(*halves)
    for conv, found in zip(ALL, outputs, strict=True):
        assert keras.backend.standardize_dtype(found.dtype) == dtype, conv
        found = np.asarray(keras.ops.cast(found, "float32"))
        assert np.all(np.abs(found - exact) <= 4 * epsilon * sizes + 1e-6), conv

    exact = gradients.of_function(loss_of(plain, case, cotangent), rounded)
    sizes = gradients.of_function(
        loss_of(plain, case, cotangent), [np.abs(array) for array in rounded]
    )
    for conv in ALL:
        if case.shape[0] == 1 and conv is ops.vectorized_map_conv:
            continue  # Keras' own gradients, not ours.
        found = gradients.of_function(loss_of(conv, case, cotangent), halves)
        for one, other, size in zip(found, exact, sizes, strict=True):
            assert keras.backend.standardize_dtype(one.dtype) == dtype, conv
            assert np.all(np.abs(one.astype("float32") - other) <= 8 * epsilon * size + 1e-5), conv


@pytest.mark.parametrize("conv", [ops.factored_conv, ops.vectorized_map_conv])
def test_sums_over_groups_in_float32(conv):
    # 80 groups of 1 beside one of 4096, where float16 counts in fours.
    x = np.ones((1, 1, 1, 81), "float16")
    x[..., 0] = 4096
    ones = np.ones((1, 1, 81, 1), "float16"), np.ones((1, 1, 1, 81, 1), "float16")
    given = calls.compiled(lambda *arrays: conv(*arrays, (1, 1), "same", (1, 1)))
    outputs = given(x, *ones)
    assert abs(float(np.asarray(outputs, "float64").squeeze()) - (4096 + 80)) < 8


# What an accelerator takes instead of a loop; TensorFlow has none.
AT_ONCE = "factored" if keras.backend.backend() == "tensorflow" else "vectorized_map"
# What samples of few channels take that TensorFlow has as the groups of one convolution.
SEVERAL = "factored"
if keras.backend.backend() == "tensorflow" and tensorflow_gradients.differentiates_grouped_convs():
    SEVERAL = "loop"


@pytest.mark.parametrize("conv", ALL)
def test_refuses_an_unknown_padding(conv):
    ones = np.ones((1, 3, 3, 1), "float32"), np.ones((2, 2, 1, 1)), np.ones((1, 2, 2, 1, 1))
    with pytest.raises(ValueError, match="`padding` must be one of 'valid', 'same'. Received"):
        conv(*ones, (1, 1), "SAME", (1, 1))


@pytest.mark.parametrize(
    ("shape", "gains", "arguments", "expected"),
    [
        # Large maps of few channels: the kernel is smaller than what it sees.
        ((None, 56, 56, 64), (3, 3, 1), {}, "loop"),
        ((16, 28, 28, 128), (3, 3, 1), {}, "loop"),
        ((None, 14, 14, 256), (3, 3, 1), {}, "factored"),
        ((16, 7, 7, 512), (3, 3, 1), {}, "factored"),
        # The outputs count, not the inputs; the groups multiply them.
        ((None, 28, 28, 128), (3, 3, 1), {"strides": (2, 2)}, "factored"),
        ((None, 14, 14, 256), (3, 3, 2), {}, "factored"),
        ((None, 14, 14, 256), (3, 3, 4), {}, "loop"),
        ((None, 14, 14, 256), (3, 3, 256), {}, "loop"),
        # One image known when traced: a file for LiteRT, which likes constant kernels.
        ((1, 28, 28, 128), (3, 3, 1), {}, "factored"),
        ((1, 56, 56, 64), (3, 3, 1), {}, "loop"),
        ((1, 28, 28, 128), (3, 3, 2), {}, "loop"),
        # One gain for the whole kernel leaves a plain convolution.
        ((None, 56, 56, 64), (1, 1, 1), {}, "factored"),
        ((None, 56, 56, 64), (1, 1, 2), {}, "loop"),
        ((None, 28, 28, 128), (1, 1, 4), {}, "factored"),
        # Both sides of each bound.
        ((None, 23, 23, 128), (3, 3, 1), {}, "loop"),
        ((None, 22, 22, 128), (3, 3, 1), {}, "factored"),
        ((None, 28, 28, 783), (3, 3, 1), {}, "loop"),
        ((None, 28, 28, 784), (3, 3, 1), {}, "factored"),
        ((1, 9, 9, 16), (3, 3, 1), {}, "loop"),
        ((1, 8, 8, 16), (3, 3, 1), {}, "factored"),
        ((1, 13, 13, 32), (3, 3, 1), {}, "loop"),
        ((1, 12, 12, 32), (3, 3, 1), {}, "factored"),
        ((1, 28, 28, 97), (3, 3, 1), {}, "loop"),
        ((1, 28, 28, 98), (3, 3, 1), {}, "factored"),
        ((None, None, None, 56), (3, 3, 7), {}, "factored"),
        ((None, None, None, 64), (3, 3, 8), {}, "loop"),
        # Small samples, which the loop takes several of at a time.
        ((None, 14, 14, 64), (3, 3, 1), {}, SEVERAL),
        ((None, 13, 13, 64), (3, 3, 1), {}, "factored"),
        ((None, 11, 11, 8), (3, 3, 1), {}, SEVERAL),
        ((None, 10, 10, 8), (3, 3, 1), {}, "factored"),
        ((None, 14, 14, 64), (3, 3, 1), {"dtype": "float16"}, "factored"),
        # Unknown sizes, and accelerators.
        ((None, None, None, 64), (3, 3, 1), {}, "factored"),
        ((None, None, None, 64), (3, 3, 64), {}, "loop"),
        ((None, None, None, 64), (3, 3, 1), {"accelerator": True}, "factored"),
        ((None, 56, 56, 64), (3, 3, 1), {"accelerator": True}, AT_ONCE),
        ((None, 28, 28, 128), (3, 3, 1), {"accelerator": True}, AT_ONCE),
        ((None, 14, 14, 256), (3, 3, 1), {"accelerator": True}, "factored"),
        ((1, 56, 56, 64), (3, 3, 1), {"accelerator": True}, AT_ONCE),
    ],
)
def test_the_rule_chooses_by_what_the_gain_multiplies(shape, gains, arguments, expected):
    arguments = {
        "strides": (1, 1),
        "padding": "same",
        "dilation_rate": (1, 1),
        "accelerator": False,
        **arguments,
    }
    if keras.backend.backend() == "torch" and expected == "loop":
        expected = AT_ONCE
    kernel, gain = (3, 3, shape[3], shape[3]), (shape[0], *gains, shape[3])
    assert ops.fastest(shape, kernel, gain, **arguments) == expected


@hypothesis.given(case=aw_cases.cases())
def test_the_rule_has_an_answer_for_every_case(case):
    arrays = case.conv_inputs()
    chosen = ops.fastest(*(array.shape for array in arrays[:3]), *case.conv)
    assert chosen in ops.IMPLEMENTATIONS
