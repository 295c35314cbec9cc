"""The papers' equations as NumPy loops in float64: oracles that share no code with the layers.

All take and give feature maps `(batch, height, width, channels)`.
"""

import math

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0.0)


def mlp(vector, squeeze_kernel, squeeze_bias, excite_kernel, excite_bias, activation=relu):
    """SE, equation 3: W2 . activation(W1 . z), with biases."""
    hidden = activation(squeeze_kernel.T @ vector + squeeze_bias)
    return excite_kernel.T @ hidden + excite_bias


def channel_gate(x, weights, use_max=False, activation=relu):
    """SE, equations 2 and 3; with the max, CBAM's equation 2. Gives (batch, 1, 1, channels)."""
    gates = np.zeros((x.shape[0], 1, 1, x.shape[3]))
    for n in range(x.shape[0]):
        mean = np.array([x[n, :, :, c].mean() for c in range(x.shape[3])])
        logits = mlp(mean, *weights, activation=activation)
        if use_max:
            peak = np.array([x[n, :, :, c].max() for c in range(x.shape[3])])
            logits = logits + mlp(peak, *weights, activation=activation)
        gates[n, 0, 0] = sigmoid(logits)
    return gates


def eca_gate(x, kernel):
    """ECA, equation 7: sigmoid of a one-dimensional convolution over the channels' means."""
    batch, _, _, channels = x.shape
    half = len(kernel) // 2
    gates = np.zeros((batch, 1, 1, channels))
    for n in range(batch):
        for c in range(channels):
            total = 0.0
            for tap, weight in enumerate(kernel):
                neighbour = c + tap - half
                if 0 <= neighbour < channels:
                    total += weight * x[n, :, :, neighbour].mean()
            gates[n, 0, 0, c] = sigmoid(total)
    return gates


def spatial_gate(x, kernel, batch_norm=None, use_max=True):
    """CBAM, equation 3: sigmoid of a convolution over [max, mean] of the channels."""
    pooled = [x.mean(axis=3)]
    if use_max:
        pooled.insert(0, x.max(axis=3))
    logits = conv2d(np.stack(pooled, axis=3), kernel, (1, 1), "same", (1, 1))
    if batch_norm is not None:
        logits = normalise(logits, *batch_norm)
    return sigmoid(logits)


def normalise(x, gamma, beta, mean, variance, epsilon=1e-5):
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def batch_normalise(x, gamma, beta):
    """Batch norm by the batch's own statistics, biased variance."""
    axes = tuple(range(x.ndim - 1))
    return normalise(x, gamma, beta, x.mean(axis=axes), x.var(axis=axes))


def conv2d(x, kernel, strides, padding, dilation_rate):
    """A convolution, or, with a kernel of rank 5, one with a kernel for each sample."""
    batch, height, width, _ = x.shape
    kernels = kernel if kernel.ndim == 5 else np.stack([kernel] * batch)
    rows, columns, filters = kernels.shape[1], kernels.shape[2], kernels.shape[4]
    if padding == "same":
        out_height = math.ceil(height / strides[0])
        out_width = math.ceil(width / strides[1])
        below = max((out_height - 1) * strides[0] + (rows - 1) * dilation_rate[0] + 1 - height, 0)
        right = max((out_width - 1) * strides[1] + (columns - 1) * dilation_rate[1] + 1 - width, 0)
        top, left = below // 2, right // 2
    else:
        out_height = (height - (rows - 1) * dilation_rate[0] - 1) // strides[0] + 1
        out_width = (width - (columns - 1) * dilation_rate[1] - 1) // strides[1] + 1
        top, left = 0, 0
    outputs = np.zeros((batch, out_height, out_width, filters))
    for n in range(batch):
        for out_row in range(out_height):
            for out_column in range(out_width):
                for row in range(rows):
                    for column in range(columns):
                        y = out_row * strides[0] + row * dilation_rate[0] - top
                        z = out_column * strides[1] + column * dilation_rate[1] - left
                        if 0 <= y < height and 0 <= z < width:
                            outputs[n, out_row, out_column] += x[n, y, z] @ kernels[n, row, column]
    return outputs


def adaptive_average_pool(x, size):
    """PyTorch's rule: bin i of n over s entries covers floor(i s / n) to ceil((i + 1) s / n)."""
    batch, height, width, channels = x.shape
    pooled = np.zeros((batch, *size, channels))
    for i in range(size[0]):
        top, bottom = math.floor(i * height / size[0]), math.ceil((i + 1) * height / size[0])
        for j in range(size[1]):
            left, right = math.floor(j * width / size[1]), math.ceil((j + 1) * width / size[1])
            for n in range(batch):
                for c in range(channels):
                    pooled[n, i, j, c] = x[n, top:bottom, left:right, c].mean()
    return pooled


def aw_attention(x, kernel_shape, weights, reductions, training=False):
    """The AW paper's equations 4 to 8: the attention, expanded to (batch, h, w, C1, C2).

    Args:
        weights: dict by the names of the layer's weights ("pointwise_conv1/kernel", ...).
        reductions: r_C1, r_C2, r_hw.
    """
    rows, columns, channels, filters = kernel_shape
    over_input, over_output, over_kernel = reductions
    x = adaptive_average_pool(x, (rows // over_kernel, columns // over_kernel))
    for number, activation in (("1", relu), ("2", sigmoid)):
        x = x @ weights[f"pointwise_conv{number}/kernel"]
        statistics = [
            weights[f"batch_norm{number}/{name}"]
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        ]
        x = batch_normalise(x, *statistics[:2]) if training else normalise(x, *statistics)
        x = activation(x)
    attention = np.zeros((x.shape[0], rows, columns, channels, filters))
    groups = channels // over_input
    for i in range(rows):
        for j in range(columns):
            for c in range(channels):
                for f in range(filters):
                    entry = (f // over_output) * groups + c // over_input
                    attention[:, i, j, c, f] = x[:, i // over_kernel, j // over_kernel, entry]
    return attention


def aw_conv2d(x, weights, reductions, conv, use_residual=True, training=False):
    """The AW paper's equation 4: conv(x[n], K + A[n] * K) + bias; `conv` is what conv2d takes."""
    kernel = weights["kernel"]
    attention = aw_attention(x, kernel.shape, weights, reductions, training)
    kernels = attention * kernel + (kernel if use_residual else 0.0)
    return conv2d(x, kernels, *conv) + weights.get("bias", 0.0)
