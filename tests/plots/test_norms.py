import math

import numpy as np
import pytest

from keras_fmm import plots


def test_draws_what_is_positive_and_finite():
    runs = {
        "add": [{"largest": [1.0, 2.0, 3.0]}, {"largest": [1.0, 1.0, 1.0]}],
        "multiply": [{"largest": [1.0, None, 0.0, math.inf]}],
    }
    (axes,) = plots.norms_by_depth(runs, limits={"limit": 10.0}).axes
    first, second, third, limit = (line.get_ydata() for line in axes.get_lines())
    np.testing.assert_array_equal(first, [1, 2, 3])
    np.testing.assert_array_equal(second, [1, 1, 1])
    np.testing.assert_array_equal(third, [1, np.nan, np.nan, np.nan])
    assert set(limit) == {10}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "add",
        "multiply",
        "limit",
    ]


def test_refuses_nothing():
    with pytest.raises(ValueError, match="at least one run. Received"):
        plots.norms_by_depth({"add": []})
