"""What a model's inputs and outputs are called: in Python, and in a file's signature."""

import re

import keras
import numpy as np

from keras_fmm.graph import input_layers

# What Keras' exporters call the outputs of a model that gives one tensor or a list, and, where the
# inputs have no names, those: args_0, args_0_1, args_0_2.
_OUTPUT = "output_"
_NUMBERED_OUTPUT = re.compile(r"output_(\d+)")
_NUMBERED_INPUT = re.compile(r"args_0(?:_(\d+))?")
# Others are changed by TensorFlow, which then may take two for one.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def of_inputs(model):
    """Returns the names of a model's inputs, a list in the order of `model.inputs`.

    They are the keys where the model takes a dict, and the names of its input layers otherwise.

    Args:
        model: a built `keras.Model`; a subclassed one has one input, called "images".
    """
    if not getattr(model, "inputs", None):
        return ["images"]
    if not isinstance(model, keras.Sequential) and (keyed := flat_dict(model.input)):
        return list(keyed)
    return [layer.name for layer in input_layers(model)]


def in_signature(names):
    """Returns the names for a file's signature, or None where TensorFlow would change them."""
    are_plain = all(_PLAIN.fullmatch(name) for name in names)
    return names if are_plain and len({name.lower() for name in names}) == len(names) else None


def are_numbered(names):
    """Returns whether a signature has Keras' numbers for the inputs, and so no names."""
    return all(_NUMBERED_INPUT.fullmatch(name) for name in names)


def in_order(found, names=None):
    """Returns what a signature has for each input, in the order of the model's inputs.

    Args:
        found: dict of str, the signature's names, to anything.
        names: list of str or None, default None. The model's names in order, where they are known.

    Returns:
        pair of the dict, under the model's names where they are known, and a bool: whether its
        order is known to be the model's.
    """
    if names is not None and set(names) == set(found):
        return {name: found[name] for name in names}, True
    if not are_numbered(found):
        return found, len(found) == 1
    ordered = sorted(found, key=lambda name: int(_NUMBERED_INPUT.fullmatch(name)[1] or 0))
    called = names if names is not None and len(names) == len(found) else ordered
    return {new: found[name] for new, name in zip(called, ordered, strict=True)}, True


def of_outputs(model, outputs):
    """Returns the names of a model's outputs, as a report has them.

    They are the keys of a dict; of a list, the names of the layers that give them, or output_0,
    output_1 and so on where one layer gives several.

    Args:
        model: a built `keras.Model`.
        outputs: dict, what `by_signature` made of what it gives.
    """
    names = getattr(model, "output_names", None)
    is_list = all(_NUMBERED_OUTPUT.fullmatch(name) for name in outputs)
    if is_list and names and len(set(names)) == len(names) == len(outputs):
        return list(names)
    return list(outputs)


def by_signature(outputs):
    """Returns a model's outputs under the names that a file's signature has for them.

    Args:
        outputs: one tensor, or a list, tuple or dict of them.

    Raises:
        ValueError: they are nested deeper, which no signature can hold.
    """
    if flat_dict(outputs):
        return dict(outputs)
    if not isinstance(outputs, (dict, list, tuple)):
        return {f"{_OUTPUT}0": outputs}
    if isinstance(outputs, dict) or any(isinstance(x, (dict, list, tuple)) for x in outputs):
        described = keras.tree.map_structure(lambda x: tuple(x.shape), outputs)
        raise ValueError(
            "A model must give one tensor, or a list or a dict of tensors. "
            f"Received: outputs of shapes {described}. Give "
            "`keras.Model(model.inputs, {name: tensor, ...})`."
        )
    return {f"{_OUTPUT}{number}": output for number, output in enumerate(outputs)}


def check_outputs(model):
    """Raises ValueError where a functional model gives more than a list or dict of tensors."""
    if getattr(model, "outputs", None) and not isinstance(model, keras.Sequential):
        by_signature(model.output)


def as_given(outputs):
    """Returns a signature's outputs as the model gives them: one array, a list or a dict."""
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    matches = {name: _NUMBERED_OUTPUT.fullmatch(name) for name in outputs}
    if all(matches.values()):
        return [outputs[name] for name in sorted(outputs, key=lambda name: int(matches[name][1]))]
    return outputs


def joined(parts, sizes, of):
    """Returns outputs of all images, put together from those of batches.

    Args:
        parts: list of dicts of arrays by name, a batch each.
        sizes: list of int, the images in each batch; what is more is dropped.
        of: str, says in the error whose outputs they are.

    Raises:
        ValueError: an output does not have the batch first.
    """
    whole = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        for array, size in zip(arrays, sizes, strict=True):
            if array.ndim == 0 or len(array) < size:
                raise ValueError(
                    f"Each output of {of} must have the batch first. Received: {name!r} of shape "
                    f"{array.shape} for {size} images. Leave it out of the model."
                )
        whole[name] = np.concatenate([x[:size] for x, size in zip(arrays, sizes, strict=True)])
    return whole


def flat_dict(structure):
    """Returns a dict of tensors in the order in which Keras takes them, or None if it is none."""
    if not isinstance(structure, dict):
        return None
    if any(isinstance(value, (dict, list, tuple)) for value in structure.values()):
        return None
    return {key: structure[key] for key in keras.tree.flatten({key: key for key in structure})}
