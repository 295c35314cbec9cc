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

    Measured on a layer of 8 heads beside a 3x3 convolution, CPU time of a training step, batch 16,
    as a ratio to a plain convolution, plain / parts (TensorFlow 2.21 on 2 cores of an AMD EPYC,
    2026-11-27): 28x28x128 6.5 / 6.7, with 1133 / 159 MiB above the start, and 14x14x256 1.7 / 1.8.
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
