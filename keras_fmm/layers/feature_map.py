"""The base of layers of feature maps: their dtype, layout and channels, and their sub-layers."""

import keras
from keras import ops

from keras_fmm import checks


class CastInputsMixin:
    """Casts the inputs of a layer, of any real dtype, to its compute dtype, that of its outputs.

    Keras casts floats alone, and says of every layer that its outputs have the compute dtype. Maps
    of integers or bools would round a gate or fail inside the backend.
    """

    def cast_inputs(self, inputs):
        """Returns inputs in the compute dtype; `call` begins with it.

        Args:
            inputs: tensor, or a structure of them.

        Raises:
            TypeError: they do not hold real numbers.
        """
        self._check_dtypes(inputs)
        return keras.tree.map_structure(lambda x: ops.cast(x, self.compute_dtype), inputs)

    def compute_output_spec(self, inputs, *args, **kwargs):
        # Symbolic calls do not come to `call`.
        self._check_dtypes(inputs)
        return super().compute_output_spec(inputs, *args, **kwargs)

    def _check_dtypes(self, inputs):
        for x in keras.tree.flatten(inputs):
            checks.real_numbers(f"The inputs of {type(self).__name__}", x)


class FeatureMapMixin(CastInputsMixin):
    """Reads the shapes of a layer that has a `data_format`, and makes its sub-layers.

    For a layer that is a `keras.layers.Conv2D` already; any other is a `FeatureMapLayer`.
    """

    def channels_of(self, input_shape):
        """Returns the channels of an input shape; raises ValueError as `checks.channels_of`."""
        return checks.channels_of(type(self).__name__, input_shape, self.data_format)

    def sizes_of(self, input_shape):
        """Returns `(height, width, channels)`; raises ValueError as `checks.sizes_of`."""
        return checks.sizes_of(type(self).__name__, input_shape, self.data_format)

    def expect_channels(self, channels):
        """Lets Keras refuse inputs of other channels than the layer was built for."""
        axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: channels})

    def make_sublayer(self, kind, input_shape, **arguments):
        """Returns a built sub-layer of the layer's dtype policy, frozen where the layer is.

        A layer that is frozen before it is built, as in a frozen model that is loaded, has frozen
        sub-layers. Call it in `build`, and keep what it returns as an attribute.

        Args:
            kind: callable that returns a `keras.layers.Layer`, such as its class.
            input_shape: tuple, the shape of what the sub-layer will be called on.
            **arguments: of `kind`; give each a `name`, which the paths of its weights begin with.
        """
        layer = kind(**arguments, trainable=self.trainable, dtype=self.dtype_policy)
        layer.build(input_shape)
        return layer


class FeatureMapLayer(FeatureMapMixin, keras.layers.Layer):
    """A layer from feature maps to feature maps of the same shape, of any height and width.

    A subclass makes its sub-layers in `build_sublayers` and overrides `call`, which begins with
    `inputs = self.cast_inputs(inputs)`: maps of any real dtype, integers and bools too, are cast to
    the layer's compute dtype, which the outputs have. One whose outputs have another shape
    overrides `compute_output_shape`.

    Args:
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        **kwargs: the arguments of `keras.layers.Layer`.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = checks.data_format(data_format)

    def build(self, input_shape):
        channels = self.channels_of(input_shape)
        self.expect_channels(channels)
        self.build_sublayers(channels)

    def build_sublayers(self, channels):
        """Makes the sub-layers, each by `make_sublayer`; the default has none.

        Args:
            channels: int, the channels of the inputs.
        """

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}
