import functools

import keras
import numpy as np
import pytest

from keras_fmm import layers
from tests.support import attention_layers, weights
from tests.support import attention_references as references
from tests.support.attention_layers import assert_near, check_gradients

made = functools.partial(attention_layers.made, layers.RelativeSelfAttention2D)


FORMS = ("plain", "parts")
# 3x5 with 4 heads tells height from width; a map of one position has nothing else to look at.
CASES = [
    ((2, 3, 5, 4), {"num_heads": 4, "key_dim": 2}),
    ((1, 1, 1, 3), {"num_heads": 2, "key_dim": 1, "value_dim": 3}),
    ((2, 4, 1, 2), {"num_heads": 1, "key_dim": 3, "value_dim": 2, "use_bias": False}),
    ((2, 2, 3, 3), {"num_heads": 3, "key_dim": 2, "value_dim": 1, "positions": None}),
]


@pytest.mark.parametrize("implementation", FORMS)
@pytest.mark.parametrize(("shape", "arguments"), CASES)
def test_is_the_papers_formula(shape, arguments, implementation):
    layer, values, x = made(shape, **arguments, implementation=implementation)
    heads, depth = layer.num_heads, layer.key_dim
    depths = (heads, depth, layer.value_dim or depth)
    expected = references.relative_self_attention(x, values, *depths)
    assert_near(layer(x), expected)
    qkv = references.pointwise(x, values["qkv/kernel"], values.get("qkv/bias", 0.0))
    q, k, _ = references.parts(qkv, *depths)
    tables = values.get("row_embeddings"), values.get("column_embeddings")
    looks = references.looks_everywhere(q, k, *tables)
    batch, height, width, _ = shape
    looks = looks.reshape(batch, height * width, heads, height, width)
    assert_near(layer.attention_map(x), looks)
    queries = [(height - 1, 0), (0, width - 1)]
    asked = layer.attention_map(x, queries=queries)
    chosen = [row * width + column for row, column in queries]
    assert_near(asked, looks[:, chosen])


@pytest.mark.parametrize("implementation", FORMS)
@pytest.mark.parametrize(("shape", "arguments"), CASES[:1] + CASES[3:])
def test_gradients_are_those_of_the_formula(shape, arguments, implementation):
    layer, values, x = made(shape, **arguments, implementation=implementation)
    depths = (layer.num_heads, layer.key_dim, layer.value_dim or layer.key_dim)
    check_gradients(layer, values, x, lambda *of: references.relative_self_attention(*of, *depths))


@pytest.mark.parametrize("together", [1, 2, 6])
def test_parts_of_any_number_of_heads_are_alike(together, monkeypatch):
    from keras_fmm.ops.self_attention import in_parts

    monkeypatch.setattr(in_parts, "_AT_ONCE", together * 12**2)
    layer, values, x = made((3, 3, 4, 2), num_heads=6, key_dim=2, implementation="parts")
    assert in_parts._heads_together(6, 12) == together
    assert_near(layer(x), references.relative_self_attention(x, values, 6, 2, 2))
    check_gradients(layer, values, x, lambda *of: references.relative_self_attention(*of, 6, 2, 2))


@pytest.mark.slow_on_tensorflow
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="compiles nothing here")
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_parts_train_as_the_formula_does_whatever_the_batch(jit_compile):
    found = []
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 3, 4, 3)).astype("float32")
    for implementation in FORMS:
        layer = layers.RelativeSelfAttention2D(2, 3, implementation=implementation)
        inputs = keras.Input((3, 4, 3))
        model = keras.Model(inputs, layer(inputs))
        weights.randomise(model)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        # The last batch is of one.
        model.fit(x, y, batch_size=2, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_by_hand():
    layer = layers.RelativeSelfAttention2D(1, 1, use_bias=False, position_size=(1, 2))
    layer.build((None, 1, 2, 1))
    # A query of 1, a key of 0 and the value itself.
    layer.qkv.kernel.assign([[0.0, 0.0, 1.0]])
    layer.projection.kernel.assign([[1.0]])
    x = np.array([[[[1.0], [3.0]]]])
    np.testing.assert_allclose(np.ravel(layer(x)), [2.0, 2.0], rtol=1e-6)
    layer.qkv.kernel.assign([[1.0, 0.0, 1.0]])
    layer.column_embeddings.assign([[0.0], [0.0], [np.log(3.0)]])
    layer.row_embeddings.assign([[0.0]])
    # The first looks at its neighbour to the right 3 times as much as at itself.
    ones = np.array([[[[1.0], [1.0]]]])
    looks = np.asarray(layer.attention_map(ones))[0, :, 0, 0]
    np.testing.assert_allclose(looks, [[0.25, 0.75], [0.5, 0.5]], rtol=1e-6)


def rolled(x):
    """Moves a map by one row down and two columns to the right; zeros come in."""
    moved = np.zeros_like(x)
    moved[:, 1:, 2:] = x[:, :-1, :-2]
    return moved


@pytest.mark.parametrize("positions", [None, "relative", "sinusoidal", "coordinates", "absolute"])
def test_only_relative_positions_move_with_the_image(positions):
    layer, _, x = made((1, 5, 6, 4), num_heads=2, key_dim=3, positions=positions, use_bias=False)
    x = x * np.pad(np.ones((1, 3, 3, 1)), ((0, 0), (1, 1), (1, 2), (0, 0)))
    before = np.asarray(layer.attention_map(x, queries=[(2, 2)]))[0, 0]
    after = np.asarray(layer.attention_map(rolled(x), queries=[(3, 4)]))[0, 0]
    # How much more a position is looked at than another; borders take part in no such ratio.
    before = np.log(before / before[:, 1:2, 1:2])[:, 1:4, 1:4]
    after = np.log(after / after[:, 2:3, 3:4])[:, 2:5, 3:6]
    moves = np.abs(before - after).max() < 1e-3
    assert moves == (positions in (None, "relative"))


def test_without_positions_any_order_is_alike():
    layer, _, x = made((1, 3, 4, 2), num_heads=2, key_dim=3, positions=None)
    order = np.random.default_rng(3).permutation(12)

    def mixed(x):
        return np.reshape(np.reshape(x, (1, 12, 2))[:, order], (1, 3, 4, 2))

    assert_near(layer(mixed(x)), mixed(np.asarray(layer(x))))


@pytest.mark.parametrize("positions", ["sinusoidal", "coordinates", "absolute"])
def test_what_positions_add_to_the_inputs(positions):
    layer, values, x = made((2, 3, 2, 5), num_heads=1, key_dim=3, positions=positions)
    found = np.array(x)
    if positions == "absolute":
        for i, j in np.ndindex(3, 2):
            found[:, i, j] += values["row_embeddings"][i] + values["column_embeddings"][j]
    elif positions == "coordinates":
        found = np.zeros((2, 3, 2, 8))
        for i, j in np.ndindex(3, 2):
            row, column = (-1, 0, 1)[i], (-1, 1)[j]
            found[:, i, j] = [[*p, row, column, np.hypot(row, column)] for p in x[:, i, j]]
    else:
        # Two channels for rows, three for columns.
        for i, j in np.ndindex(3, 2):
            rate = 10000 ** (-2 / 3)
            of_column = [np.sin(j), np.cos(j), np.sin(j * rate)]
            found[:, i, j] += [np.sin(i), np.cos(i), *of_column]
    alone = layers.RelativeSelfAttention2D(1, 3, positions=None, dtype="float64")
    alone.build(found.shape)
    bias = values["qkv/bias"], values["projection/bias"]
    kernel = values["projection/kernel"]
    alone.qkv.set_weights([values["qkv/kernel"], bias[0]])
    wide = np.zeros((3, found.shape[3]))
    wide[..., :5] = kernel
    alone.projection.set_weights([wide, np.pad(bias[1], (0, found.shape[3] - 5))])
    expected = np.asarray(alone(found))[..., :5]
    # Sines are taken in float32.
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


SIZES = [(3, 4), (5, 6), (2, 9), (7, 4), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_other_sizes_have_the_centre_or_all_of_the_tables(size):
    arguments = {"num_heads": 2, "key_dim": 3, "position_size": (4, 5)}
    layer, values, x = made((2, *size, 3), **arguments)
    for name, side, built in zip(("row", "column"), size, (4, 5), strict=True):
        table = values[f"{name}_embeddings"]
        if side <= built:
            # The same offset, the same row.
            table = np.array([table[offset + built - 1] for offset in range(1 - side, side)])
        else:
            table = references.interpolated(table, 2 * side - 1)
        values[f"{name}_embeddings"] = table
    expected = references.relative_self_attention(x, values, 2, 3, 3)
    assert_near(layer(x), expected, 1e-4)


def of_unknown_sizes(positions, implementation):
    layer = layers.RelativeSelfAttention2D(
        2, 3, positions=positions, position_size=(4, 5), implementation=implementation
    )
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layer(inputs))
    weights.randomise(model)
    return model


UNKNOWN = [("relative", "plain"), ("absolute", "plain"), ("relative", "parts"), (None, "parts")]


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(("positions", "implementation"), UNKNOWN)
def test_sizes_unknown_when_traced_are_as_known_ones(positions, implementation, jit_compile):
    model = of_unknown_sizes(positions, implementation)
    model.compile(jit_compile=jit_compile)
    for size in SIZES:
        x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
        expected = np.asarray(model.layers[-1](x))
        found = model.predict_on_batch(x)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=str(size))


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("positions", ["relative", None])
def test_parts_of_unknown_sizes_learn_as_the_plain_formula(positions, jit_compile):
    parts, plain = (of_unknown_sizes(positions, form) for form in ("parts", "plain"))
    plain.set_weights(parts.get_weights())
    parts.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=jit_compile)
    plain.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=True, jit_compile=False)
    for size in ((3, 4), (5, 6)):
        x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
        for model in (parts, plain):
            model.train_on_batch(x, np.ones_like(x))
        for found, expected in zip(parts.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["relative", "absolute"])
@pytest.mark.parametrize("size", [(3, 4), (6, 9)])
def test_weights_of_another_size_say_what_the_saved_ones_say(size, positions, tmp_path):
    shape = (1, *size, 3)
    arguments = {"num_heads": 2, "key_dim": 3, "positions": positions}
    x = np.random.default_rng(0).normal(size=shape).astype("float32")

    def model(side, **more):
        inputs = keras.Input((*side, 3))
        layer = layers.RelativeSelfAttention2D(**arguments, **more, name="attention")
        return keras.Model(inputs, layer(inputs))

    saved = model((5, 6))
    weights.randomise(saved)
    saved.save_weights(tmp_path / "model.weights.h5")
    other = model(size)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(other(x), saved.layers[-1](x), rtol=1e-4, atol=1e-5)
    if size == (6, 9):
        strict = model(size, interpolate_positions=False)
        with pytest.raises(ValueError, match="larger than the layer's `position_size`"):
            strict.load_weights(tmp_path / "model.weights.h5")


def test_a_larger_map_is_refused_where_nothing_may_be_interpolated():
    arguments = {"num_heads": 1, "key_dim": 2, "position_size": 3, "interpolate_positions": False}
    layer = layers.RelativeSelfAttention2D(**arguments)
    message = "must not be larger than the layer's `position_size`"
    assert layer(np.zeros((1, 2, 3, 4))).shape == (1, 2, 3, 4)
    for call in (layer, layers.RelativeSelfAttention2D(**arguments)):
        with pytest.raises(ValueError, match=message):
            call(np.zeros((1, 3, 4, 4)))
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, layer(inputs))
    small = np.random.default_rng(0).normal(size=(1, 2, 1, 4)).astype("float32")
    np.testing.assert_allclose(model.predict(small, verbose=0), layer(small), atol=1e-5)
    # TensorFlow says it of a graph that runs, with an error of its own.
    with pytest.raises(Exception, match="must not be larger than the layer"):
        model.predict(np.zeros((1, 4, 3, 4)), verbose=0)


def test_heads_in_half_precision_take_their_softmax_in_float32():
    layer = layers.RelativeSelfAttention2D(1, 1, positions=None, use_bias=False, dtype="float16")
    layer.build((1, 50, 50, 1))
    layer.qkv.kernel.assign([[0.0, 0.0, 1.0]])
    layer.projection.kernel.assign([[1.0]])
    # All 2,500 weigh alike; a sum of so many in float16 is 2,048 at most.
    looks = np.asarray(layer.attention_map(np.ones((1, 50, 50, 1)), queries=[(0, 0)]))
    np.testing.assert_allclose(looks, 1 / 2500, rtol=2e-3)


WRONG = [
    ({"num_heads": 0}, ValueError, "`num_heads` must be a positive integer. Received: num_heads=0"),
    ({"key_dim": 1.5}, TypeError, "`key_dim` must be a positive integer"),
    ({"value_dim": 0}, ValueError, "`value_dim` must be a positive integer"),
    ({"positions": "both"}, ValueError, "`positions` must be one of None, 'relative', "),
    ({"position_size": 0}, ValueError, "`position_size` must be a positive integer"),
    ({"position_size": (3,)}, TypeError, "`position_size` must be a pair of positive integers"),
    ({"interpolate_positions": "no"}, TypeError, "`interpolate_positions` must be True or False"),
    (
        {"implementation": "fast"},
        ValueError,
        "`implementation` must be one of 'auto', 'plain', 'parts'",
    ),
    ({"use_bias": 1}, TypeError, "`use_bias` must be True or False"),
    ({"kernel_initializer": "no"}, ValueError, "`kernel_initializer` must be one of `keras"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        layers.RelativeSelfAttention2D(**{"num_heads": 2, "key_dim": 4, **arguments})


def test_a_table_needs_a_size():
    message = "must be known. Received: a map of .None, 5.. Give `position_size`"
    with pytest.raises(ValueError, match=message):
        layers.RelativeSelfAttention2D(2, 4)(keras.Input((None, 5, 3)))


@pytest.mark.parametrize(
    ("queries", "error", "message"),
    [
        ([], ValueError, "at least one. Received"),
        ([(0, 3)], ValueError, "must lie on the map .*the query .0, 3. on a map of .2, 3."),
        ([(0, -1)], ValueError, "pair of integers from 0 on"),
        ([(0, 1, 2)], ValueError, "must be pairs of a row and a column"),
        ((0, 1), TypeError, "must be a list or tuple"),
        ("00", TypeError, "`queries` must be a list or tuple"),
    ],
)
def test_refuses_queries(queries, error, message):
    layer = layers.RelativeSelfAttention2D(2, 4)
    with pytest.raises(error, match=message):
        layer.attention_map(np.zeros((1, 2, 3, 4)), queries=queries)


def test_cost():
    # 6 positions: 4 channels to 2 * (3 + 3 + 2) and back from 4; all pairs of keys and of values;
    # each query with 2 rows and 3 columns.
    layer = layers.RelativeSelfAttention2D(2, 3, value_dim=2)
    assert layer.multiply_adds((None, 2, 3, 4)) == 6 * (4 * 16 + 4 * 4) + 6 * 6 * 10 + 6 * 5 * 6
