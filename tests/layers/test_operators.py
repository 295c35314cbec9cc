"""What a layer adds to the graph of a training step: operators, and maps that are held."""

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("counts TensorFlow's operators", allow_module_level=True)

import tensorflow as tf

from keras_fmm import layers
from keras_fmm.ops.devices import on_accelerator

# Keras 3.15 and TensorFlow 2.21 make 38, 49, 159 and 151 of them; other versions may a few more.
# Five of CBAM's have its maximum over space say what is not finite.
MOST = [
    (layers.EfficientChannelAttention, {}, 42),
    (layers.SqueezeExcite, {}, 54),
    (layers.CBAM, {}, 163),
    (layers.AWConv2D, {"filters": 128, "kernel_size": 1}, 160),
]


@pytest.mark.parametrize(("kind", "arguments", "most"), MOST)
def test_a_training_step_has_few_operators(kind, arguments, most):
    layer = kind(**arguments)
    layer.build((16, 6, 6, 128))

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
        return tape.gradient(outputs, [x, *layer.trainable_variables], outputs)

    traced = tf.function(step, autograph=False)
    graph = traced.get_concrete_function(tf.TensorSpec((16, 6, 6, 128))).graph
    assert len(graph.get_operations()) <= most


GATES = [
    layers.SqueezeExcite,
    layers.EfficientChannelAttention,
    layers.ChannelAttention,
    layers.SpatialAttention,
    layers.CBAM,
]


@pytest.mark.parametrize("kind", GATES)
def test_a_gate_holds_its_inputs_alone_until_its_gradient(kind):
    if kind is layers.CBAM and on_accelerator():
        pytest.skip("products are TensorFlow's own there")
    layer = kind()
    shape = (4, 8, 8, 32)
    layer.build(shape)

    def step(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
        return tape.gradient(outputs, [x, *layer.trainable_variables], upstream)

    traced = tf.function(step, autograph=False)
    graph = traced.get_concrete_function(tf.TensorSpec(shape), tf.TensorSpec(shape)).graph
    inputs, upstream = graph.inputs[:2]
    # What cannot run before the gradient of the outputs is there.
    later = {upstream.op}
    for operation in graph.get_operations():
        if later & {x.op for x in operation.inputs} | later & set(operation.control_inputs):
            later.add(operation)
    taken = {original(x).ref() for operation in later for x in operation.inputs}
    maps = {x for x in taken if x.deref().shape == shape and x.deref().op not in later}
    assert maps == {inputs.ref()}


def original(x):
    """Returns what a tensor is another name of."""
    while x.op.type in ("Identity", "IdentityN"):
        x = x.op.inputs[x.value_index]
    return x
