"""What people give by mistake is named, with the argument, in one wording for all functions."""

import keras
import numpy as np
import pytest

from keras_fmm import layers, models, ops

MAP = np.ones((2, 4, 4, 8), "float32")
KERNEL = np.ones((3, 3, 8, 2), "float32")
GAIN = np.ones((2, 1, 1, 1, 2), "float32")
HOW = {"strides": (1, 1), "padding": "same", "dilation_rate": (1, 1)}


def model():
    return models.ToyCNN(input_shape=(8, 8, 1), classes=3)


FUNCTIONS = {
    "spatial_mean": (ops.spatial_mean, {"inputs": MAP}),
    "spatial_max": (ops.spatial_max, {"inputs": MAP}),
    "channel_max_and_mean": (ops.channel_max_and_mean, {"inputs": MAP}),
    "scale_channels": (ops.scale_channels, {"inputs": MAP, "gate": MAP[:, :1, :1]}),
    "adaptive_average_pool": (ops.adaptive_average_pool, {"inputs": MAP, "output_size": (2, 2)}),
    **{
        name: (function, {"inputs": MAP, "kernel": KERNEL, "gain": GAIN, **HOW})
        for name, function in ops.IMPLEMENTATIONS.items()
    },
    "load_weights": (lambda **given: models.load_weights(**{"source": model(), **given}), "model"),
    "from_preset": (models.from_preset, "preset"),
    "feature_model": (lambda names: models.feature_model(model(), names), "names"),
    "get_gate": (layers.get_gate, "attention"),
    "get_residual": (layers.get_residual, "residual"),
    "AWConv2D": (
        layers.AWConv2D,
        {
            "filters": 2,
            "kernel_size": 3,
            "padding": "valid",
            "kernel_initializer": "zeros",
            "kernel_regularizer": None,
            "kernel_constraint": None,
            "attention_activation": "sigmoid",
        },
    ),
    "SqueezeExcite": (
        layers.SqueezeExcite,
        {"activation": "relu", "gate_activation": "sigmoid", "kernel_initializer": "zeros"},
    ),
}
CASES = [
    (name, argument)
    for name, (_, arguments) in FUNCTIONS.items()
    for argument in ([arguments] if isinstance(arguments, str) else arguments)
]
# Of no type that any of these arguments takes.
WRONG = (object(), 0.5, b"x", {"zebra": 1}, "zebra")


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_the_argument_is_named_with_what_was_received(name, argument):
    function, arguments = FUNCTIONS[name]
    arguments = {} if isinstance(arguments, str) else arguments
    for wrong in WRONG:
        with pytest.raises((TypeError, ValueError)) as raised:
            function(**{**arguments, argument: wrong})
        message = str(raised.value)
        assert f"`{argument}`" in message or f"{argument}=" in message, (wrong, message)
        assert "Received" in message, (wrong, message)


def test_a_padding_may_be_in_capitals_as_in_keras():
    assert layers.AWConv2D(2, 3, padding="SAME").padding == "same"
    assert keras.layers.Conv2D(2, 3, padding="SAME").padding == "same"
