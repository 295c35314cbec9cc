"""The papers' networks in NumPy, from the weights by their layers' names, at inference.

They share nothing with the backbones but those names; maps are `(batch, height, width, channels)`.
"""

import numpy as np

from tests.support import references


class Network:
    """Runs single layers of a model by name, in float64, written down anew."""

    def __init__(self, model, epsilon):
        self.epsilon = epsilon
        self.weights = {
            layer.name: [np.asarray(value, "float64") for value in layer.get_weights()]
            for layer in model.layers
        }

    def convolution(self, x, name, strides=1, padding="same"):
        (kernel,) = self.weights[name]
        return references.conv2d(x, kernel, (strides, strides), padding, (1, 1))

    def depthwise_convolution(self, x, name):
        (kernel,) = self.weights[name]
        channels = [
            references.conv2d(x[..., [c]], kernel[:, :, [c]], (1, 1), "same", (1, 1))
            for c in range(x.shape[-1])
        ]
        return np.concatenate(channels, axis=-1)

    def batch_norm(self, x, name):
        gamma, beta, mean, variance = self.weights[name]
        return gamma * (x - mean) / np.sqrt(variance + self.epsilon) + beta

    def squeeze_excite(self, x, name):
        return x * references.channel_gate(x, self.weights[name])

    def scores(self, x):
        """The top: means over space, one dense layer, softmax."""
        kernel, bias = self.weights["predictions"]
        scores = np.exp(x.mean(axis=(1, 2)) @ kernel + bias)
        return scores / scores.sum(axis=-1, keepdims=True)


def small_stem(net, x):
    return references.relu(net.batch_norm(net.convolution(x, "stem_conv"), "stem_bn"))


def imagenet_stem(net, x):
    x = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    x = net.convolution(x, "stem_conv", 2, "valid")
    x = references.relu(net.batch_norm(x, "stem_bn"))
    batch, height, width, channels = x.shape
    pooled = np.zeros((batch, height // 2, width // 2, channels))
    for i in range(height // 2):
        for j in range(width // 2):
            rows, columns = slice(max(0, 2 * i - 1), 2 * i + 2), slice(max(0, 2 * j - 1), 2 * j + 2)
            pooled[:, i, j] = x[:, rows, columns].max(axis=(1, 2))
    return pooled


def bottleneck(net, x, name, strides, in_3x3=False):
    """He et al., figure 5 right; the stride in the first convolution, or the 3x3 one, and in the
    shortcut."""
    first, second = (1, strides) if in_3x3 else (strides, 1)
    y = net.convolution(x, f"{name}_conv1", first)
    y = references.relu(net.batch_norm(y, f"{name}_bn1"))
    y = net.convolution(y, f"{name}_conv2", second)
    y = references.relu(net.batch_norm(y, f"{name}_bn2"))
    y = net.batch_norm(net.convolution(y, f"{name}_conv3"), f"{name}_bn3")
    return references.relu(_gated(net, y, name) + _shortcut(net, x, name, strides))


def basic(net, x, name, strides):
    """He et al., figure 5 left."""
    y = net.convolution(x, f"{name}_conv1", strides)
    y = references.relu(net.batch_norm(y, f"{name}_bn1"))
    y = net.batch_norm(net.convolution(y, f"{name}_conv2"), f"{name}_bn2")
    return references.relu(_gated(net, y, name) + _shortcut(net, x, name, strides))


def _gated(net, y, name):
    gate = f"{name}_attention"
    return net.squeeze_excite(y, gate) if gate in net.weights else y


def _shortcut(net, x, name, strides):
    if f"{name}_shortcut_conv" not in net.weights:
        return x
    x = net.convolution(x, f"{name}_shortcut_conv", strides)
    return net.batch_norm(x, f"{name}_shortcut_bn")


def preactivation(net, x, name, strides, multiply=False):
    """Zagoruyko and Komodakis, figure 1; with `multiply` FMMNet's product in place of the sum."""
    activated = references.relu(net.batch_norm(x, f"{name}_bn1"))
    y = net.convolution(activated, f"{name}_conv1", strides)
    y = references.relu(net.batch_norm(y, f"{name}_bn2"))
    y = _gated(net, net.convolution(y, f"{name}_conv2"), name)
    if f"{name}_shortcut_conv" in net.weights:
        x = net.convolution(activated, f"{name}_shortcut_conv", strides)
    return y * x if multiply else y + x
