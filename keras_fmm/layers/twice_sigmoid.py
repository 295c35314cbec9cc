"""The gate activation of layers that start as the identity."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_fmm")
def twice_sigmoid(x):
    """Returns `2 * sigmoid(x)`: 1 at 0, where its slope is 1/2.

    A gate with it, and zeros before it, multiplies by 1 and still learns; a sigmoid comes near 1
    only where it has no slope. Give it to a gate as `gate_activation`; a saved model finds it
    again after `import keras_fmm`.

    Args:
        x: float tensor.

    Returns:
        Tensor of the shape and dtype of `x`, between 0 and 2.

    Example:

    >>> import keras, numpy as np
    >>> keras.ops.convert_to_numpy(twice_sigmoid(np.array([-20.0, 0.0, 20.0]))).round(3).tolist()
    [0.0, 1.0, 2.0]
    """
    return ops.sigmoid(x) * 2
