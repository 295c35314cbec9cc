"""Gradients on TensorFlow; see the package."""

import tensorflow as tf


def compiled(function, model, *inputs):
    traced = tf.function(
        function,
        input_signature=[tf.TensorSpec(x.shape, x.dtype) for x in inputs],
        autograph=False,
    )
    # Traced now: TensorFlow warns where a function that is made often is traced by being called.
    concrete = traced.get_concrete_function()
    return lambda *arrays: concrete(
        *(tf.cast(array, x.dtype) for array, x in zip(arrays, inputs, strict=True))
    )


def vjp(function, *inputs):
    def watch(structure):
        # Keras' variables are tensors to TensorFlow, and not to a tape.
        tensors = [x for x in tf.nest.flatten(structure) if isinstance(x, tf.Tensor)]
        tape.watch([x for x in tensors if x.dtype.is_floating])

    with tf.GradientTape(persistent=True) as tape:
        outputs, tensors, others = function(watch, *inputs)
    return outputs, tensors, others, lambda upstream: tape.gradient(outputs, tensors, upstream)


def jvp(function, x):
    with tf.autodiff.ForwardAccumulator(x, x) as accumulator:
        outputs = function(x)
    zero = tf.UnconnectedGradients.ZERO
    return outputs, accumulator.jvp(outputs, unconnected_gradients=zero)


def scope():
    return tf.compat.v1.get_default_graph()


def is_traced(x):
    return tf.is_tensor(x) and getattr(x, "graph", None) is scope()
