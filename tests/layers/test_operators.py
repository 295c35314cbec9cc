"""How many operators a layer adds to the graph of a training step: each takes time to trace."""

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("counts TensorFlow's operators", allow_module_level=True)

import tensorflow as tf

from keras_fmm import layers

# Keras 3.15 and TensorFlow 2.21 make 38, 49, 144 and 153 of them; other versions may a few more.
MOST = [
    (layers.EfficientChannelAttention, {}, 42),
    (layers.SqueezeExcite, {}, 54),
    (layers.CBAM, {}, 150),
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
