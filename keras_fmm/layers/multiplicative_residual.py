"""The FMM paper's residual connection: a product in the place of the sum."""

import math

import keras

from keras_fmm.layers.feature_map import CastInputsMixin


@keras.saving.register_keras_serializable(package="keras_fmm")
class MultiplicativeResidual(CastInputsMixin, keras.layers.Multiply):
    """Multiplies a residual branch with its shortcut: `outputs = F(x) * x`.

    It stands where a residual block has `keras.layers.Add`. Unlike `keras.layers.Multiply` it
    refuses shapes that would broadcast, as far as they are known when it is traced. A chain of
    them explodes: the FMM paper could not train more than seven blocks.

    Args:
        **kwargs: the arguments of `keras.layers.Layer`.

    Input shape:
        A list of two tensors, `[branch, shortcut]`, of one shape; sizes may be unknown. Of any real
        dtype, integers and bools too: they are cast to the layer's compute dtype, which the outputs
        have.

    Output shape:
        That of either input.

    Example:

    >>> import keras, numpy as np
    >>> branch, shortcut = np.array([[1.0, 2.0]]), np.array([[3.0, -1.0]])
    >>> keras.ops.convert_to_numpy(MultiplicativeResidual()([branch, shortcut])).tolist()
    [[3.0, -2.0]]

    Reference:
        Ye, He, Wang, Li, "Towards Understanding the Effectiveness of Attention Mechanism".
        https://arxiv.org/abs/2106.15067
    """

    def build(self, input_shape):
        _check_same_shape(input_shape)
        super().build(input_shape)

    def call(self, inputs):
        # Again for each call: a layer built with unknown sizes meets the real ones only here.
        _check_same_shape([tuple(tensor.shape) for tensor in inputs])
        return super().call(self.cast_inputs(inputs))

    def multiply_adds(self, input_shape):
        """Returns the multiply-adds of one sample: one for each entry.

        Args:
            input_shape: list of two tuples, the batch first and ignored, the rest known.

        Raises:
            ValueError: a size is not known, or the shapes differ.
        """
        _check_same_shape(input_shape)
        sizes = input_shape[0][1:]
        if None in sizes:
            raise ValueError(
                "The cost of MultiplicativeResidual depends on the sizes of its inputs, which "
                f"must be known. Received: input_shape={input_shape}"
            )
        return math.prod(sizes)


def _check_same_shape(shapes):
    is_list = isinstance(shapes, (list, tuple)) and all(
        isinstance(shape, (list, tuple)) for shape in shapes
    )
    if not is_list or len(shapes) != 2:
        raise ValueError(
            "MultiplicativeResidual must be called on a list of two tensors, [branch, shortcut]. "
            f"Received: input_shape={shapes}"
        )
    branch, shortcut = shapes
    same = len(branch) == len(shortcut) and all(
        a is None or b is None or a == b for a, b in zip(branch, shortcut, strict=True)
    )
    if not same:
        raise ValueError(
            "The branch and the shortcut of MultiplicativeResidual must have one shape. "
            f"Received: input_shape={shapes}. Project the shortcut with a 1x1 convolution."
        )
    if 0 in branch[1:] or 0 in shortcut[1:]:
        raise ValueError(
            "No size of the branch and the shortcut of MultiplicativeResidual but the batch may "
            f"be 0. Received: input_shape={shapes}"
        )
