import functools

import keras
import numpy as np
import pytest

from keras_fmm import export, layers
from tests.support import attention_layers
from tests.support import attention_references as references
from tests.support.attention_layers import assert_near, check_gradients

made = functools.partial(attention_layers.made, layers.LocalSelfAttention2D)


def said(layer, x, values):
    """Returns what the paper's formula says."""
    how = layer.kernel_size, layer.num_heads, layer.strides, layer.mask_padding
    return references.local_self_attention(x, values, *how)


# 5x8 with two heads; an image smaller than its window; sizes that no block divides; one position.
CASES = [
    ((1, 5, 8, 3), {"filters": 4, "kernel_size": 5, "num_heads": 2}),
    ((1, 3, 3, 2), {"filters": 4, "kernel_size": 7, "num_heads": 1, "use_bias": True}),
    ((2, 5, 4, 2), {"filters": 6, "kernel_size": 3, "num_heads": 3, "strides": (2, 3)}),
    ((1, 11, 9, 1), {"filters": 2, "kernel_size": 3, "num_heads": 1, "mask_padding": False}),
    ((1, 4, 3, 2), {"filters": 3, "kernel_size": 3, "num_heads": 3, "positions": None}),
    ((2, 1, 1, 2), {"filters": 4, "kernel_size": 1, "num_heads": 2}),
]


@pytest.mark.parametrize("implementation", ["shifts", "blocks"])
@pytest.mark.parametrize(("shape", "arguments"), CASES)
def test_is_the_papers_formula(shape, arguments, implementation):
    layer, values, x = made(shape, **arguments, implementation=implementation)
    assert_near(layer(x), said(layer, x, values))


@pytest.mark.parametrize("implementation", ["shifts", "blocks"])
@pytest.mark.parametrize(("shape", "arguments"), CASES[:3])
def test_gradients_are_those_of_the_formula(shape, arguments, implementation):
    layer, values, x = made(shape, **arguments, implementation=implementation)
    check_gradients(layer, values, x, lambda *of: said(layer, *of))


@pytest.mark.parametrize(("mask_padding", "share"), [(True, 1 / 2), (False, 1 / 9)])
def test_by_hand(mask_padding, share):
    layer = layers.LocalSelfAttention2D(
        2, 3, num_heads=1, positions=None, mask_padding=mask_padding
    )
    layer.build((None, 1, 2, 2))
    layer.query.kernel.assign(np.zeros((1, 1, 2, 2)))
    layer.value.kernel.assign(np.eye(2)[None, None])
    x = np.array([[[[1.0, 5.0], [2.0, -3.0]]]])
    expected = np.broadcast_to(share * (x[0, 0, 0] + x[0, 0, 1]), (1, 1, 2, 2))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-6)


def test_looks_at_what_lies_in_the_window():
    layer, values, x = made((2, 4, 5, 3), filters=8, kernel_size=3, num_heads=2)
    q, k = (
        references.by_head(references.pointwise(x, values[f"{name}/kernel"]), 2)
        for name in ("query", "key")
    )
    rows, columns = values["row_embeddings"], values["column_embeddings"]
    bias = np.concatenate(np.broadcast_arrays(rows[:, None], columns[None]), axis=3)
    looks = references.looks_in_window(q, k, bias, True).reshape(2, 20, 2, 3, 3)
    assert_near(layer.attention_map(x), looks)
    asked = layer.attention_map(x, queries=[(3, 4), (0, 1)])
    assert_near(asked, looks[:, [19, 1]])
    # At the corner four of nine lie on the map.
    assert (np.asarray(asked)[:, 0] > 0).sum(axis=(2, 3)).tolist() == [[4, 4], [4, 4]]


def test_moves_with_the_image():
    layer, _, x = made((1, 8, 9, 2), filters=4, kernel_size=3, num_heads=2)
    whole, moved = (np.asarray(layer(part)) for part in (x, x[:, 1:, 2:]))
    assert_near(moved[:, 1:-1, 1:-1], whole[:, 2:-1, 3:-1])


def test_weights_are_as_many_as_the_closed_form_says():
    layer = layers.LocalSelfAttention2D(64)
    layer.build((None, 5, 5, 64))
    assert layer.count_params() == 3 * 64**2 + 7 * 64


def test_cost():
    layer = layers.LocalSelfAttention2D(8, 3, num_heads=2, strides=2)
    # 20 positions: three convolutions, nine keys and values, three rows and three columns of half.
    assert layer.multiply_adds((None, 4, 5, 6)) == 20 * (3 * 6 * 8 + 2 * 9 * 8 + 3 * 8)


WRONG = [
    ({"filters": 0}, ValueError, "`filters` must be a positive integer"),
    ({"kernel_size": 4}, ValueError, "`kernel_size` must be odd. Received: kernel_size=4"),
    ({"kernel_size": (3, 5)}, TypeError, "`kernel_size` must be a positive integer"),
    ({"num_heads": 5}, ValueError, "`num_heads` must divide the filters"),
    ({"num_heads": 16}, ValueError, "A head must have an even number of channels"),
    ({"strides": 0}, ValueError, r"`strides\[0\]` must be a positive integer"),
    ({"padding": "valid"}, ValueError, '`padding` must be "same"'),
    ({"positions": "absolute"}, ValueError, "`positions` must be one of None, 'relative'"),
    ({"mask_padding": None}, TypeError, "`mask_padding` must be True or False"),
    (
        {"implementation": "plain"},
        ValueError,
        "`implementation` must be one of 'auto', 'shifts', 'blocks'",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        layers.LocalSelfAttention2D(**{"filters": 16, **arguments})


@pytest.mark.parametrize("implementation", ["shifts", "blocks"])
@pytest.mark.parametrize(("shape", "arguments"), [*CASES[:4], ((1, 33, 6, 2), CASES[0][1])])
def test_for_integers_it_says_the_same_however_small_all_logits_are(
    shape, arguments, implementation
):
    layer, values, x = made(shape, **arguments, implementation=implementation)
    # All products of queries and keys are so small that their exponentials are 0.
    x = abs(x) + 1
    for name, value in (("query", 40.0), ("key", -40.0)):
        kernel = getattr(layer, name).kernel
        kernel.assign(kernel * 0.1 + value / (shape[3] * layer.filters // layer.num_heads))
        values[f"{name}/kernel"] = np.asarray(kernel.value).astype("float64")
    with layer.for_integers(8):
        assert_near(layer(x), said(layer, x, values))


@pytest.mark.slow
def test_what_padding_adds_is_no_division_by_0_in_a_file_of_integers(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("exports run on TensorFlow")
    # Blocks of 5 to 8 cover 35 rows of the 33: the last see nothing.
    inputs = keras.Input((33, 3, 2))
    model = keras.Model(inputs, layers.LocalSelfAttention2D(4, 3, num_heads=2)(inputs))
    x = np.random.default_rng(0).normal(size=(8, 33, 3, 2)).astype("float32")
    path = export.to_tflite(
        model, tmp_path / "a.tflite", quantization="int8", representative_data=x
    )
    expected = model.predict(x, verbose=0)
    assert np.abs(export.run_tflite(path, x) - expected).max() < 0.1 * np.ptp(expected)
