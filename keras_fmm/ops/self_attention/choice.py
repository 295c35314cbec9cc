"""Which form of attention is fastest where."""

import types

from keras_fmm.ops.self_attention.everywhere import plain_attention
from keras_fmm.ops.self_attention.window import shifted_attention

# The forms of attention by name, over all positions and in a window; those of one table all give
# the same up to rounding, and take the same arguments.
EVERYWHERE = types.MappingProxyType({"plain": plain_attention})
IN_WINDOW = types.MappingProxyType({"shifts": shifted_attention})


def attend_everywhere(query, key, value, num_heads, rows, columns, implementation="auto"):
    """Returns what `plain_attention` does, by the form of this name or the fastest."""
    name = "plain" if implementation == "auto" else implementation
    return EVERYWHERE[name](query, key, value, num_heads, rows, columns)


def attend_in_window(query, key, value, *arguments, implementation="auto", **more):
    """Returns what `shifted_attention` does, by the form of this name or the fastest."""
    name = "shifts" if implementation == "auto" else implementation
    return IN_WINDOW[name](query, key, value, *arguments, **more)
