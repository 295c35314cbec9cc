"""What everything must do that stands between stages: blocks, and gates, which may stand there."""

import functools

import keras

from keras_fmm import layers, protocols
from tests.support.layer_table import FIRST_ROWS, over, rows_of

blocks = over(rows_of("gate", "block", rows=FIRST_ROWS))


@blocks
def test_gives_a_map_of_the_shape_it_takes(row):
    layer = layers.get_block(functools.partial(row.layer, **row.arguments), name="between")
    assert layer.name == "between"
    shape = row.input_shape[1:] if row.sizes == "fixed" else (None, None, row.input_shape[3])
    inputs = keras.Input(shape)
    assert layer(inputs).shape == inputs.shape


@blocks
def test_says_what_it_costs_and_how_it_joins_a_trained_network(row):
    layer = row.make()
    for protocol in (protocols.HasCost, protocols.StartsAsIdentity):
        assert isinstance(layer, protocol), (
            f"Give {row.layer.__name__} the method of `keras_fmm.protocols.{protocol.__name__}`."
        )
