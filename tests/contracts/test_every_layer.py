"""What every layer must do, over the table of all layers, on every backend."""

import inspect
import itertools
import json

import keras
import numpy as np
import pytest

from keras_fmm import layers, protocols
from keras_fmm.export.tflite.conversion import integer_forms
from tests.support import side_by_side, weights
from tests.support.layer_table import (
    FIRST_ROWS,
    ROWS,
    Row,
    each,
    every_layer,
    every_row,
    label,
    over,
)

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


@every_row
def test_config_survives_build_and_json(row):
    layer = row.make()
    before = layer.get_config()
    layer.build(row.input_shapes)
    assert layer.get_config() == before
    again = row.layer.from_config(json.loads(json.dumps(before)))
    # JSON turns tuples into lists, which the constructors take back.
    assert again.get_config() == before


@every_row
def test_arguments_are_attributes_and_config_keys(row):
    layer = row.make()
    config = layer.get_config()
    parameters = inspect.signature(row.layer.__init__).parameters.values()
    named = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD} - {"self"}
    for name in named | set(row.arguments):
        assert name in config
        assert hasattr(layer, name)


@every_row
def test_registered_name(row):
    name = f"keras_fmm>{row.layer.__name__}"
    assert keras.saving.get_registered_object(name) is row.layer


@every_row
def test_build_makes_the_weights_of_the_table(row):
    built, called = row.make(), row.make()
    built.build(row.input_shapes)
    called(row.example())
    for layer in (built, called):
        shapes = {
            name: tuple(variable.shape)
            for name, variable in zip(weights.names(layer), layer.weights, strict=True)
        }
        assert list(shapes.items()) == list(row.weights.items())


@every_row
def test_symbolic_and_eager_calls_agree(row):
    layer = row.make()
    eager = np.asarray(layer(row.example()))
    assert eager.shape == tuple(layer.compute_output_shape(row.input_shapes))
    assert row.model(layer, unknown_sizes=False).output.shape[1:] == eager.shape[1:]
    assert row.model(layer).output.shape[3:] == eager.shape[3:]


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("unknown_sizes", [pytest.param(False, marks=pytest.mark.slow), True])
def test_eager_and_compiled_calls_agree(unknown_sizes):
    def check(rows):
        model, inputs, _ = side_by_side.model(rows, 3, unknown_sizes)
        eager = keras.tree.flatten(model(inputs))
        model.compile(jit_compile=True)
        compiled = model.predict_on_batch(inputs)
        for row, one, other in zip(rows, keras.tree.flatten(compiled), eager, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, err_msg=label(row))

    side_by_side.together(ROWS, check)


@every_row
def test_other_sizes_than_built_for(row):
    layer = row.make()
    layer(row.example())
    weights.randomise(layer)
    other = row.make()
    inputs = row.example(shape=row.other_shape)
    other(inputs)
    other.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(inputs), other(inputs), atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16])
@every_row
def test_the_form_for_integers_says_the_same(row, bits):
    layer = row.make()
    inputs = row.example()
    expected = np.asarray(layer(inputs))
    with integer_forms(layer, bits):
        np.testing.assert_allclose(layer(inputs), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layer(inputs), expected)


@every_row
def test_samples_do_not_meet_at_inference(row):
    layer = row.make()
    inputs = row.example()
    layer(inputs)
    weights.randomise(layer)
    whole = np.asarray(layer(inputs, training=False)) if row.weights else np.asarray(layer(inputs))
    for n in range(row.input_shape[0]):
        alone = layer(each(lambda array, n=n: array[n : n + 1], inputs))
        np.testing.assert_allclose(np.asarray(alone)[0], whole[n], atol=1e-5, rtol=1e-5)


# Each layer once is the fast part of XLA on TensorFlow. On JAX all go through it: without, every
# operation is compiled by itself.
OTHER_ROWS = [row for row in ROWS if row not in FIRST_ROWS]
ON_XLA = [
    pytest.param(FIRST_ROWS, True, marks=pytest.mark.slow, id="first-xla"),
    pytest.param(OTHER_ROWS, True, marks=pytest.mark.slow, id="others-xla"),
]


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize(
    ("rows", "jit_compile"),
    [(ROWS, False), *ON_XLA] if ON_TENSORFLOW else [(ROWS, True)],
    ids=lambda value: f"xla-{value}" if isinstance(value, bool) else f"{len(value)}-rows",
)
def test_one_step_of_fit_moves_every_weight(rows, jit_compile):
    def check(rows):
        model, inputs, _ = side_by_side.model(rows, batch=3)
        weights.randomise(model, positive=True)
        before = [np.asarray(variable.value) for variable in model.trainable_variables]
        model.compile(keras.optimizers.SGD(0.1), ["mse"] * len(rows), jit_compile=jit_compile)
        inputs = [abs(array) for array in inputs]
        targets = [np.ones(y.shape, "float32") for y in keras.tree.flatten(model(inputs))]
        history = model.fit(inputs, targets, batch_size=3, verbose=0)
        assert np.isfinite(history.history["loss"][0])
        for old, variable in zip(before, model.trainable_variables, strict=True):
            new = np.asarray(variable.value)
            assert np.isfinite(new).all(), variable.path
            # More than rounding does where there is no gradient.
            assert np.abs(new - old).max() > 1e-5, variable.path

    side_by_side.together([row for row in rows if row.weights], check)


POLICIES = {"mixed_float16": 4e-3, "mixed_bfloat16": 4e-2}


@pytest.mark.parametrize("policy", POLICIES if ON_TENSORFLOW else ["mixed_float16"])
@every_layer
def test_mixed_precision(row, policy):
    plain, mixed = row.make(), row.make(dtype=policy)
    inputs = row.example()
    expected = np.asarray(plain(inputs))
    mixed(inputs)
    mixed.set_weights(plain.get_weights())
    outputs = mixed(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    assert {variable.dtype for variable in mixed.weights} <= {"float32"}
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(
        np.asarray(keras.ops.cast(outputs, "float32")), expected, atol=POLICIES[policy] * scale
    )
    if policy == "mixed_float16":
        # Whose loss is scaled, beside all that the other has.
        model = row.model(mixed)
        model.compile(keras.optimizers.SGD(0.01), "mse")
        loss = model.fit(inputs, expected, verbose=0).history["loss"][0]
        assert np.isfinite(loss)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="has float64 on request alone")
@every_row
def test_double_precision_is_kept(row):
    plain, double = row.make(), row.make(dtype="float64")
    inputs = row.example()
    expected = keras.ops.convert_to_numpy(plain(inputs))
    double(inputs)
    double.set_weights(plain.get_weights())
    outputs = double(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float64"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs), expected, rtol=1e-4, atol=1e-5)


@every_row
def test_saves_and_loads_without_custom_objects(row, tmp_path):
    layer = row.make()
    model = row.model(layer)
    weights.randomise(layer)
    inputs = row.example()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = row.model()
    fresh.load_weights(tmp_path / "model.weights.h5")
    for saved, restored in zip(model.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(saved.value), np.asarray(restored.value))


@every_row
@pytest.mark.parametrize("trainable", [True, False])
def test_only_training_moves_the_averages_of_batch_norm(row, trainable):
    """At no other time, not when the map is looked at, and not in a frozen layer."""
    layer = row.make(trainable=trainable)
    inputs = row.example()
    layer(inputs)
    if row.inputs > 1:
        assert all(weight.trainable == trainable for weight in layer.weights)
        return
    if isinstance(layer, protocols.HasAttentionMap):
        layer.attention_map(inputs)
    still = layer.get_weights()
    for weight, fresh in zip(still, row.make_built().get_weights(), strict=True):
        if weight.ndim == 1:
            np.testing.assert_array_equal(weight, fresh)
    layer(inputs, training=True)
    for old, variable in zip(still, layer.weights, strict=True):
        moved = (np.asarray(variable.value) != old).any()
        assert moved == (trainable and "moving" in variable.path), variable.path


@every_row
def test_a_frozen_model_is_frozen_when_it_is_loaded(row, tmp_path):
    model = row.model()
    model.trainable = False
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.trainable_variables
    inputs = row.example()
    outputs = loaded(inputs, training=True)
    np.testing.assert_allclose(outputs, model(inputs, training=True), atol=1e-6)


def own_weights(row, kind):
    """The indices of a layer's kernels or biases: those its arguments speak of."""
    found = [n for n, name in enumerate(row.weights) if name.split("/")[-1].endswith(kind)]
    # AWConv2D's speak of its own kernel and bias, not of those in its attention.
    own = [n for n in found if list(row.weights)[n] == kind]
    return own or found


@every_row
@pytest.mark.parametrize("kind", ["kernel", "bias"])
def test_initializers_and_regularizers_reach_the_weights(row, kind):
    config = row.make().get_config()
    initializer, regularizer = f"{kind}_initializer", f"{kind}_regularizer"
    if initializer in config:
        layer = row.make_built(**{initializer: keras.initializers.Constant(7.0)})
        sevens = [n for n, weight in enumerate(layer.get_weights()) if (weight == 7).all()]
        assert sevens == own_weights(row, kind)
    if regularizer in config:
        layer = row.make_built(**{regularizer: "l2"})
        regularized = [n for n, weight in enumerate(layer.weights) if weight.regularizer]
        assert regularized == own_weights(row, kind)


@every_row
def test_a_built_layer_refuses_other_channels(row):
    if row.inputs > 1:
        pytest.skip("takes any channels")
    layer = row.make()
    layer(row.example())
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value"):
        layer(row.example(shape=(*row.input_shape[:3], row.input_shape[3] + 1)))


with_data_format = over([row for row in ROWS if hasattr(row.make(), "data_format")])


@with_data_format
def test_channels_first_is_channels_last_transposed(row):
    last, first = row.make(), row.make(data_format="channels_first")
    inputs = row.example()
    last(inputs)
    weights.randomise(last)
    expected = np.asarray(last(inputs))
    transposed = each(lambda array: array.transpose(0, 3, 1, 2), inputs)
    first(transposed)
    first.set_weights(last.get_weights())
    outputs = np.asarray(first(transposed))
    np.testing.assert_allclose(outputs.transpose(0, 2, 3, 1), expected, atol=1e-5)
    shape = each(lambda array: array.shape, transposed)
    assert outputs.shape == tuple(first.compute_output_shape(shape))
    assert first.multiply_adds(shape) == last.multiply_adds(row.input_shapes)
    if not isinstance(first, protocols.HasAttentionMap):
        return
    for layer, array in ((first, transposed), (last, inputs)):
        symbolic = layer.attention_map(keras.Input(array.shape[1:]))
        assert symbolic.shape[1:] == layer.attention_map(array).shape[1:]


@over([row for row in ROWS if row.inputs == 1 and hasattr(row.make(), "data_format")])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 5, 4), r"must have rank 4.*Received: input_shape=\(2, 5, 4\)"),
        ((2, 5, 5, 5, 4), r"must have rank 4.*Received: input_shape=\(2, 5, 5, 5, 4\)"),
        (
            (2, 5, 5, None),
            r"channels of the input of .* must be known.*Received: input_shape=\(2, 5, 5, None\)",
        ),
    ],
)
def test_refuses_inputs_that_are_no_feature_maps(row, shape, message):
    with pytest.raises(ValueError, match=message):
        row.make()(keras.KerasTensor(shape))


@with_data_format
def test_refuses_an_unknown_data_format(row):
    with pytest.raises(ValueError, match="`data_format` must be one of 'channels_last'"):
        row.make(data_format="channels_middle")


@every_row
def test_cost_needs_known_sizes(row):
    shape = (None, None, None, 4)
    with pytest.raises(ValueError, match=r"must be known. Received: input_shape="):
        row.make().multiply_adds(shape if row.inputs == 1 else [shape] * row.inputs)


# float64 stands for the floats, which Keras casts by itself.
OTHER_DTYPES = ("uint8", "int32", "bool", "float64")


class Positive(layers.FeatureGate):
    """A user's own gate, whose map is of bools."""

    def compute_attention_map(self, inputs, training=None):
        return inputs > 0


OWN_GATE = Row(Positive, "gate", {}, (2, 5, 6, 4), {})


@over([*ROWS, OWN_GATE])
@pytest.mark.parametrize(
    "dtype", ["uint8", pytest.param("int32", marks=pytest.mark.slow), "bool", "float64"]
)
def test_maps_of_any_real_dtype_are_taken_as_floats(row, dtype):
    inputs = each(lambda array: abs(3 * array).astype(dtype), row.example())
    layer = row.make()
    outputs = layer(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    expected = layer(each(lambda array: array.astype("float32"), inputs))
    np.testing.assert_array_equal(outputs, expected)
    symbols = [keras.Input(row.input_shape[1:], dtype=dtype) for _ in range(row.inputs)]
    symbols = symbols[0] if row.inputs == 1 else symbols
    assert layer(symbols).dtype == "float32"
    half = row.make(dtype="mixed_bfloat16")
    assert half(symbols).dtype == "bfloat16"
    assert keras.backend.standardize_dtype(half(inputs).dtype) == "bfloat16"
    if isinstance(layer, protocols.HasAttentionMap):
        assert layer.attention_map(symbols).dtype == "float32"
        assert keras.backend.standardize_dtype(layer.attention_map(inputs).dtype) == "float32"


@pytest.mark.slow_on_tensorflow
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_models_of_integers_compile_save_and_load(jit_compile, tmp_path):
    def check(rows):
        inputs, outputs, examples = [], [], []
        for row, dtype in zip(rows, itertools.cycle(OTHER_DTYPES[:3])):
            symbols = [keras.Input(row.input_shape[1:], dtype=dtype) for _ in range(row.inputs)]
            inputs += symbols
            outputs.append(row.make()(symbols[0] if row.inputs == 1 else symbols))
            example = each(lambda x, dtype=dtype: abs(3 * x).astype(dtype), row.example())
            # All of one batch.
            examples += each(lambda x: x[:2], example if row.inputs > 1 else [example])
        model = keras.Model(inputs, outputs)
        weights.randomise(model)
        floats = [array.astype("float32") for array in examples]
        expected = keras.tree.flatten(model(floats))
        model.compile(jit_compile=jit_compile)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        found = keras.tree.flatten(model.predict_on_batch(examples))
        again = keras.tree.flatten(loaded(examples))
        for row, one, two, other in zip(rows, found, again, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5, err_msg=label(row))
            np.testing.assert_allclose(two, other, atol=1e-5, err_msg=label(row))

    side_by_side.together(FIRST_ROWS, check)


@every_layer
@pytest.mark.parametrize("dtype", ["complex64", "string"])
def test_refuses_maps_that_are_no_real_numbers(row, dtype):
    layer = row.make()
    symbols = [keras.KerasTensor(row.input_shape, dtype) for _ in range(row.inputs)]
    message = f"inputs of {row.layer.__name__} must hold real numbers. Received: dtype {dtype}"
    with pytest.raises(TypeError, match=message):
        layer(symbols[0] if row.inputs == 1 else symbols)
    if dtype == "complex64":
        with pytest.raises(TypeError, match=message):
            layer(each(lambda array: array.astype(dtype), row.example()))


@every_layer
def test_refuses_several_maps_or_none(row):
    if row.inputs > 1:
        pytest.skip("takes several")
    for inputs in ([row.example()] * 4, {"a": row.example()}, None):
        with pytest.raises(ValueError, match="must have rank 4"):
            row.make()(inputs)
