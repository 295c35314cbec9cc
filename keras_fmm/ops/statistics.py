"""What gates compute with, cheap to differentiate: maxima and means of maps, products with them."""

from keras import ops

from keras_fmm import checks
from keras_fmm.ops import tensorflow_gradients
from keras_fmm.ops.devices import on_accelerator
from keras_fmm.ops.sums import at_least_float32, float_tensor


def spatial_mean(inputs, keepdims=False):
    """Returns the mean of each channel over space.

    TensorFlow's gradient of a mean divides the whole map; this one the mean's gradient.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.
        keepdims: bool, default False. Whether height and width stay, as 1.

    Returns:
        Tensor `(batch, channels)`, or `(batch, 1, 1, channels)`.

    Example:

    >>> import keras, numpy as np
    >>> image = np.arange(6, dtype="float32").reshape(1, 3, 1, 2)
    >>> keras.ops.convert_to_numpy(spatial_mean(image)).tolist()
    [[2.0, 3.0]]
    """
    keepdims = checks.flag("keepdims", keepdims)
    inputs = float_tensor("inputs", inputs)
    if tensorflow_gradients.is_native_tensorflow():
        return tensorflow_gradients.spatial_mean(inputs, keepdims)
    return ops.mean(inputs, axis=(1, 2), keepdims=keepdims)


def spatial_max(inputs):
    """Returns the largest entry of each channel over space.

    Where entries tie, they share the gradient equally. A map with NaN has NaN, but where TensorFlow
    compiles with XLA, whose maximum passes over it on a CPU; and in its graphs that are traced for
    a batch of one, as for TFLite files: there it is max-pooling with a window as large as the map,
    which begins with the lowest finite number.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.

    Returns:
        Tensor `(batch, channels)`.

    Example:

    >>> import keras, numpy as np
    >>> image = np.arange(6, dtype="float32").reshape(1, 3, 1, 2)
    >>> keras.ops.convert_to_numpy(spatial_max(image)).tolist()
    [[4.0, 5.0]]
    """
    inputs = float_tensor("inputs", inputs)
    if inputs.shape[0] == 0:
        # Of no image the means are as good, and Keras refuses a maximum of nothing.
        return spatial_mean(inputs)
    if None in inputs.shape[1:3] or not tensorflow_gradients.is_native_tensorflow():
        return ops.max(inputs, axis=(1, 2))
    return tensorflow_gradients.spatial_max(inputs)


def _can_be_pooled(inputs):
    batch, *size, _ = inputs.shape
    return tensorflow_gradients.is_native_tensorflow() and batch != 0 and None not in size


def spatial_mean_and_max(inputs):
    """Returns `spatial_mean` and `spatial_max`, of each sample one behind the other.

    What is the same for both, as a product with weights, is then taken once. On TensorFlow, where
    height and width are known, the maximum is max-pooling with a window as large as the map, which
    is faster for large maps; where that has the lowest finite number, or the mean is NaN, as of inf
    and -inf, it is the mean, but in graphs for a batch of one (see `spatial_max`).

    Args:
        inputs: float tensor `(batch, height, width, channels)`.

    Returns:
        Tensor `(2 * batch, channels)`.

    Example:

    >>> import keras, numpy as np
    >>> image = np.arange(6, dtype="float32").reshape(1, 3, 1, 2)
    >>> keras.ops.convert_to_numpy(spatial_mean_and_max(image)).tolist()
    [[2.0, 3.0], [4.0, 5.0]]
    """
    inputs = float_tensor("inputs", inputs)
    if _can_be_pooled(inputs):
        return tensorflow_gradients.spatial_mean_and_max(inputs)
    both = ops.stack([spatial_mean(inputs), spatial_max(inputs)], axis=1)
    return ops.reshape(both, (-1, inputs.shape[3]))


def channel_max_and_mean(inputs):
    """Returns the largest entry and the mean of each position over the channels.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.

    Returns:
        Two tensors `(batch, height, width, 1)`.

    Example:

    >>> import numpy as np
    >>> largest, mean = channel_max_and_mean(np.ones((1, 1, 1, 2), "float32") * (1, 4))
    >>> float(largest[0, 0, 0, 0]), float(mean[0, 0, 0, 0])
    (4.0, 2.5)
    """
    inputs = float_tensor("inputs", inputs)
    if inputs.shape[0] == 0:
        mean = ops.mean(inputs, axis=-1, keepdims=True)
        return mean, mean
    if tensorflow_gradients.is_native_tensorflow():
        return tensorflow_gradients.channel_max_and_mean(inputs)
    return ops.max(inputs, axis=-1, keepdims=True), ops.mean(inputs, axis=-1, keepdims=True)


def channel_pool(inputs):
    """Returns what `channel_max_and_mean` does as the two channels of one map.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.

    Returns:
        Tensor `(batch, height, width, 2)`.

    Example:

    >>> import keras, numpy as np
    >>> outputs = channel_pool(np.ones((1, 1, 1, 2), "float32") * (1, 4))
    >>> keras.ops.convert_to_numpy(outputs).ravel().tolist()
    [4.0, 2.5]
    """
    inputs = float_tensor("inputs", inputs)
    if tensorflow_gradients.is_native_tensorflow():
        return tensorflow_gradients.channel_pool(inputs)
    return ops.concatenate(channel_max_and_mean(inputs), axis=-1)


def normalized(inputs, gamma, beta, epsilon):
    """Returns the outputs of a batch norm in training, and the means and variances it took.

    Means and variances are over all axes but the last.

    Args:
        inputs: float tensor `(..., channels)`.
        gamma: tensor `(channels,)`. What the normalised inputs are multiplied by.
        beta: tensor `(channels,)`. What is added to them.
        epsilon: float, above 0. What is added to the variances.

    Returns:
        Three tensors, like the inputs and `(channels,)` twice, of float32 at least.

    Example:

    >>> import keras, numpy as np
    >>> outputs, *_ = normalized(np.array([[1.0], [3.0]], "float32"), np.ones(1), np.zeros(1), 1e-9)
    >>> keras.ops.convert_to_numpy(outputs).ravel().tolist()
    [-1.0, 1.0]
    """
    inputs = at_least_float32(float_tensor("inputs", inputs, rank=None))
    gamma, beta = (ops.cast(x, inputs.dtype) for x in (gamma, beta))
    if tensorflow_gradients.is_native_tensorflow():
        return tensorflow_gradients.batch_norm(inputs, gamma, beta, epsilon)
    mean, variance = ops.moments(inputs, axes=tuple(range(inputs.ndim - 1)))
    outputs = ops.batch_normalization(inputs, mean, variance, -1, beta, gamma, epsilon)
    return outputs, mean, variance


def scale_channels(inputs, gate):
    """Returns `inputs * gate`, for a gate of one number for each channel, or for each position.

    Args:
        inputs: float tensor `(batch, height, width, channels)`.
        gate: tensor `(batch, 1, 1, channels)` or `(batch, height, width, 1)` of the same dtype.

    Returns:
        Tensor of the shape of `inputs`.

    Example:

    >>> import keras, numpy as np
    >>> image = np.ones((1, 1, 2, 1), "float32")
    >>> keras.ops.convert_to_numpy(scale_channels(image, 3 * image[:, :, :1])).ravel().tolist()
    [3.0, 3.0]
    """
    inputs, gate = float_tensor("inputs", inputs), float_tensor("gate", gate)
    # A matrix product of a GPU may round float32 to fewer digits than a sum does.
    if tensorflow_gradients.is_native_tensorflow() and not on_accelerator():
        return tensorflow_gradients.scale_channels(inputs, gate)
    return inputs * gate
