"""Weights of PyTorch's networks: their files, their names and the layout of their arrays."""

import collections
import os
import pathlib
import pickle
import re

import numpy as np

from keras_fmm import checks

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")

# Under what name files hold the weights beside other things, timm's preference first, and what
# wrappers put before each key.
_ENTRIES = ("state_dict_ema", "model_ema", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
# The convolutions and batch norms of a stem of three, as places of a `torch.nn.Sequential`.
_STEM = {"conv1": "conv", "bn1": "bn", "conv_stem": "conv"}
_DEEP_STEM = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3"}
_GATES = {"se.fc1": "squeeze", "se.fc2": "excite", "se.conv": "convolution"}
_HALVES = {
    "conv_dw": "depthwise_conv",
    "bn1": "depthwise_bn",
    "conv_pw": "pointwise_conv",
    "bn2": "pointwise_bn",
}


_AGAINST_ALIASING = r"[a-z]*resnet(?:aa|blur)\d+[a-z]*"


class Layers(dict):
    """Arrays by the names that layers have here, in Keras' layout, as `weights_files.opened` gives.

    Attributes:
        is_averaging: bool. Whether strided shortcuts average before their convolution, which the
            places of those tell.
    """

    def __init__(self, named, is_averaging):
        super().__init__(named)
        self.is_averaging = is_averaging

    def differences(self, layers):
        """Returns, for people, what a model's layers do otherwise than PyTorch's with these."""
        found = []
        if not is_arranged(layers):
            found.append("the model has other strides, padding or epsilon than PyTorch's")
        averages = any(layer.name.endswith("_shortcut_pool") for layer in layers)
        if averages != self.is_averaging:
            ways = ("average", "take every second row and column")
            of_model, of_source = ways if averages else reversed(ways)
            found.append(f"the model's strided shortcuts {of_model}, the source's {of_source}")
        return found


def is_arranged(layers):
    """Says whether strided 3x3 convolutions are padded, and batch norms are, as PyTorch's."""
    pads = [
        layer
        for layer in layers
        if re.fullmatch(r"stage\d+_block1_(conv[12]|depthwise)_pad", layer.name)
    ]
    epsilons = [layer.epsilon for layer in layers if layer.name in ("stem_bn", "stem_bn1")]
    return (
        bool(pads)
        and all(layer.padding == ((1, 1), (1, 1)) for layer in pads)
        and all(abs(epsilon - 1e-5) < 1e-7 for epsilon in epsilons)
    )


def told_by_name(source):
    """Returns, for people, what the name of a file or of the hub's folder says against it, a list.

    Layers against aliasing have no weights: those of a network with them are called as those of
    the one without, and nothing in the file tells.
    """
    if not isinstance(source, str | os.PathLike):
        return []
    *folders, name = pathlib.Path(source).parts
    of_hub = [folder for folder in folders if folder.startswith("models--")]
    found = [match for each in (*of_hub, name) if (match := re.search(_AGAINST_ALIASING, each))]
    return [f"by its name it is of {x[0]}, which has layers against aliasing" for x in found[:1]]


def downloaded(name, argument):
    """Returns the path of the file that the Hugging Face hub has of timm's weights of a name.

    Raises:
        ImportError: huggingface_hub is missing.
        OSError: it could not be downloaded.
        ValueError: timm has none.
    """
    if name.endswith(".untrained"):
        raise ValueError(
            f'`{argument}="hub"` is for weights that timm has. Received: {argument}="hub" for '
            f"{name.partition('.')[0]}, of which it has none. Give a file."
        )
    hub = checks.package("huggingface_hub", "Downloading timm's weights", "timm")
    try:
        return hub.hf_hub_download(repo_id=f"timm/{name}", filename="model.safetensors")
    # It raises errors of many classes, of the network's too.
    except Exception as error:
        told = next(iter(str(error).splitlines()), "it says no more")
        raise OSError(
            f'`{argument}="hub"` downloads timm\'s weights. Received: '
            f"{type(error).__name__} for {name} ({checks.printable(told)}). "
            "Try again with a network, or give a file."
        ) from error


def read(path):
    """Returns the arrays of a file by PyTorch's names; nothing but arrays is unpickled.

    Raises:
        ImportError: safetensors or torch is missing.
        ValueError: a file of torch's holds more than arrays.
    """
    if path.suffix.lower() == ".safetensors":
        safetensors = checks.package("safetensors.numpy", "Reading a .safetensors file", "timm")
        return safetensors.load_file(path)
    torch = checks.package("torch", "Reading PyTorch's files", "timm")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # torch's own message advises to unpickle all.
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(
            "it is damaged, or holds more than arrays, such as the options of a training, which is "
            "never unpickled; torch.save(module.state_dict(), path) writes arrays alone"
        ) from error


def layers_of(state):
    """Returns the `Layers` of a state dict: arrays or tensors by PyTorch's names.

    Raises:
        ValueError: it holds something else, or nothing.
    """
    for entry in _ENTRIES:
        if isinstance(state, collections.abc.Mapping) and isinstance(
            state.get(entry), collections.abc.Mapping
        ):
            state = state[entry]
            break
    arrays = {key: _array(key, value) for key, value in _entries(state)}
    for prefix in _PREFIXES:
        if arrays and all(key.startswith(prefix) for key in arrays):
            arrays = {key.removeprefix(prefix): value for key, value in arrays.items()}
    modules = collections.defaultdict(dict)
    for key, value in arrays.items():
        module, _, parameter = key.rpartition(".")
        if parameter == "num_batches_tracked":
            continue
        # Those of a quantized network stand for others. NumPy takes bfloat16 for no number.
        if value.dtype.kind not in "fV":
            raise ValueError(f"{key} holds {value.dtype}, no floats")
        modules[module][parameter] = value
    is_deep = "conv1.0" in modules
    is_averaging = any(module.endswith(".downsample.2") for module in modules)
    named = {}
    for module, parameters in modules.items():
        name = _name(module, is_deep, is_averaging)
        order = _BATCH_NORM if "running_mean" in parameters else ("weight", "bias")
        values = [parameters.pop(parameter) for parameter in order if parameter in parameters]
        if parameters:
            raise ValueError(
                f"{module} holds {', '.join(sorted(parameters))}, which no layer here has"
            )
        values[0] = _in_keras_layout(values[0], name)
        named[name] = values
    return Layers(named, is_averaging)


def _entries(state):
    if not isinstance(state, collections.abc.Mapping) or not state:
        raise ValueError(f"it holds no state dict but {type(state).__name__}")
    return state.items()


def _array(key, value):
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = (value.float() if value.is_floating_point() else value).numpy()
    if not isinstance(key, str) or not hasattr(value, "shape"):
        raise ValueError(f"{key!r} is no name of an array but of {type(value).__name__}")
    return np.asarray(value)


def _name(module, is_deep, is_averaging):
    """Returns what a module's layer is called here; the module's own name where it is not known."""
    if module in ("fc", "classifier"):
        return "predictions"
    if module in _STEM:
        return f"stem_{_STEM[module]}{3 if is_deep else ''}"
    if match := re.fullmatch(r"conv1\.(\d)", module):
        return f"stem_{_DEEP_STEM[match[1]]}" if match[1] in _DEEP_STEM else module
    match = re.fullmatch(r"(layer|blocks\.)(\d+)\.(\d+)\.(.+)", module)
    if match is None:
        return module
    kind, stage, block, place = match.groups()
    if kind == "blocks.":
        name = _HALVES.get(place)
    elif re.fullmatch(r"(conv|bn)\d", place):
        name = place
    elif place in _GATES:
        name = f"attention/{_GATES[place]}"
    else:
        conv, norm = (f"downsample.{i + is_averaging}" for i in (0, 1))
        name = {conv: "shortcut_conv", norm: "shortcut_bn"}.get(place)
    stage = int(stage) + (kind == "blocks.")
    return f"stage{stage}_block{int(block) + 1}_{name}" if name else module


def _in_keras_layout(weight, name):
    if name.endswith("/convolution") and weight.ndim == 3:
        return weight.transpose(2, 1, 0)
    if name.endswith(("/squeeze", "/excite")) and weight.shape[2:] == (1, 1):
        weight = weight[:, :, 0, 0]
    if weight.ndim == 4:
        # A depthwise kernel has the filters of each channel last.
        order = (2, 3, 0, 1) if name.endswith("depthwise_conv") else (2, 3, 1, 0)
        return weight.transpose(order)
    return weight.T if weight.ndim == 2 else weight
