"""Running a Keras model as what was exported from it is run."""

import keras

from keras_fmm.export import arguments, names


def fitting_inputs(model, images):
    """Returns what goes into each input of a model, a dict of arrays by the input's name.

    Args:
        model: a built `keras.Model`.
        images: as `run_tflite` takes them.

    Raises:
        TypeError, ValueError: as `arguments.fitting_inputs`.
    """
    specs = keras.tree.flatten(arguments.input_specs(model))
    wanted = {
        name: (spec.shape, keras.backend.standardize_dtype(spec.dtype))
        for name, spec in zip(names.of_inputs(model), specs, strict=True)
    }
    return arguments.fitting_inputs(images, wanted, repr(model))


def outputs(model, inputs, batch_size):
    """Returns what a model says of images, a dict of arrays by the names in a file's signature.

    Args:
        model: a built `keras.Model`, on any backend.
        inputs: list of arrays, in the order of the model's inputs.
        batch_size: int, how many images are run at a time.

    Raises:
        ValueError: its outputs are nested deeper than a dict or list, or one has no batch.
    """
    specs = arguments.input_specs(model)
    parts, counts = [], []
    for start in range(0, len(inputs[0]), batch_size):
        batch = [array[start : start + batch_size] for array in inputs]
        given = model(keras.tree.pack_sequence_as(specs, batch), training=False)
        found = names.by_signature(given)
        parts.append({name: keras.ops.convert_to_numpy(x) for name, x in found.items()})
        counts.append(len(batch[0]))
    return names.joined(parts, counts, repr(model))
