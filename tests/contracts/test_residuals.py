"""What everything must do that merges a residual branch with its shortcut."""

import functools

import keras
import numpy as np
import pytest

from keras_fmm import layers
from tests.support.layer_table import over, rows_of

residuals = over(rows_of("residual"))


@residuals
@pytest.mark.parametrize("shape", [(5, 6, 4), (None, None, 4), (4,)])
def test_takes_two_tensors_of_one_shape_and_gives_that_shape(row, shape):
    layer = layers.get_residual(functools.partial(row.layer, **row.arguments), name="merge")
    assert layer.name == "merge"
    branch, shortcut = keras.Input(shape), keras.Input(shape)
    assert layer([branch, shortcut]).shape == (None, *shape)


@residuals
def test_both_branches_learn(row):
    layer = row.make()
    a, b = (keras.Input(row.input_shape[1:]) for _ in range(2))
    sides = [keras.layers.Dense(4, name=name) for name in ("branch", "shortcut")]
    model = keras.Model([a, b], layer([sides[0](a), sides[1](b)]))
    # A weight of 0 that holds the branch off learns first.
    for weight in layer.weights:
        weight.assign(np.ones(weight.shape))
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() == "tensorflow")
    before = [side.get_weights()[0] for side in sides]
    model.train_on_batch(row.example(), np.ones(row.input_shape, "float32"))
    for old, side in zip(before, sides, strict=True):
        assert (side.get_weights()[0] != old).any()
