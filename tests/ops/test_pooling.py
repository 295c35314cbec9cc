import keras
import numpy as np
import pytest

from keras_fmm import ops
from tests.support import calls, references


@pytest.mark.parametrize("shape", [(2, 7, 5, 3), (1, 1, 1, 1), (1, 6, 9, 2), (2, 2, 1, 3)])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 4), (7, 5)])
def test_equals_a_loop_over_bins(shape, size):
    x = np.random.default_rng(0).normal(size=shape)
    pool = calls.compiled(lambda x: ops.adaptive_average_pool(x, size))
    pooled = pool(x.astype("float32"))
    np.testing.assert_allclose(
        pooled, references.adaptive_average_pool(x, size), rtol=1e-5, atol=1e-6
    )


def test_bins_overlap_by_pytorchs_rule():
    # 5 entries in 3 bins: 0 to 1, 1 to 3, 3 to 4.
    x = np.arange(5, dtype="float32").reshape(1, 5, 1, 1)
    pooled = ops.adaptive_average_pool(x, (3, 1))
    np.testing.assert_allclose(np.asarray(pooled).ravel(), [0.5, 2.0, 3.5])


@pytest.mark.parametrize(("dtype", "error"), [("float16", 1e-3), ("bfloat16", 8e-3)])
def test_sums_in_float32_and_keeps_the_dtype(dtype, error):
    # The mean is 1 where a sum in half precision would stop growing at 2048 or 256.
    x = np.random.default_rng(0).uniform(0, 2, size=(1, 128, 128, 1))
    pooled = ops.adaptive_average_pool(keras.ops.cast(x, dtype), (1, 1))
    assert keras.backend.standardize_dtype(pooled.dtype) == dtype
    assert float(pooled[0, 0, 0, 0]) == pytest.approx(x.mean(), rel=error)
