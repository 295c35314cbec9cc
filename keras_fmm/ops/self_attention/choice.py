"""Which form of attention is fastest where."""

import types

import keras

from keras_fmm.ops.devices import on_accelerator
from keras_fmm.ops.self_attention.blocks import block_attention
from keras_fmm.ops.self_attention.everywhere import plain_attention
from keras_fmm.ops.self_attention.in_parts import attention_in_parts
from keras_fmm.ops.self_attention.window import shifted_attention

# The forms of attention by name, over all positions and in a window; those of one table all give
# the same up to rounding, and take the same arguments.
EVERYWHERE = types.MappingProxyType({"plain": plain_attention, "parts": attention_in_parts})
IN_WINDOW = types.MappingProxyType({"shifts": shifted_attention, "blocks": block_attention})


# From so many positions on, the weights of a step fill the memory.
_MANY = 400


def attend_everywhere(query, key, value, num_heads, rows, columns, implementation="auto"):
    """Returns what `plain_attention` does, by the form of this name, or for "auto" the best.

    On a CPU the parts take about as long as the formula on a map of 28x28, in a fraction of the
    memory, and longer on smaller ones, whose weights need little.

    A loop leaves an accelerator idle, and PyTorch goes through it in Python.
    """
    name = implementation
    if name == "auto":
        height, width = query.shape[1:3]
        is_large = None not in (height, width) and height * width >= _MANY
        loops = keras.backend.backend() != "torch" and not on_accelerator()
        name = "parts" if is_large and loops else "plain"
    return EVERYWHERE[name](query, key, value, num_heads, rows, columns)


def attend_in_window(query, key, value, *arguments, implementation="auto", **more):
    """Returns what `shifted_attention` does, by the form of this name or the fastest."""
    name = "blocks" if implementation == "auto" else implementation
    return IN_WINDOW[name](query, key, value, *arguments, **more)
