"""Gradients on whichever backend runs, as NumPy arrays."""

import keras
import numpy as np


def of_function(function, arrays):
    """Returns the gradients of a function that gives a scalar tensor, one for each array."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            loss = function(*tensors)
        # The gradient of a lookup, which vectorized_map makes, is sparse until converted.
        found = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, tensors)]
    elif keras.backend.backend() == "torch":
        import torch

        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        found = torch.autograd.grad(function(*tensors), tensors)
    else:
        import jax

        # Compiled as a whole: operation by operation takes longer.
        found = jax.jit(jax.grad(function, argnums=tuple(range(len(arrays)))))(*arrays)
    return [keras.ops.convert_to_numpy(gradient) for gradient in found]


def of_gradient(function, arrays, vectors):
    """Returns the second derivatives of a scalar function along `vectors`, as `of_function` does.

    They are the gradients of `sum(vector * gradient of function)`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def along(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(*tensors)
            found = tape.gradient(value, tensors)
            return sum(keras.ops.sum(g * v) for g, v in zip(found, vectors, strict=True))
    elif keras.backend.backend() == "torch":
        import torch

        def along(*tensors):
            found = torch.autograd.grad(function(*tensors), tensors, create_graph=True)
            return sum(
                keras.ops.sum(keras.ops.multiply(*x)) for x in zip(found, vectors, strict=True)
            )
    else:
        import jax

        def along(*tensors):
            found = jax.grad(function, argnums=tuple(range(len(tensors))))(*tensors)
            return sum(keras.ops.sum(g * v) for g, v in zip(found, vectors, strict=True))

    return of_function(along, arrays)


def of_layer(layer, inputs, cotangent, training=False):
    """Returns the gradients of sum(cotangent * layer(inputs)): of the inputs, of each weight.

    Args:
        layer: a built layer of one input.

    Returns:
        A list: the inputs' gradient, and that of each of `layer.trainable_variables`.
    """
    others = [variable.value for variable in layer.non_trainable_variables]

    def loss(x, *weights):
        outputs, _ = layer.stateless_call(weights, others, x, training=training)
        return keras.ops.sum(keras.ops.multiply(outputs, cotangent))

    weights = [np.asarray(weight.value) for weight in layer.trainable_variables]
    return of_function(loss, [inputs, *weights])


def along(function, arrays, directions, step=1e-6):
    """Returns the derivative of a scalar function along directions, by central differences."""
    ahead = function([a + step * d for a, d in zip(arrays, directions, strict=True)])
    behind = function([a - step * d for a, d in zip(arrays, directions, strict=True)])
    return (ahead - behind) / (2 * step)
