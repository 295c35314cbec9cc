"""Calls in one piece: JAX compiles operation by operation otherwise, which takes longer."""

import keras

ON_JAX = keras.backend.backend() == "jax"


def compiled(function):
    """Returns a function of tensors, on JAX compiled as a whole."""
    if ON_JAX:
        import jax

        return jax.jit(function)
    return function


def of_layer(layer, inputs, *calls):
    """Returns what calls of a built layer give, one after the other.

    On JAX those that train leave the layer's averages as they are.

    Args:
        layer: a built layer of one input.
        inputs: array.
        *calls: dict, the arguments of each call, such as `{"training": True}`.
    """
    if not ON_JAX:
        return [layer(inputs, **arguments) for arguments in calls]
    trainable = [variable.value for variable in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]

    def call(trainable, others, inputs):
        return [
            layer.stateless_call(trainable, others, inputs, **arguments)[0] for arguments in calls
        ]

    return compiled(call)(trainable, others, keras.ops.convert_to_tensor(inputs))
