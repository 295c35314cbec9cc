import hypothesis
import keras
import numpy as np
import pytest

from keras_fmm import ops
from tests.support import gradients, references, strategies

ALL = (ops.vectorized_map_conv, ops.factored_conv, ops.loop_conv)


def random_case(case):
    groups = case.shape[3] // case.input_reduction
    kernel = case.random(*case.kernel_size, case.shape[3], case.filters)
    gain = case.random(case.shape[0], *case.kernel_size, groups, case.filters)
    return case.random(*case.shape), kernel, gain


def reference(case, x, kernel, gain):
    kernels = kernel * np.repeat(gain, case.input_reduction, axis=3)
    return references.conv2d(x, kernels, *case.conv)


@pytest.mark.parametrize("conv", ALL)
@hypothesis.given(case=strategies.cases())
def test_equals_a_loop_over_samples_outputs_and_taps(conv, case):
    x, kernel, gain = random_case(case)
    expected = reference(case, *(array.astype("float64") for array in (x, kernel, gain)))
    outputs = conv(x, kernel, gain, *case.conv)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("conv", ALL)
@hypothesis.given(case=strategies.cases())
def test_gradients_equal_finite_differences_of_the_loop(conv, case):
    arrays = random_case(case)
    exact = [array.astype("float64") for array in arrays]
    rng = np.random.default_rng(case.seed)
    cotangent = rng.normal(size=reference(case, *exact).shape).astype("float32")

    def loss(arrays):
        return (reference(case, *arrays) * cotangent).sum()

    found = gradients.of_function(
        lambda *arrays: keras.ops.sum(conv(*arrays, *case.conv) * cotangent), arrays
    )
    for place, gradient in enumerate(found):
        directions = [np.zeros_like(array) for array in exact]
        directions[place] = rng.normal(size=exact[place].shape)
        terms = gradient * directions[place]
        np.testing.assert_allclose(
            terms.sum(), gradients.along(loss, exact, directions), atol=1e-4 * np.abs(terms).sum()
        )


@pytest.mark.parametrize("conv", ALL)
def test_refuses_an_unknown_padding(conv):
    ones = np.ones((1, 3, 3, 1), "float32"), np.ones((2, 2, 1, 1)), np.ones((1, 2, 2, 1, 1))
    with pytest.raises(ValueError, match="`padding` must be one of 'valid', 'same'. Received"):
        conv(*ones, (1, 1), "SAME", (1, 1))
