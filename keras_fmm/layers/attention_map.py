"""The one method by which every attention layer shows what it attends to."""

import keras

from keras_fmm import checks


class AttentionMapMixin:
    """Adds `attention_map` to a layer whose `call` takes `return_attention_map`.

    `call(inputs, training=None, return_attention_map=False)` must return the map instead of the
    outputs when asked to. Going through `__call__`, the map is built, cast and traced like the
    outputs are.
    """

    def __call__(self, *args, **kwargs):
        for name in ("training", "return_attention_map"):
            value = kwargs.get(name, False)
            is_open = name == "training" and value is None
            # `keras.RematScope` makes tensors of them on JAX.
            if not is_open and not keras.ops.is_tensor(value):
                checks.flag(name, value)
        return super().__call__(*args, **kwargs)

    def attention_map(self, inputs, training=False):
        """Returns the attention of these inputs instead of the layer's outputs.

        It is a call of the layer: an `activity_regularizer` takes it for one.

        Args:
            inputs: as for calling the layer; symbolic inputs give a symbolic map.
            training: bool, default False. Whether batch norm inside the attention takes the batch's
                statistics.
        """
        return self(inputs, training=training, return_attention_map=True)

    def compute_output_spec(self, inputs, training=None, return_attention_map=False):
        if return_attention_map:
            # compute_output_shape speaks of the outputs; let Keras trace what the map's shape is.
            return keras.Operation.compute_output_spec(
                self, inputs, training=training, return_attention_map=True
            )
        return super().compute_output_spec(inputs, training=training)
