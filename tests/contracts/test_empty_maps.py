"""What every layer does with nothing: no channels, rows or columns, or no image."""

import keras
import numpy as np
import pytest

from tests.support import calls, gradients
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
    batch, _, width, channels = row.input_shape
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
    training = {"training": True} if row.inputs == 1 and layer.weights else {}
    kept = [np.asarray(weight) for weight in layer.non_trainable_variables]
    inputs = row.example(shape=without(row.input_shape, 0))

    def loss(*weights):
        others = [weight.value for weight in layer.non_trainable_variables]
        outputs, _ = layer.stateless_call(weights, others, inputs, **training)
        assert tuple(outputs.shape) == (0, *shape[1:])
        return keras.ops.sum(outputs)

    weights = [np.asarray(weight) for weight in layer.trainable_variables]
    if weights:
        for gradient in gradients.of_function(loss, weights):
            np.testing.assert_array_equal(gradient, 0)

    def moved(weights, others, inputs):
        return layer.stateless_call(weights, others, inputs, **training)[1]

    tensors = each(keras.ops.convert_to_tensor, inputs)
    moved = calls.compiled(moved)(weights, kept, tensors)
    for weight, before in zip(moved, kept, strict=True):
        np.testing.assert_allclose(np.asarray(weight), before, rtol=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the others trace no unknown batch"
)
@every_row
def test_a_batch_of_unknown_size_may_have_no_image(row):
    """As `fit` traces a step; TensorFlow's own gradient of max-pooling ends the process here."""
    import tensorflow as tf

    layer = row.make_built()
    size = row.input_shape[1:]
    given = [tf.TensorSpec((None, *size))] * row.inputs

    @tf.function(input_signature=given, autograph=False)
    def step(*inputs):
        training = {"training": True} if row.inputs == 1 and layer.weights else {}
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs[0] if row.inputs == 1 else list(inputs), **training)
            loss = tf.reduce_sum(outputs)
        variables = [variable.value for variable in layer.trainable_variables]
        return tape.gradient(loss, [*inputs, *variables])

    kept = [np.asarray(weight) for weight in layer.non_trainable_variables]
    found = step(*[tf.zeros((0, *size))] * row.inputs)
    for gradient in found[row.inputs :]:
        np.testing.assert_array_equal(gradient, 0)
    for weight, before in zip(layer.non_trainable_variables, kept, strict=True):
        np.testing.assert_allclose(np.asarray(weight), before, rtol=1e-6)
