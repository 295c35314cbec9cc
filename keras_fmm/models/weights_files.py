"""Weights of files and models: arrays by the name of the layer that they belong to."""

import collections
import contextlib
import io
import json
import mmap
import os
import re
import zipfile

import h5py
import keras
import ml_dtypes

from keras_fmm import checks, files, graph
from keras_fmm.models import pytorch

_FILES = "`.keras`, `.weights.h5`, `.h5`, `.safetensors` or `.pth` file"

# What Keras' layers hold in the order in which `own_weights` has them. A legacy file has those that
# are trained first: a variable frozen by itself, as in a quantized layer, behind the others.
_ORDERS = (
    ("gamma", "beta", "moving_mean", "moving_variance"),
    ("kernel", "bias", "kernel_scale", "kernel_zero", "g_idx"),
)


@contextlib.contextmanager
def opened(source, argument):
    """Gives the weights of a file or a model, which are read when `array` asks for them.

    What a file says of itself costs no memory: a small one can claim to hold very much.

    Args:
        source: a built `keras.Model`, the path of a `.keras`, `.weights.h5` or legacy `.h5` file
            or of one of `pytorch.SUFFIXES`, or a state dict of PyTorch.
        argument: str, such as "source". What the errors call it.

    Yields:
        Dict from a layer's name to its own weights, a list in the order of `own_weights`, each with
        a shape; those without weights are left out. Nested models are entered; a layer inside a
        layer is named `outer/inner`. In a legacy file a layer of a nested Sequential is named by
        its path, as there it cannot always be told from one inside a layer. Of PyTorch it is
        `pytorch.Layers`.

    Raises:
        OSError: there is no such file, or it cannot be read.
        TypeError: `source` is none of these.
        ValueError: there are no weights, or no layer names, or one name twice.
        ImportError: what reads PyTorch's files is missing.
    """
    if isinstance(source, keras.Model):
        named = ((name, own_weights(layer)) for name, _, layer in parts(source))
        yield _by_name(named, f"the model {source.name!r}", argument)
        return
    if isinstance(source, collections.abc.Mapping):
        try:
            layers = pytorch.layers_of(source)
        except ValueError as error:
            raise ValueError(
                f"`{argument}` as a dict must be a state dict of PyTorch: arrays by their names. "
                f"Received: one in which {error}"
            ) from error
        yield layers
        return
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"`{argument}` must be a model or the path of a {_FILES}, or a state dict of PyTorch. "
            f"Received: {argument}={source!r}"
        )
    path = checks.path(argument, source)
    if not path.is_file():
        raise FileNotFoundError(
            f"`{argument}` must be a {_FILES} with a model's weights. "
            f"Received: {argument}={str(source)!r}, where there is no file."
        )
    if path.suffix.lower() in pytorch.SUFFIXES:
        try:
            layers = pytorch.layers_of(pytorch.read(path))
        except ImportError:
            raise
        # A damaged file makes these libraries raise errors of many classes.
        except Exception as error:
            raise _unreadable(argument, source, error) from error
        yield layers
        return
    with contextlib.ExitStack() as stack:
        # A damaged file makes h5py and zipfile raise errors of about every class.
        try:
            file = stack.enter_context(h5py.File(_content(path)))
            layers = list(_keras_3_layers(file) if "layers" in file else _legacy_layers(file))
        except Exception as error:
            raise _unreadable(argument, source, error) from error
        arrays = _by_name(layers, source, argument)
        try:
            yield arrays
        except _UnreadableArray as error:
            raise _unreadable(argument, source, error) from error


def array(value):
    """Returns, as an array, a weight that `opened` gave; only while its file is open."""
    if not isinstance(value, h5py.Dataset):
        return value
    try:
        content = value[()]
    # As in `opened`: filters and types of a damaged file fail in h5py in many ways.
    except Exception as error:
        raise _UnreadableArray(f"{value.name}: {error}") from error
    # HDF5 has no bfloat16: Keras writes its bytes and the name beside them.
    if value.attrs.get("dtype") == "bfloat16":
        return content.view(ml_dtypes.bfloat16).astype("float32")
    return content


class _UnreadableArray(Exception):
    pass


def _unreadable(argument, source, error):
    # What a damaged file says of itself may be no text that a terminal can show.
    text = checks.printable(str(error).partition("\n")[0])
    return OSError(
        f"`{argument}` must be a {_FILES} with a model's weights. "
        f"Received: {str(source)!r}, which could not be read ({type(error).__name__}: {text}). "
        "Save the model again, or copy the file again."
    )


def _content(path):
    """Returns what `h5py.File` takes, which is whole enough for the HDF5 library to end on it."""
    if path.suffix.lower() != ".keras":
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            _check_heaps(raw)
        return path
    with zipfile.ZipFile(path) as archive:
        files.check_unpacked(archive)
        raw = files.unpacked(archive, "model.weights.h5")
    _check_heaps(raw)
    return io.BytesIO(raw)


def _check_heaps(raw):
    """Raises ValueError where the heaps that hold HDF5's texts have parts of no right size.

    The HDF5 library never ends on such, as a file with a hole of zeros has.
    """
    for match in re.finditer(rb"GCOL\x01\0\0\0", raw):
        size = int.from_bytes(raw[match.end() : match.end() + 8], "little")
        place, end = match.start() + 16, min(match.start() + size, len(raw))
        while place + 16 <= end:
            is_free = raw[place : place + 2] == b"\0\0"
            length = int.from_bytes(raw[place + 8 : place + 16], "little")
            step = length if is_free else 16 + -(-length // 8) * 8
            if not 0 < step <= end - place:
                raise ValueError(f"a hole at byte {place}")
            place += step


def parts(model):
    """Returns the name, path and object of each layer of a model and, after it, of its sub-layers.

    The name is the path in the innermost model that the layer is in, as files have it, and the
    whole path where several have that name; no file can tell those apart.
    """
    found = {}
    for path, operation, nested in graph.places(model):
        is_part = isinstance(operation, keras.layers.Layer) and not isinstance(
            operation, keras.Model
        )
        if is_part and id(operation) not in found:
            found[id(operation)] = (path.removeprefix(f"{nested}/"), path, operation)
    counts = collections.Counter(name for name, _, _ in found.values())
    return [
        (name if counts[name] == 1 else path, path, layer) for name, path, layer in found.values()
    ]


def own_weights(layer):
    """Returns a layer's weights without those of its sub-layers, as arrays, in Keras' order."""
    store = {}
    layer.save_own_variables(store)
    return [keras.ops.convert_to_numpy(store[str(index)]) for index in range(len(store))]


def _by_name(named, source, argument):
    arrays = {}
    for name, values in named:
        if values and name is None:
            raise ValueError(
                "A `.weights.h5` file must hold the names of the layers, as Keras has written them "
                f"since 3.4. Received: {str(source)!r}, without. Load it into the model that it "
                "was saved from, and give that model."
            )
        if values and name in arrays:
            raise ValueError(
                f"Layers must have names of their own. Received: {source}, with {name!r} twice, as "
                "in two nested models. Give a model in the place of a file, or other names."
            )
        if values:
            arrays[name] = values
    if not arrays:
        raise ValueError(
            f"`{argument}` must hold weights. Received: {source}, which holds none. "
            "Give a model that has layers with weights, or a file of one."
        )
    return arrays


def _keras_3_layers(group):
    """Yields the layers of a model from the group that holds it in a file of Keras 3."""
    layers = _member(group, "layers")
    for key in layers:
        yield from _keras_3_parts(_member(layers, key), "")


def _keras_3_parts(group, prefix):
    if "layers" in group:
        yield from _keras_3_layers(group)
        return
    if "vars" in group:
        own = _member(group, "vars")
        values = [_dataset(own, str(index)) for index in range(len(own))]
        name = own.attrs.get("name")
        yield None if name is None else _text(f"{prefix}{name}"), values
        prefix = f"{prefix}{name}/"
    for key in group:
        # The state of a random layer is no weight.
        if key not in ("vars", "seed_generator"):
            yield from _keras_3_parts(_member(group, key), prefix)


def _member(group, path):
    """Returns what is at a path in a group; what leads out of the file is refused."""
    for name in filter(None, path.split("/")):
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{path} is absent or a link")
        group = group[name]
    return group


def _dataset(group, path):
    dataset = _member(group, path)
    is_here = isinstance(dataset, h5py.Dataset) and not (dataset.external or dataset.is_virtual)
    # A shape of None is an empty one.
    if not is_here or dataset.shape is None or dataset.dtype.kind not in "biufV":
        raise ValueError(f"{path} is no array of numbers in this file")
    return dataset


def _legacy_layers(file):
    """Yields the layers of a legacy file, whether it holds a model or its weights alone."""
    root = _member(file, "model_weights") if "model_weights" in file else file
    for layer in _attribute(root, "layer_names"):
        own = {}
        group = _member(root, layer)
        paths = _attribute(group, "weight_names")
        split = {path: path.partition(":")[0].split("/") for path in paths}
        is_nested = _is_nested(file, layer, split.values())
        for path, (*places, name) in split.items():
            if not is_nested:
                inner = places[places.index(layer) + 1 :] if layer in places else []
                places = [layer, *inner]
            own.setdefault("/".join(places), []).append((name, _dataset(group, path)))
        for name, named in own.items():
            yield _text(name), _in_order(named)


def _is_nested(file, name, paths):
    """Says whether what stands under a name is a model whose weights are not named after it."""
    if all(name in path for path in paths):
        return False
    config = file.attrs.get("model_config")
    if config is None:
        # A layer that was renamed has weights of one other name.
        return len({path[0] for path in paths}) > 1 and not any(name in path for path in paths)
    layers = json.loads(config)["config"]
    # Keras 1 wrote the layers of a Sequential alone.
    layers = layers["layers"] if isinstance(layers, dict) else layers
    configs = [layer["config"] for layer in layers]
    return any("layers" in config and config["name"] == name for config in configs)


def _in_order(named):
    names = [name for name, _ in named]
    for order in _ORDERS:
        if set(names) <= set(order):
            named = sorted(named, key=lambda item: order.index(item[0]))
    return [value for _, value in named]


def _attribute(group, name):
    """Returns a list of str, which the format cuts into several attributes if it is long."""
    keys = (
        [name] if name in group.attrs else [f"{name}{index}" for index in range(len(group.attrs))]
    )
    texts = [text for key in keys if key in group.attrs for text in group.attrs[key]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _text(name):
    if not name.isprintable():
        raise ValueError(f"{name!r} is no layer's name")
    return name
