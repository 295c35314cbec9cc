"""What every layer does with nothing: no channels, rows or columns, or no image."""

import keras
import numpy as np
import pytest

from tests.support import gradients
from tests.support.layer_table import each, every_row


def without(shape, axis):
    return tuple(0 if i == axis else size for i, size in enumerate(shape))


@pytest.mark.parametrize("axis", [1, 2, 3])
@every_row
def test_a_map_without_entries_is_refused_when_built(row, axis):
    shape = without(row.input_shape, axis)
    with pytest.raises(ValueError, match=r"(at least one row|No size).*Received: input_shape="):
        row.make().build(shape if row.inputs == 1 else [shape] * row.inputs)


@every_row
def test_a_map_without_rows_is_refused_when_called(row):
    if row.sizes == "fixed":
        pytest.skip("built for one size")
    batch, height, width, channels = row.input_shape
    shape = (None, None, None, channels)
    layer = row.make()
    layer.build(shape if row.inputs == 1 else [shape] * row.inputs)
    with pytest.raises(ValueError, match="at least one row|No size"):
        layer(row.example(shape=(batch, 0, width, channels)))


@every_row
def test_a_batch_without_an_image_trains_nothing(row):
    """As a replica meets it where the last batch has fewer images than there are replicas."""
    layer = row.make_built()
    shape = layer.compute_output_shape(row.input_shapes)
    kept = [np.asarray(weight) for weight in layer.non_trainable_variables]
    inputs = row.example(shape=without(row.input_shape, 0))

    def loss(*weights):
        others = [weight.value for weight in layer.non_trainable_variables]
        outputs, _ = layer.stateless_call(weights, others, inputs, training=True)
        assert tuple(outputs.shape) == (0, *shape[1:])
        return keras.ops.sum(outputs)

    weights = [np.asarray(weight) for weight in layer.trainable_variables]
    if weights:
        for gradient in gradients.of_function(loss, weights):
            np.testing.assert_array_equal(gradient, 0)
    tensors = each(keras.ops.convert_to_tensor, inputs)
    assert tuple(layer(tensors, training=True).shape) == (0, *shape[1:])
    for weight, before in zip(layer.non_trainable_variables, kept, strict=True):
        np.testing.assert_allclose(np.asarray(weight), before, rtol=1e-6)
    after = layer(row.example(), training=True)
    assert np.isfinite(keras.ops.convert_to_numpy(after)).all()
