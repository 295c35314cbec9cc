"""Weights of files and models: arrays by the name of the layer that they belong to."""

import collections
import io
import os
import zipfile

import h5py
import keras
import ml_dtypes

from keras_fmm import checks, graph

_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def read(source):
    """Returns the weights of a file or a model.

    Args:
        source: a built `keras.Model`, or the path of a `.keras`, `.weights.h5` or legacy `.h5`
            file.

    Returns:
        Dict from a layer's name to its own weights, a list of arrays as `own_weights` gives; those
        without weights are left out. Nested models are entered (in a legacy file they cannot be
        told from layers); a layer inside a layer is named `outer/inner`.

    Raises:
        OSError: there is no such file, or it cannot be read.
        TypeError: `source` is neither a model nor a path.
        ValueError: there are no weights, or no layer names, or one name twice.
    """
    if isinstance(source, keras.Model):
        named = ((name, own_weights(layer)) for name, _, layer in parts(source))
        return _by_name(named, f"the model {source.name!r}")
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            "`source` must be a model or the path of a `.keras`, `.weights.h5` or `.h5` file. "
            f"Received: source={source!r}"
        )
    path = checks.path("source", source)
    if not path.is_file():
        raise FileNotFoundError(
            "`source` must be a `.keras`, `.weights.h5` or `.h5` file with a model's weights. "
            f"Received: source={str(source)!r}, where there is no file."
        )
    try:
        content = path
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(content) as file:
            layers = _keras_3_layers(file) if "layers" in file else _legacy_layers(file)
            return _by_name(layers, path)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise OSError(
            "`source` must be a `.keras`, `.weights.h5` or `.h5` file with a model's weights. "
            f"Received: {path}, which could not be read ({error})."
        ) from error


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


def _by_name(named, source):
    arrays = {}
    for name, values in named:
        if values and name in arrays:
            raise ValueError(
                f"Layers must have names of their own. Received: {source}, with {name!r} twice, as "
                "in two nested models. Give a model in the place of a file, or other names."
            )
        if values:
            arrays[name] = values
    if not arrays:
        raise ValueError(f"`source` must hold weights. Received: {source}, which holds none.")
    return arrays


def _keras_3_layers(group):
    """Yields the layers of a model from the group that holds it in a file of Keras 3."""
    for layer in group["layers"].values():
        yield from _keras_3_parts(layer, "")


def _keras_3_parts(group, prefix):
    if "layers" in group:
        yield from _keras_3_layers(group)
        return
    if "vars" in group:
        own = group["vars"]
        values = [_array(own[str(index)]) for index in range(len(own))]
        name = own.attrs.get("name")
        if values and name is None:
            raise ValueError(
                "A `.weights.h5` file must hold the names of the layers, as Keras has written them "
                f"since 3.4. Received: {group.file.filename}, without. Load it into the model that "
                "it was saved from, and give that model."
            )
        yield f"{prefix}{name}", values
        prefix = f"{prefix}{name}/"
    for key, part in group.items():
        # The state of a random layer is no weight.
        if key not in ("vars", "seed_generator"):
            yield from _keras_3_parts(part, prefix)


def _array(dataset):
    # HDF5 has no bfloat16: Keras writes its bytes and the name beside them.
    if dataset.attrs.get("dtype") == "bfloat16":
        return dataset[()].view(ml_dtypes.bfloat16).astype("float32")
    return dataset[()]


def _legacy_layers(file):
    """Yields the layers of a legacy file, whether it holds a model or its weights alone."""
    root = file.get("model_weights", file)
    for layer in _attribute(root, "layer_names"):
        own = {}
        # A variable frozen by itself is written behind the others.
        for path in sorted(_attribute(root[layer], "weight_names"), key=_place_in_batch_norm):
            *places, _ = path.partition(":")[0].split("/")
            inner = places[places.index(layer) + 1 :] if layer in places else []
            own.setdefault("/".join([layer, *inner]), []).append(root[layer][path][()])
        yield from own.items()


def _place_in_batch_norm(path):
    name = path.partition(":")[0].split("/")[-1]
    return _BATCH_NORM.index(name) if name in _BATCH_NORM else -1


def _attribute(group, name):
    """Returns a list of str, which the format cuts into several attributes if it is long."""
    keys = (
        [name] if name in group.attrs else [f"{name}{index}" for index in range(len(group.attrs))]
    )
    texts = [text for key in keys if key in group.attrs for text in group.attrs[key]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]
