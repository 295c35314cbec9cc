"""One file that holds everything a training run needs to go on as if it had not been stopped."""

import contextlib
import itertools
import json
import re
import zipfile

import keras
import numpy as np

from keras_fmm import files
from keras_fmm.training import hosts


def save(path, model, state):
    """Writes a model's and its optimizer's variables and `state` to one file, whole or not at all.

    `keras.callbacks.BackupAndRestore` is not enough for exact resuming: it writes the weights and
    the epoch to two files, in place, so that a kill between or within the writes leaves a pair
    that does not belong together; and its .weights.h5 leaves out the states of seed generators,
    so that dropout draws other masks after resuming.

    Args:
        path: str or `os.PathLike`, ending in .npz.
        model: built and compiled `keras.Model`.
        state: dict that JSON can hold: whatever belongs to this moment of the model.

    Raises:
        OSError: the folder cannot be written or is full.
    """
    names, variables = _variables(model)
    arrays = {f"variable_{i}": _array(variable) for i, variable in enumerate(variables)}
    with files.replacing(path) as temporary:
        np.savez(temporary, content=json.dumps({"names": names, "state": state}), **arrays)


def load(path, model, is_state, check=lambda: None):
    """Puts back what `save` wrote into a model of the same architecture and optimizer.

    Variables are compared by order, name, shape and dtype; the numbers that Keras appends to
    automatic names (`dense_1`) may differ, since they count the models a process has made.

    Args:
        path: str or `os.PathLike`, what `save` wrote.
        model: built and compiled `keras.Model`; its optimizer is built where it is not yet.
        is_state: function of the `state` in the file that says whether it can be one.
        check: function that raises where other files of the run do not fit the model; called
            when this one does, before anything is assigned.

    Returns:
        dict, the `state` given to `save`.

    Raises:
        ValueError: the file is not a backup, or one of another model; nothing was assigned.

    Example:

    >>> import pathlib, tempfile
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(pathlib.Path(folder) / "backup.npz", model, {"epochs": 3})
    ...     load(pathlib.Path(folder) / "backup.npz", model, lambda state: "epochs" in state)
    {'epochs': 3}
    """
    names, variables = _variables(model)
    arrays = [_array(variable) for variable in variables]

    def read():
        state, arrays[:] = _read(path, names, arrays, is_state)
        check()
        return state

    state = hosts.from_first(read)
    for variable, array in zip(variables, hosts.broadcast(arrays), strict=True):
        variable.assign(array)
    return state


def _read(path, names, current, is_state):
    """Returns the state and the arrays of a backup; raises where it is none of these variables."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz archive")
        with np.load(path, allow_pickle=False) as archive:
            files.check_unpacked(archive.zip)
            content = json.loads(archive["content"].item())
            saved_names, state = content["names"], content["state"]
            if not (_are_names(saved_names) and is_state(state)):
                raise ValueError("its content is not that of a backup")
            arrays = [archive[f"variable_{i}"] for i in range(len(saved_names))]
    except Exception as error:  # NumPy, zipfile and zlib raise many kinds over a damaged file.
        raise ValueError(
            f"{path} must be a backup of a run. Received: a file that cannot be read as one "
            f"({str(error) or type(error).__name__}). Delete the run's folder to start over."
        ) from error
    return state, _matched(path, names, current, saved_names, arrays)


def _are_names(names):
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def generators():
    """Returns the states of the generators that are part of no model, a list of str.

    PyTorch has one a device; `fit` draws its order from it, and of a layer without a seed the
    dropout. The other backends have none.
    """
    if keras.backend.backend() != "torch":
        return []
    import torch

    states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    return [state.numpy().tobytes().hex() for state in states]


def set_generators(states):
    """Puts back what `generators` returned, as far as there are these devices."""
    if not states:
        return
    import torch

    cpu, *gpus = (torch.tensor([*bytes.fromhex(state)], dtype=torch.uint8) for state in states)
    torch.set_rng_state(cpu)
    for device, state in zip(range(torch.cuda.device_count()), gpus, strict=False):
        torch.cuda.set_rng_state(state, device)


def build_optimizer(model):
    """Makes the variables of a compiled model's optimizer, if there are none yet."""
    if not model.optimizer.built:
        strategy = getattr(model, "distribute_strategy", None)
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            model.optimizer.build(model.trainable_variables)


def _variables(model):
    """Returns the names and the variables of a model and its optimizer, which is built first."""
    build_optimizer(model)
    optimizer = model.optimizer
    # model.variables, unlike model.weights, has the seed generators' states. An optimizer's paths
    # depend on where it was built (a LossScaleOptimizer's do), its names do not.
    names = [variable.path for variable in model.variables]
    names += [variable.name for variable in optimizer.variables]
    return [_unnumbered(name) for name in names], [*model.variables, *optimizer.variables]


def _unnumbered(name):
    return re.sub(r"_\d+", "", name)


def _array(variable):
    return keras.ops.convert_to_numpy(variable.value)


def _matched(path, names, current, saved_names, saved):
    """Returns the saved arrays with the variables' dtypes; raises if they are another model's."""
    if len(saved) == len(current):
        saved = [_like(array, other) for array, other in zip(saved, current, strict=True)]
    here = [(name, a.shape, a.dtype.name) for name, a in zip(names, current, strict=True)]
    there = [(name, a.shape, a.dtype.name) for name, a in zip(saved_names, saved, strict=True)]
    if here != there:
        pairs = itertools.zip_longest(there, here)
        theirs, ours = next(pair for pair in pairs if pair[0] != pair[1])
        raise ValueError(
            f"{path} must be a backup of this model. Received: {len(there)} variables for the "
            f"{len(here)} of the model and its optimizer; the first that differs is {theirs} in "
            f"the backup and {ours} in the model. Make the model and its optimizer as the run "
            "did, or take another workdir; nothing was changed."
        )
    return saved


def _like(array, other):
    # .npz keeps bfloat16 and float8 as raw bytes of their size.
    raw = array.dtype.kind == "V" and array.dtype.itemsize == other.dtype.itemsize
    return array.view(other.dtype) if raw else array
