"""The base of layers of one feature map: its layout, its channels, and the making of sub-layers."""

import keras

from keras_fmm import checks


class FeatureMapMixin:
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

    A subclass makes its sub-layers in `build_sublayers` and overrides `call`; one whose outputs
    have another shape overrides `compute_output_shape`.

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
