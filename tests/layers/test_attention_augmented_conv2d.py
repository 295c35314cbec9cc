import functools

import keras
import numpy as np
import pytest

from keras_fmm import layers, models
from tests.support import attention_layers, weights
from tests.support import attention_references as references
from tests.support.attention_layers import TOLERANCE, assert_near, check_gradients

made = functools.partial(attention_layers.made, layers.AttentionAugmentedConv2D)


def said(layer, x, values):
    """Returns what the paper's formula says."""
    depths = layer.num_heads, layer._key_dim, layer._value_dim
    return references.augmented_conv2d(x, values, *depths, layer.strides, layer.attention_pool)


CASES = [
    ((2, 3, 5, 4), {"filters": 8, "num_heads": 4, "key_dim": 2, "value_dim": 1}),
    ((1, 1, 1, 3), {"filters": 3, "num_heads": 2, "key_dim": 1, "value_dim": 1}),
    ((1, 5, 4, 2), {"filters": 8, "num_heads": 2, "key_dim": 3, "value_dim": 3, "strides": (2, 3)}),
    ((1, 5, 6, 2), {"filters": 4, "num_heads": 1, "key_dim": 2, "attention_pool": 2}),
    (
        (1, 7, 6, 2),
        {
            "filters": 5,
            "num_heads": 1,
            "key_dim": 2,
            "attention_pool": 3,
            "strides": 2,
            "positions": None,
            "use_bias": False,
        },
    ),
]


@pytest.mark.parametrize(("shape", "arguments"), CASES)
def test_is_the_papers_formula(shape, arguments):
    arguments = {"kernel_size": (3, 2), "value_ratio": 0.6, **arguments}
    layer, values, x = made(shape, **arguments)
    # Images are resized in float32.
    tolerance = TOLERANCE if layer.attention_pool is None else 1e-4
    assert_near(layer(x), said(layer, x, values), tolerance)


@pytest.mark.parametrize(("shape", "arguments"), [CASES[0], CASES[2]])
def test_gradients_are_those_of_the_formula(shape, arguments):
    layer, values, x = made(shape, kernel_size=3, **arguments)
    check_gradients(layer, values, x, lambda *of: said(layer, *of))


def test_by_hand():
    layer = layers.AttentionAugmentedConv2D(
        2, 1, num_heads=1, key_dim=1, value_dim=1, use_bias=False
    )
    layer.build((None, 1, 2, 2))
    # A query of 1, a key of 0, and for value the second channel.
    layer.conv.kernel.assign(np.zeros((1, 1, 2, 1)))
    layer.qkv.kernel.assign(np.array([[[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]]))
    layer.projection.kernel.assign([[[[1.0]]]])
    layer.row_embeddings.assign([[0.0]])
    layer.column_embeddings.assign([[0.0], [0.0], [np.log(3.0)]])
    x = np.array([[[[1.0, 1.0], [1.0, 3.0]]]])
    outputs = np.asarray(layer(x))[0, 0]
    np.testing.assert_allclose(outputs, [[0.0, 2.5], [0.0, 2.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("filters", "arguments", "keys", "values"),
    [
        (128, {}, 20, 2),
        (64, {}, 20, 1),
        (2048, {}, 51, 26),
        (512, {"key_ratio": 0.25, "value_ratio": 0.25}, 20, 16),
        (512, {"key_ratio": 1.0, "min_key_dim": 1, "num_heads": 4}, 128, 13),
        (64, {"key_dim": 3, "value_dim": 5}, 3, 5),
    ],
)
def test_depths_follow_the_ratios(filters, arguments, keys, values):
    layer = layers.AttentionAugmentedConv2D(filters, 3, **arguments)
    layer.build((None, 4, 4, 8))
    heads = layer.num_heads
    assert layer.conv.kernel.shape == (3, 3, 8, filters - heads * values)
    assert layer.qkv.kernel.shape == (1, 1, 8, heads * (2 * keys + values))
    assert layer.projection.kernel.shape == (1, 1, heads * values, heads * values)
    assert layer.row_embeddings.shape == (7, keys)


def test_tables_have_the_size_of_what_is_attended_to():
    arguments = {"strides": (2, 3), "attention_pool": 2}
    layer = layers.AttentionAugmentedConv2D(16, 3, value_ratio=0.5, **arguments)
    layer.build((None, 9, 14, 3))
    # 9 -> 5 -> 3 and 14 -> 7 -> 3.
    assert (layer.row_embeddings.shape[0], layer.column_embeddings.shape[0]) == (5, 5)
    looks = layer.attention_map(np.zeros((1, 9, 14, 3)), queries=[(2, 2)])
    assert looks.shape == (1, 1, 8, 3, 3)


@pytest.mark.parametrize("place", ["convolution", "qkv_convolution", "projection_convolution"])
def test_aw_convolution_stands_in_each_place(place, tmp_path):
    inputs = keras.Input((5, 6, 4))
    arguments = {"num_heads": 2, "value_dim": 2, place: "aw"}
    layer = layers.AttentionAugmentedConv2D(8, 3, strides=2, **arguments)
    model = keras.Model(inputs, layer(inputs))
    name = "conv" if place == "convolution" else place.removesuffix("olution").split("_")[0]
    assert type(getattr(layer, name)) is layers.AWConv2D
    others = {"conv", "qkv", "projection"} - {name}
    assert {type(getattr(layer, other)) for other in others} == {keras.layers.Conv2D}
    weights.randomise(model)
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 4)).astype("float32")
    outputs = np.asarray(layer(x))
    if name == "conv":
        np.testing.assert_allclose(outputs[..., :4], layer.conv(x) + layer.bias[:4], atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(x), outputs, atol=1e-5)
    plain = layers.AttentionAugmentedConv2D(8, 3, strides=2, num_heads=2, value_dim=2)
    assert layer.multiply_adds(x.shape) > plain.multiply_adds(x.shape)
    # Its batch norms are in training where the layer is.
    before = layer.get_weights()
    layer(x, training=True)
    moved = [(a != b).any() for a, b in zip(before, layer.get_weights(), strict=True)]
    assert sum(moved) == 4


@keras.saving.register_keras_serializable("tests_of_augmented")
def narrow(**arguments):
    return layers.AWConv2D(reduction=2, **arguments)


def test_a_registered_function_stands_in_a_place():
    layer = layers.AttentionAugmentedConv2D(8, 3, num_heads=2, value_dim=1, convolution=narrow)
    again = layers.AttentionAugmentedConv2D.from_config(layer.get_config())
    again.build((None, 4, 4, 3))
    assert again.conv.reduction == 2


def test_arguments_reach_the_convolution():
    layer = layers.AttentionAugmentedConv2D(
        8, 3, dilation_rate=2, groups=2, num_heads=2, value_dim=1, activation="relu", use_bias=False
    )
    layer.build((None, 7, 8, 4))
    x = np.random.default_rng(0).normal(size=(1, 7, 8, 4)).astype("float32")
    plain = keras.layers.Conv2D(
        6, 3, dilation_rate=2, groups=2, padding="same", use_bias=False, activation="relu"
    )
    plain.build(x.shape)
    plain.set_weights(layer.conv.get_weights())
    np.testing.assert_allclose(np.asarray(layer(x))[..., :6], plain(x), atol=1e-5)
    assert (np.asarray(layer(x)) >= 0).all()


@pytest.mark.parametrize("size", [(3, 4), (6, 7)])
def test_sizes_unknown_when_traced_are_as_known_ones(size):
    arguments = {"num_heads": 2, "value_dim": 2, "position_size": 3, "attention_pool": 2}
    layer = layers.AttentionAugmentedConv2D(8, 3, strides=2, **arguments)
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layer(inputs))
    weights.randomise(model)
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    np.testing.assert_allclose(model.predict(x, verbose=0), layer(x), rtol=1e-4, atol=1e-5)


def test_weights_of_a_smaller_network_are_interpolated(tmp_path):
    def model(side):
        inputs = keras.Input((side, side, 3))
        arguments = {"num_heads": 2, "value_dim": 2, "name": "augmented"}
        return keras.Model(inputs, layers.AttentionAugmentedConv2D(8, 3, **arguments)(inputs))

    small, large = model(4), model(6)
    weights.randomise(small)
    small.save(tmp_path / "model.keras")
    large.load_weights(tmp_path / "model.keras")
    again = model(6)
    models.load_weights(again, tmp_path / "model.keras")
    for one, other in zip(again.weights, large.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype("float32")
    np.testing.assert_allclose(large(x), small.layers[-1](x), rtol=1e-4, atol=1e-5)
    for name in ("row_embeddings", "column_embeddings"):
        table = np.asarray(getattr(small.layers[-1], name))
        expected = references.interpolated(table, 11)
        np.testing.assert_allclose(getattr(large.layers[-1], name), expected, atol=1e-5)


# The counts of layers by the closed form, without biases: 9 c (f - dv) + c (2 dk + dv) + dv^2 +
# (2 H - 1 + 2 W - 1) dk / heads.
@pytest.mark.parametrize(
    ("channels", "filters", "size"), [(128, 128, 28), (64, 256, 7), (3, 16, 5)]
)
def test_weights_are_as_many_as_the_closed_form_says(channels, filters, size):
    layer = layers.AttentionAugmentedConv2D(filters, 3, use_bias=False, value_ratio=0.5)
    layer.build((None, size, size, channels))
    keys, values = max(round(0.2 * filters / 8), 20) * 8, round(0.5 * filters / 8) * 8
    expected = 9 * channels * (filters - values) + channels * (2 * keys + values) + values**2
    assert layer.count_params() == expected + 2 * (2 * size - 1) * keys // 8


def test_cost():
    layer = layers.AttentionAugmentedConv2D(8, 3, strides=2, num_heads=2, key_dim=3, value_dim=2)
    # 2 x 3 positions of a map of 4 x 5.
    conv, qkv, projection = 6 * 9 * 4 * 4, 6 * 4 * (6 + 6 + 4), 6 * 4 * 4
    attention = 6 * 6 * (6 + 4) + 6 * (2 + 3) * 6
    assert layer.multiply_adds((None, 4, 5, 4)) == conv + qkv + projection + attention


WRONG = [
    ({"filters": 0}, ValueError, "`filters` must be a positive integer. Received: filters=0"),
    ({"kernel_size": 0}, ValueError, "kernel_size"),
    ({"padding": "valid"}, ValueError, '`padding` must be "same": with another'),
    ({"num_heads": 0}, ValueError, "`num_heads` must be a positive integer"),
    ({"num_heads": 16, "filters": 16}, ValueError, "at least one channel of values a head"),
    ({"value_dim": 8}, ValueError, r"fewer in all than `filters`.*which gives 64"),
    ({"value_ratio": 1.0}, ValueError, "fewer in all than `filters`"),
    ({"value_ratio": 0}, ValueError, "`value_ratio` must be above 0 and at most 1"),
    ({"key_ratio": float("nan")}, ValueError, "`key_ratio` must be a finite number"),
    ({"min_key_dim": 0}, ValueError, "`min_key_dim` must be a positive integer"),
    ({"attention_pool": 1}, ValueError, "`attention_pool` must be None or an integer from 2"),
    ({"attention_pool": True}, TypeError, "`attention_pool` must be None or an integer from 2"),
    ({"positions": "learned"}, ValueError, "`positions` must be one of None, 'relative'"),
    ({"groups": 3}, ValueError, "`groups` must divide the filters of the convolution"),
    ({"convolution": "conv"}, ValueError, "`convolution` must be None, one of 'aw'"),
    ({"qkv_convolution": 3}, TypeError, "`convolution` must be None, a name or a callable"),
    (
        {"convolution": "aw", "dilation_rate": 2},
        ValueError,
        "must have neither `dilation_rate` nor `groups`",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        layers.AttentionAugmentedConv2D(**{"filters": 64, "kernel_size": 3, **arguments})


def test_needs_known_sizes_or_a_position_size():
    layer = functools.partial(layers.AttentionAugmentedConv2D, 64, 3)
    with pytest.raises(ValueError, match="which must be known. .* Give `position_size`"):
        layer()(keras.Input((None, None, 3)))
    assert layer(positions=None)(keras.Input((None, None, 3))).shape == (None, None, None, 64)


@pytest.mark.parametrize("positions", ["relative", "coordinates"])
def test_a_trained_convolution_is_kept_as_far_as_said(positions):
    inputs = keras.Input((5, 6, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv")(x)
    plain = keras.Model(inputs, x)
    weights.randomise(plain)
    augmented = functools.partial(
        layers.AttentionAugmentedConv2D, num_heads=2, value_dim=1, positions=positions
    )
    upgraded = models.upgrade(plain, convolution=augmented)
    layer = upgraded.get_layer("conv")
    assert type(layer) is layers.AttentionAugmentedConv2D
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype("float32")
    old, new = np.asarray(plain(x)), np.asarray(upgraded(x))
    np.testing.assert_allclose(new[..., :6], old[..., :6], rtol=1e-4, atol=1e-4)
    # The others: what the kernel's entries give, of the mean over the attended positions.
    seen = np.asarray(plain.get_layer("stem")(x))[:, ::2, ::2].mean(axis=(1, 2))
    kernel, bias = plain.get_layer("conv").get_weights()
    mean = np.maximum(seen @ kernel[..., 6:].sum(axis=(0, 1)) + bias[6:], 0)
    expected = np.broadcast_to(mean[:, None, None], (2, 3, 3, 2))
    np.testing.assert_allclose(new[..., 6:], expected, rtol=1e-4, atol=1e-4)


def test_starts_near_a_convolution_only_when_built_and_with_its_bias():
    layer = layers.AttentionAugmentedConv2D(8, 3, num_heads=2, value_dim=1)
    kernel = np.zeros((3, 3, 4, 8))
    with pytest.raises(ValueError, match="Only a built layer can start near a convolution"):
        layer.start_near_convolution(kernel, np.zeros(8))
    layer.build((None, 4, 4, 4))
    with pytest.raises(ValueError, match="`bias` must be given with `use_bias=True`"):
        layer.start_near_convolution(kernel)
    other = layers.AttentionAugmentedConv2D(
        8, 3, num_heads=2, value_dim=1, use_bias=False, qkv_convolution="aw"
    )
    other.build((None, 4, 4, 4))
    with pytest.raises(ValueError, match="start near a convolution. Received: the layer"):
        other.start_near_convolution(kernel)
