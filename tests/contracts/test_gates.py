"""What every gate must do beside what every layer must."""

import keras
import numpy as np
import pytest

from tests.support import gradients, weights
from tests.support.layer_table import FIRST_ROWS, over, rows_of

gates = over(rows_of("gate"))
# What each activation gives at 0; a sigmoid may become `twice_sigmoid`.
AT_ZERO = {"exponential": 1, "tanh": 0, "hard_sigmoid": 0.5, "softplus": np.log(2)}


def neutral(row, **arguments):
    """A gate whose activation can give what makes it the identity."""
    if row.neutral == 0:
        arguments["gate_activation"] = "tanh"
    return row.make(**arguments)


@gates
@pytest.mark.parametrize(
    ("policy", "data_format"),
    [
        ("mixed_float16", "channels_last"),
        ("float32", "channels_first"),
        ("mixed_float16", "channels_first"),
    ],
)
def test_outputs_are_inputs_merged_with_the_attention_map(row, policy, data_format):
    layer = row.make(dtype=policy, data_format=data_format)
    inputs = row.example(dtype="float16").astype("float32")
    if data_format == "channels_first":
        inputs = inputs.transpose(0, 3, 1, 2)
    # The map comes first: it builds and casts by itself.
    gate = np.asarray(layer.attention_map(inputs)).astype("float32")
    merged = inputs + gate if layer.merge == "add" else inputs * gate
    np.testing.assert_allclose(
        np.asarray(layer(inputs)).astype("float32"), merged, rtol=2e-3, atol=2e-3
    )


@gates
def test_starts_as_the_identity_and_learns(row):
    layer = neutral(row)
    inputs = row.example()
    with pytest.raises(ValueError, match="Only a built gate can start as the identity"):
        layer.start_as_identity()
    layer.build(inputs.shape)
    # Positive, no hidden unit is off.
    weights.randomise(layer, positive=True)
    layer.start_as_identity()
    np.testing.assert_array_equal(np.asarray(layer(inputs)), inputs)
    for training in (True, False):
        np.testing.assert_allclose(np.asarray(layer(inputs, training=training)), inputs, atol=1e-6)
    zeros = {
        name
        for name, weight in zip(weights.names(layer), layer.get_weights(), strict=True)
        if (weight == 0).all() and "moving" not in name
    }
    assert zeros == set(row.zeros)
    _, *found = gradients.of_layer(layer, abs(inputs), np.ones(inputs.shape, "float32"))
    moved = {
        variable.path.split("/", 1)[1]
        for variable, gradient in zip(layer.trainable_variables, found, strict=True)
        if np.abs(gradient).max() > 1e-5
    }
    assert moved == set(row.zeros)


@over(rows_of("gate", rows=FIRST_ROWS))
def test_starts_as_the_identity_channels_first_and_is_saved_so(row, tmp_path):
    layer = neutral(row, data_format="channels_first")
    inputs = row.example().transpose(0, 3, 1, 2)
    tensor = keras.Input(inputs.shape[1:])
    model = keras.Model(tensor, layer(tensor))
    weights.randomise(layer)
    layer.start_as_identity()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), inputs)


@gates
@pytest.mark.parametrize("activation", AT_ZERO)
def test_starts_as_the_identity_only_where_the_activation_is_neutral_at_zero(row, activation):
    layer = row.make_built(gate_activation=activation)
    chosen = keras.activations.get(activation)
    if AT_ZERO[activation] == row.neutral:
        layer.start_as_identity()
        np.testing.assert_array_equal(layer(row.example()), row.example())
    else:
        weights.randomise(layer)
        before = layer.get_weights()
        message = rf"is [01]. Received: {activation} as the .* differ from its inputs by up to"
        with pytest.raises(ValueError, match=message):
            layer.start_as_identity()
        for old, new in zip(before, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    assert layer.gate_activation is chosen
