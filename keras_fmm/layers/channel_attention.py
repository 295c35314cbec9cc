"""CBAM's attention over channels."""

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.layers.integer_form import IntegerFormMixin
from keras_fmm.layers.squeeze_excite import SqueezeExcite
from keras_fmm.ops import spatial_max, spatial_mean, spatial_mean_and_max
from keras_fmm.ops.sums import summed


@keras.saving.register_keras_serializable(package="keras_fmm")
class ChannelAttention(IntegerFormMixin, SqueezeExcite):
    """Gates each channel by what all channels hold on average and at most.

    `g(x) = gate_activation(MLP(mean(x)) + MLP(max(x)))`, with mean and max over space and one
    `MLP(v) = W2 . activation(W1 . v + b1) + b2` for both.

    Args:
        reduction: int, default 16. By how much there are fewer hidden units than channels, at
            least 1; one larger than the channels gives one hidden unit.
        use_max_pool: bool, default True. False leaves the max out, which is `SqueezeExcite`.
        **kwargs: the other arguments of `SqueezeExcite`, with their defaults.

    Input shape:
        `(batch, height, width, channels)`, or as `data_format` says; all but the channels may be
        unknown.

    Output shape:
        That of the inputs. `attention_map` gives `(batch, 1, 1, channels)`.

    Example:

    >>> import keras
    >>> ChannelAttention(reduction=8)(keras.Input((None, None, 32))).shape
    (None, None, None, 32)

    Reference:
        Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", equation 2; biases as
        in the authors' code.
        https://arxiv.org/abs/1807.06521
    """

    def __init__(self, reduction=16, use_max_pool=True, **kwargs):
        super().__init__(reduction=reduction, **kwargs)
        self.use_max_pool = checks.flag("use_max_pool", use_max_pool)

    def excitation(self, inputs):
        if not self.use_max_pool:
            return super().excitation(inputs)
        if self._integer_bits == 16:
            # TensorFlow's converter to int16x8 takes the bias of a product that is used twice in
            # the first one's scale.
            both = ops.stack([spatial_mean(inputs), spatial_max(inputs)], axis=1)
            return summed(self.excite(self.squeeze(both)), axis=1)
        if self._integer_bits == 8:
            # Side by side they would have one scale, and means are far smaller than maxima.
            of_max = self.excite(self.squeeze(spatial_max(inputs)))
            return super().excitation(inputs) + of_max
        x = self.excite(self.squeeze(spatial_mean_and_max(inputs)))
        # The gradient of a sum over an axis has three times as many operators.
        of_mean, of_max = ops.unstack(ops.reshape(x, (-1, 2, x.shape[-1])), axis=1)
        return of_mean + of_max

    def attention_multiply_adds(self, height, width, channels):
        passes = 2 if self.use_max_pool else 1
        return passes * super().attention_multiply_adds(height, width, channels)

    def get_config(self):
        return {**super().get_config(), "use_max_pool": self.use_max_pool}
