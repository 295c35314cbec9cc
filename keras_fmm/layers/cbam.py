"""The convolutional block attention module (CBAM)."""

import keras

from keras_fmm import checks
from keras_fmm.layers.channel_attention import ChannelAttention
from keras_fmm.layers.feature_gate import FeatureGate
from keras_fmm.layers.spatial_attention import SpatialAttention
from keras_fmm.ops import from_channels_last, to_channels_last


@keras.saving.register_keras_serializable(package="keras_fmm")
class CBAM(FeatureGate):
    """Gates channels, then positions: `y = A_c(x) * x`, `outputs = A_s(y) * y`.

    The product is the only merge; for an ablation by addition, chain `ChannelAttention` and
    `SpatialAttention` with `merge="add"`.

    Args:
        reduction: int, default 16. Of the channel attention, at least 1.
        kernel_size: int, default 7. Of the spatial attention, from 1 to 255.
        use_max_pool: bool, default True. Whether both attentions look at the max beside the mean.
            False is "CBAM (Spatial)" in the paper on AW-convolution.
        use_spatial: bool, default True. False leaves the spatial attention out, which is
            "CBAM (MaxPool)" in the paper on AW-convolution.
        gate_activation: str or callable, default "sigmoid". The activation of both gates; None is
            the identity.
        data_format: str or None, default None. "channels_last", "channels_first", or None for
            Keras' setting.
        **kwargs: the arguments of `keras.layers.Layer`.

    The sub-layers `channel_attention` and `spatial_attention` (None without it) are attributes of
    the built layer.

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says; all but the channels may be
        unknown.

    Output shape:
        That of the inputs. `attention_map` gives `A_c(x) * A_s(A_c(x) * x)`, of the same shape, or
        `A_c(x)`, `(batch, 1, 1, channels)`, without spatial attention.

    Example:

    >>> import keras
    >>> CBAM(reduction=4)(keras.Input((28, 28, 32))).shape
    (None, 28, 28, 32)

    Reference:
        Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", equations 1 to 3.
        https://arxiv.org/abs/1807.06521
    """

    def __init__(
        self,
        reduction=16,
        kernel_size=7,
        use_max_pool=True,
        use_spatial=True,
        gate_activation="sigmoid",
        data_format=None,
        **kwargs,
    ):
        if "merge" in kwargs:
            raise ValueError(
                f"CBAM merges by the product only. Received: merge={kwargs['merge']!r}. "
                'Chain ChannelAttention(merge="add") and SpatialAttention(merge="add").'
            )
        super().__init__(data_format=data_format, gate_activation=gate_activation, **kwargs)
        self.reduction = checks.positive_integer("reduction", reduction)
        self.kernel_size = checks.positive_integer("kernel_size", kernel_size, checks.SIDES)
        self.use_max_pool = checks.flag("use_max_pool", use_max_pool)
        self.use_spatial = checks.flag("use_spatial", use_spatial)

    def build(self, input_shape):
        super().build(input_shape)
        self.spatial_attention = None
        for kind, arguments in self._attentions().items():
            setattr(self, arguments["name"], self.make_sublayer(kind, input_shape, **arguments))

    def _attentions(self):
        """Returns the arguments of each attention by its class."""
        shared = {
            "use_max_pool": self.use_max_pool,
            "gate_activation": self.gate_activation,
            "data_format": self.data_format,
        }
        channel = {"reduction": self.reduction, "name": "channel_attention", **shared}
        spatial = {"kernel_size": self.kernel_size, "name": "spatial_attention", **shared}
        if self.use_spatial:
            return {ChannelAttention: channel, SpatialAttention: spatial}
        return {ChannelAttention: channel}

    def compute_attention_map(self, inputs, training=None):
        # Those that it is made of are of its data format.
        inputs = from_channels_last(inputs, self.data_format)
        gate = self.channel_attention.attention_map(inputs, training=training)
        if self.use_spatial:
            outputs = self.channel_attention(inputs, training=training)
            gate = gate * self.spatial_attention.attention_map(outputs, training=training)
        return to_channels_last(gate, self.data_format)

    def call(self, inputs, training=None, return_attention_map=False):
        if return_attention_map:
            return super().call(inputs, training=training, return_attention_map=True)
        inputs = self.cast_inputs(inputs)
        outputs = self.channel_attention(inputs, training=training)
        if self.use_spatial:
            outputs = self.spatial_attention(outputs, training=training)
        return outputs

    def multiply_adds(self, input_shape):
        return sum(
            kind(**arguments).multiply_adds(input_shape)
            for kind, arguments in self._attentions().items()
        )

    def get_config(self):
        config = super().get_config()
        del config["merge"]
        config.update(
            {
                "reduction": self.reduction,
                "kernel_size": self.kernel_size,
                "use_max_pool": self.use_max_pool,
                "use_spatial": self.use_spatial,
            }
        )
        return config
