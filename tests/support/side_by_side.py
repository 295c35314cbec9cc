"""Layers of many rows in one model: one trace, one compilation and one file instead of many."""

import keras

from tests.support.layer_table import label


def together(rows, check):
    """Runs a check of many rows at once; where it fails, of each by itself, to name the layer.

    Args:
        rows: list of `layer_table.Row`.
        check: callable of a list of rows, that raises where one of them is wrong.
    """
    try:
        check(rows)
    except Exception as error:
        for row in rows:
            try:
                check([row])
            except Exception as alone:
                raise AssertionError(f"{label(row)}: {alone}") from alone
        raise AssertionError(f"Wrong only together: {error}") from error


def model(rows, batch, unknown_sizes=True, top=None):
    """Returns a model of all rows' layers, each with inputs and outputs of its own.

    Args:
        rows: list of `layer_table.Row`.
        batch: int, the images in the examples.
        unknown_sizes: bool, default True. Whether height and width are unknown.
        top: callable or None, default None. Makes a layer, from `name`, that follows each row's.

    Returns:
        The model, a list of examples, a list of the rows' layers.
    """
    inputs, outputs, examples, found = [], [], [], []
    for row in rows:
        alone = row.model(row.make(name=label(row)), unknown_sizes)
        y = alone.output if top is None else top(name=f"{label(row)}-top")(alone.output)
        inputs.extend(alone.inputs)
        outputs.append(y)
        example = row.example(shape=(batch, *row.input_shape[1:]))
        examples.extend(example if row.inputs > 1 else [example])
        found.append(alone.layers[-1])
    return keras.Model(inputs, outputs), examples, found
