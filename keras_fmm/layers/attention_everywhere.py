"""What layers of attention over a whole map share: the attention, and positions at any size."""

import math

import keras
import numpy as np
from keras import ops

from keras_fmm import checks
from keras_fmm.layers.attention_weights import AttentionWeightsMixin, check_queries
from keras_fmm.layers.integer_form import IntegerFormMixin
from keras_fmm.ops.self_attention.choice import EVERYWHERE, attend_everywhere
from keras_fmm.ops.self_attention.everywhere import (
    attention_weights,
    late_attention,
    weights_of_queries,
)
from keras_fmm.ops.self_attention.positions import (
    over_the_map,
    sinusoidal,
    table_at,
    with_coordinates,
)

POSITIONS = (None, "relative", "sinusoidal", "coordinates", "absolute")

# Those that have a table, and so a size.
_TABLES = ("relative", "absolute")


class AttentionEverywhereMixin(IntegerFormMixin, AttentionWeightsMixin):
    """Attends from every position of a map to every position, and shows where it looks.

    For a `FeatureMapLayer`, which calls `keep_attention` in its constructor and `make_positions` in
    `build`. The tables are `row_embeddings` and `column_embeddings`.
    """

    row_embeddings = column_embeddings = None

    def keep_attention(
        self, num_heads, positions, position_size, interpolate_positions, implementation
    ):
        """Checks these arguments and keeps them as attributes.

        Raises:
            TypeError: one is of another type.
            ValueError: one is out of range or not known.
        """
        self.num_heads = checks.positive_integer("num_heads", num_heads, checks.CHANNELS)
        self.positions = checks.one_of("positions", positions, POSITIONS)
        if isinstance(position_size, (list, tuple)):
            position_size = checks.pair("position_size", position_size, checks.IMAGE_SIDES)
        elif position_size is not None:
            check = checks.positive_integer
            position_size = check("position_size", position_size, checks.IMAGE_SIDES)
        self.position_size = position_size
        self.interpolate_positions = checks.flag("interpolate_positions", interpolate_positions)
        self.implementation = checks.one_of("implementation", implementation, ("auto", *EVERYWHERE))

    def attention_config(self):
        """Returns what `keep_attention` has kept."""
        return {
            "num_heads": self.num_heads,
            "positions": self.positions,
            "position_size": self.position_size,
            "interpolate_positions": self.interpolate_positions,
            "implementation": self.implementation,
        }

    def map_of(self, shape):
        """Returns `(height, width), channels` of a shape; a size may be None."""
        if self.data_format == "channels_last":
            return tuple(shape[1:3]), shape[3]
        return tuple(shape[2:4]), shape[1]

    def seen_channels(self, channels):
        """Returns how many channels `with_positions` gives of a map of so many."""
        return channels + 3 * (self.positions == "coordinates")

    def make_positions(self, size, channels, attended, depth):
        """Makes the tables; call it in `build`.

        Args:
            size: pair of int or None, of the map that goes to `with_positions`.
            channels: int, of that map.
            attended: pair of int or None, the map that is attended to.
            depth: int, the channels of one head's queries.

        Raises:
            ValueError: the tables need a size that is not known, or may not be interpolated.
        """
        if self.positions not in _TABLES:
            return
        relative = self.positions == "relative"
        size, width = (attended, depth) if relative else (size, channels)
        built = self.position_size
        built = size if built is None else (built, built) if isinstance(built, int) else built
        if None in built:
            raise ValueError(
                f"The table of {self.positions} positions of {type(self).__name__} has the size of "
                f"the map, which must be known. Received: a map of {size}. Give `position_size`, "
                'the height and width that are usual, or `positions` another kind than "relative" '
                'and "absolute".'
            )
        for name, side, known in zip(("row", "column"), built, size, strict=True):
            rows = 2 * side - 1 if relative else side
            table = self.add_weight(
                name=f"{name}_embeddings",
                shape=(rows, width),
                initializer=keras.initializers.RandomNormal(stddev=width**-0.5),
                trainable=True,
            )
            setattr(self, f"{name}_embeddings", table)
            if known is not None:
                # Says now what a call would say.
                table_at(np.empty((rows, 0)), known, self.interpolate_positions, relative)

    def attend(self, x, depths):
        """Returns the attention's outputs, before their projection.

        Args:
            x: tensor `(batch, height, width, channels)`, queries, keys and values.
            depths: how many channels each has.
        """
        query, key, value = _split(x, depths)
        tables = self._relative_tables(x)
        if self._integer_bits in (8, 16):
            # A layer of 4 heads on 14x14x32 as int8: 32 dB in the place of 15.
            return late_attention(query, key, value, self.num_heads, *tables)
        return attend_everywhere(
            query, key, value, self.num_heads, *tables, implementation=self.implementation
        )

    def look(self, x, depths, queries=None):
        """Returns the weights, `(batch, queries, heads, height, width)`, as of `attend`.

        Args:
            x: as of `attend`.
            depths: as of `attend`.
            queries: list of pairs of int or None, see `attention_map`.
        """
        query, key, _ = _split(x, depths)
        tables = self._relative_tables(x)
        if queries is None:
            found = attention_weights(query, key, self.num_heads, *tables)
        else:
            check_queries(queries, x.shape)
            found = weights_of_queries(query, key, self.num_heads, *tables, queries)
        _, height, width, _ = ops.shape(x)
        asked = height * width if queries is None else len(queries)
        found = ops.transpose(ops.cast(found, x.dtype), (0, 2, 1, 3))
        return ops.reshape(found, (-1, asked, self.num_heads, height, width))

    def attention_multiply_adds(self, size, depths):
        """Returns the multiply-adds of `attend` on a map of a size: of all pairs of positions."""
        places = math.prod(size)
        products = places * (depths[1] + depths[2])
        if self.positions == "relative":
            products += sum(size) * depths[0]
        return places * products

    def _relative_tables(self, x):
        if self.positions != "relative":
            return None, None
        return self._tables(x, relative=True)

    def with_positions(self, inputs):
        """Returns a map with what its positions add to it, for other than relative ones."""
        _, height, width, channels = ops.shape(inputs)
        if self.positions == "coordinates":
            return with_coordinates(inputs)
        if self.positions == "sinusoidal":
            return inputs + ops.cast(sinusoidal(height, width, channels), inputs.dtype)
        if self.positions == "absolute":
            return inputs + over_the_map(*self._tables(inputs, relative=False))
        return inputs

    def _tables(self, x, relative):
        tables = zip((self.row_embeddings, self.column_embeddings), ops.shape(x)[1:3], strict=True)
        return tuple(
            table_at(ops.cast(table, x.dtype), size, self.interpolate_positions, relative)
            for table, size in tables
        )

    def takes_shapes(self, shapes):
        """Says whether `load_own_variables` takes weights of these shapes, a list of tuples."""
        own = self._own_variables()
        return len(shapes) == len(own) and all(
            tuple(shape) == tuple(variable.shape)
            or (self._is_table(variable) and self._size_of(shape, variable) is not None)
            for shape, variable in zip(shapes, own, strict=True)
        )

    def load_own_variables(self, store):
        """Loads the layer's own weights; tables of another size as they are used at this one.

        Raises:
            ValueError: the weights are not those of such a layer, or the tables are smaller and
                `interpolate_positions` is False.
        """
        own = self._own_variables()
        if len(store.keys()) == len(own):
            store = {str(n): store[str(n)] for n in range(len(own))}
            relative = self.positions == "relative"
            for n, variable in enumerate(own):
                values = store[str(n)]
                size = self._size_of(values.shape, variable) if self._is_table(variable) else None
                if size is not None:
                    values = np.asarray(checks.as_numpy(values))
                    store[str(n)] = table_at(values, size, self.interpolate_positions, relative)
        super().load_own_variables(store)

    def _own_variables(self):
        return self._trainable_variables + self._non_trainable_variables

    def _is_table(self, variable):
        return variable is self.row_embeddings or variable is self.column_embeddings

    def _size_of(self, shape, variable):
        """Returns the axis that a table is for, where one of this shape can be made it, or None."""
        rows, channels = variable.shape
        relative = self.positions == "relative"
        is_table = len(shape) == 2 and shape[1] == channels and (shape[0] % 2 or not relative)
        if not is_table or not 0 < shape[0] < 2 * checks.IMAGE_SIDES:
            return None
        return (rows + 1) // 2 if relative else rows


def _split(x, depths):
    """Returns the channels of a map in parts, of these depths."""
    ends = [sum(depths[: n + 1]) for n in range(len(depths) - 1)]
    return ops.split(x, ends, axis=3)
