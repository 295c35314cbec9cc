"""Every boolean argument of every public function, found by walking what the packages export."""

import dataclasses
import importlib
import inspect
import re

import keras
import numpy as np
import pytest

from keras_fmm import layers

PACKAGES = ("analysis", "data", "export", "layers", "models", "ops", "plots", "training")

# What Keras and a gate's own `call` call, with what was checked before.
HOOKS = ("compute_attention_map", "compute_output_spec")

# Arguments that are looked at before a boolean is; the others need not be given rightly.
NEEDED = {"filters": 64, "kernel_size": 1, "num_heads": 1, "key_dim": 1}
NEEDED |= {"blocks_per_stage": (1, 1, 1, 1)}

WRONG = ("False", "no", "", 0, 1, 2, 1.0, float("nan"), b"", {}, [], np.array(True), np.int64(1))


def functions():
    """Yields the name and the function of all that is public: functions, classes, methods."""
    for package in PACKAGES:
        module = importlib.import_module(f"keras_fmm.{package}")
        for name in module.__all__:
            found = getattr(module, name)
            if not callable(found) or dataclasses.is_dataclass(found):
                continue  # A table, or what a function returns.
            yield f"{package}.{name}", found
            for method, function in inspect.getmembers(found, inspect.isfunction):
                is_ours = function.__module__.startswith("keras_fmm")
                if inspect.isclass(found) and is_ours and not method.startswith("_"):
                    yield f"{package}.{name}.{method}", (found, function)


def booleans(function):
    """Yields the parameters that are booleans, by their default or by what the docstring says."""
    text = inspect.getdoc(function) or ""
    for name, parameter in inspect.signature(function).parameters.items():
        said = re.search(rf"^ *{name}: (bool\b.*)", text, re.MULTILINE)
        if isinstance(parameter.default, bool) or said:
            # Keras' layers take None for it, which is what they are called with.
            may_be_none = name == "training" or parameter.default is None
            yield name, may_be_none


def cases():
    seen = set()
    for name, found in functions():
        kind, function = found if isinstance(found, tuple) else (None, found)
        if name.rpartition(".")[2] in HOOKS:
            continue
        for argument, may_be_none in booleans(function):
            case = (function, argument)
            if kind is None or (kind, *case) not in seen:
                seen.add((kind, *case))
                yield pytest.param(kind, *case, may_be_none, id=f"{name}-{argument}")


CASES = list(cases())


def required(function):
    """Returns the arguments that must be given, and but for a few are given wrongly."""
    parameters = list(inspect.signature(function).parameters.values())
    return {
        parameter.name: NEEDED.get(parameter.name)
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def call(kind, function, **flags):
    arguments = {**required(function), **flags}
    if kind is not None and issubclass(kind, keras.layers.Layer):
        arguments["self"] = kind(**required(kind))
        if function.__name__ == "call":
            # A layer is called by Keras, which calls this.
            layer = arguments.pop("self")
            return layer(arguments.pop("inputs"), **flags)
    return function(**arguments)


def test_the_walk_finds_them():
    found = {parameter.id for parameter in CASES}
    assert {
        "layers.SqueezeExcite-use_bias",
        "layers.CBAM-use_spatial",
        "layers.CBAM.call-return_attention_map",
        "layers.AWConv2D.attention_map-training",
        "models.ResNet-bottleneck",
        "models.ResNet152-include_top",
        "analysis.smoothness-closed",
        "data.ImageDataset.pipeline-shuffle",
        "ops.fastest-accelerator",
        "plots.curves_along-same_scale",
        "training.Run.callbacks-tensorboard",
    } <= found


@pytest.mark.parametrize(("kind", "function", "argument", "may_be_none"), CASES)
def test_anything_but_a_boolean_is_refused(kind, function, argument, may_be_none):
    for value in (*WRONG, *(() if may_be_none else (None,))):
        with pytest.raises(
            TypeError, match=f"`{argument}` must be True or False. Received: {argument}="
        ):
            call(kind, function, **{argument: value})


@pytest.mark.parametrize("training", ["False", 2, float("nan")])
@pytest.mark.parametrize("kind", [layers.SqueezeExcite, layers.CBAM, layers.SpatialAttention])
def test_a_call_takes_training_as_a_boolean(kind, training):
    with pytest.raises(TypeError, match="`training` must be True or False. Received: training="):
        kind()(np.ones((1, 4, 4, 8), "float32"), training=training)


@pytest.mark.parametrize("value", [True, False])
def test_booleans_of_numpy_pass(value):
    layer = layers.SqueezeExcite(use_bias=np.bool_(value))
    assert layer.use_bias is value
    assert layer.get_config()["use_bias"] is value
    x = np.ones((1, 4, 4, 8), "float32")
    assert layer(x, training=np.bool_(value)).shape == x.shape
