import functools

import numpy as np
import pytest

from keras_fmm import layers
from tests.support import attention_layers
from tests.support import attention_references as references
from tests.support.attention_layers import assert_near, check_gradients

made = functools.partial(attention_layers.made, layers.AttentionStem)


def said(layer, x, values):
    """Returns what the paper's formula says."""
    how = layer.kernel_size, layer.num_heads, layer.pool_size, layer.mask_padding
    return references.attention_stem(x, values, *how)


CASES = [
    ((1, 5, 9, 3), {"filters": 4, "num_heads": 2}),
    ((2, 3, 4, 2), {"filters": 2, "num_heads": 1, "kernel_size": 3, "pool_size": 2}),
    (
        (1, 4, 3, 1),
        {
            "filters": 3,
            "num_heads": 3,
            "mixtures": 1,
            "pool_size": 1,
            "mask_padding": False,
            "use_bias": True,
        },
    ),
    ((2, 1, 1, 3), {"filters": 4, "num_heads": 4, "mixtures": 2}),
]


@pytest.mark.parametrize(("shape", "arguments"), CASES)
def test_is_the_papers_formula(shape, arguments):
    layer, values, x = made(shape, **arguments)
    assert_near(layer(x), said(layer, x, values))


@pytest.mark.parametrize(("shape", "arguments"), CASES[1:3])
def test_gradients_are_those_of_the_formula(shape, arguments):
    layer, values, x = made(shape, **arguments)
    check_gradients(layer, values, x, lambda *of: said(layer, *of))


def test_by_hand():
    """A window of 2x2 on two pixels, all weighed alike: values twice at the window's right."""
    layer = layers.AttentionStem(1, 2, mixtures=2, num_heads=1, pool_size=1)
    layer.build((None, 1, 2, 1))
    layer.query.kernel.assign([[[[0.0]]]])
    layer.value_kernel.assign([[[0.0]], [[4.0]]])
    layer.row_embeddings.assign([[0.0], [0.0]])
    layer.column_embeddings.assign([[0.0], [np.log(3.0)]])
    layer.mixture_embeddings.assign([[0.0], [1.0]])
    # Shares of the second matrix: 1/2 at the left, 3/4 at the right, and so factors of 2 and 3.
    outputs = np.ravel(layer(np.array([[[[1.0], [10.0]]]])))
    np.testing.assert_allclose(outputs, [(2 * 1 + 3 * 10) / 2, 2 * 10], rtol=1e-6)


def test_gives_what_it_looks_at():
    layer, values, x = made((1, 3, 4, 2), filters=4, num_heads=2)
    q, k = (
        references.by_head(references.pointwise(x, values[f"{name}/kernel"]), 2)
        for name in ("query", "key")
    )
    looks = references.looks_in_window(q, k, np.zeros((4, 4, 2, 2)), True)
    found = layer.attention_map(x, queries=[(2, 3)])
    assert_near(np.asarray(found)[:, 0], looks[:, 2, 3])


def test_cost():
    layer = layers.AttentionStem(8, 2, mixtures=3, num_heads=2)
    # 20 positions: queries, keys and four values of 3 channels; four products of each kind; and the
    # matrices of four places mixed of three.
    places = 20 * (6 * 3 * 8 + 2 * 4 * 8)
    assert layer.multiply_adds((None, 4, 5, 3)) == places + 4 * 3 * 3 * 8


WRONG = [
    ({"filters": -1}, ValueError, "`filters` must be a positive integer"),
    ({"kernel_size": 0}, ValueError, "`kernel_size` must be a positive integer"),
    ({"mixtures": 0}, ValueError, "`mixtures` must be a positive integer"),
    ({"num_heads": 3}, ValueError, "`num_heads` must divide the filters"),
    ({"pool_size": 0}, ValueError, "`pool_size` must be a positive integer"),
    ({"padding": "valid"}, ValueError, '`padding` must be "same"'),
    ({"use_bias": "no"}, TypeError, "`use_bias` must be True or False"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        layers.AttentionStem(**{"filters": 8, **arguments})
