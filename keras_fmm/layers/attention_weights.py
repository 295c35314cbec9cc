"""How layers of self-attention show where a position looks."""

import keras

from keras_fmm import checks
from keras_fmm.layers.attention_map import AttentionMapMixin


class AttentionWeightsMixin(AttentionMapMixin):
    """Adds `attention_map` with `queries`, for chosen positions alone.

    `call(inputs, training=None, return_attention_map=False, queries=None)` must return the weights
    when asked to.
    """

    def attention_map(self, inputs, training=False, queries=None):
        """Returns where positions look instead of the layer's outputs: weights that sum to 1.

        It is a call of the layer: an `activity_regularizer` takes it for one.

        Args:
            inputs: as for calling the layer; symbolic inputs give a symbolic map.
            training: bool, default False. As for calling the layer.
            queries: list of pairs of int or None, default None. The row and column of each position
                that is asked for, on the map that is attended to; None: all of them, row by row,
                which takes memory for each pair of positions.

        Returns:
            Tensor `(batch, queries, heads, height, width)`, of the map that is attended to or of
            the window; whatever the `data_format`.

        Raises:
            TypeError: `queries` are no pairs of integers.
            ValueError: there are none, or one lies outside of the map.
        """
        if queries is not None:
            queries = checks.listed("queries", queries)
            queries = [
                tuple(
                    checks.integer(f"queries[{n}]", side, "a pair of integers from 0 on")
                    for side in checks.listed(f"queries[{n}]", query)
                )
                for n, query in enumerate(queries)
            ]
            if not queries or any(len(query) != 2 for query in queries):
                raise ValueError(
                    "`queries` must be pairs of a row and a column, at least one. "
                    f"Received: queries={queries}. For all positions leave it out."
                )
        return self(inputs, training=training, return_attention_map=True, queries=queries)

    def compute_output_spec(self, inputs, training=None, return_attention_map=False, queries=None):
        if return_attention_map:
            return _Weights(self, queries).compute_output_spec(inputs, training=training)
        return super().compute_output_spec(inputs, training=training)


class _Weights(keras.Operation):
    """Gives a layer's weights; it holds the queries, which JAX would trace among the arguments."""

    def __init__(self, layer, queries):
        super().__init__()
        self.layer = layer
        self.queries = queries

    def call(self, inputs, training=None):
        return self.layer.call(
            inputs, training=training, return_attention_map=True, queries=self.queries
        )


def check_queries(queries, shape):
    """Raises ValueError where a position lies outside of a map of known sizes.

    Args:
        queries: list of pairs of int.
        shape: tuple `(batch, height, width, channels)`, of the map.
    """
    sides = tuple(shape[1:3])
    for query in queries:
        for place, size in zip(query, sides, strict=True):
            if size is None or place >= size:
                raise ValueError(
                    "`queries` must lie on the map that is attended to, whose sizes must be known. "
                    f"Received: the query {query} on a map of {sides}."
                )
