"""What a layer may offer, each by one method: asked for by the method, never by the class.

A layer of this package and one of a user's own are alike to `models.upgrade`, `load_weights`,
`export` and `analysis`: `isinstance(layer, ReplacesConvolution)` says whether it has the method.
"""

import typing


@typing.runtime_checkable
class HasAttentionMap(typing.Protocol):
    """Shows what it attends to; `analysis.attention_maps` asks every layer."""

    def attention_map(self, inputs, training=False):
        """Returns the attention of these inputs, the batch first.

        Args:
            inputs: as for calling the layer.
            training: bool, default False. As for calling the layer.
        """


@typing.runtime_checkable
class HasHeldMap(typing.Protocol):
    """Computes its attention map apart; `analysis.full_grad(hold_gates=True)` holds it constant."""

    def compute_attention_map(self, inputs, training=None):
        """Returns the attention of channels-last inputs.

        Args:
            inputs: tensor `(batch, height, width, channels)`.
            training: bool or None, default None. As for calling the layer.
        """


@typing.runtime_checkable
class HasCost(typing.Protocol):
    """Says what it costs; `analysis.flops` asks every layer."""

    def multiply_adds(self, input_shape):
        """Returns the multiply-adds of one sample, an int.

        Args:
            input_shape: tuple, the batch first and ignored; of several inputs a list of tuples.
        """


@typing.runtime_checkable
class TellsImages(typing.Protocol):
    """Knows how the images of a pretrained network were made; `export.to_tflite` asks."""

    def images_expected(self):
        """Returns what it knows, a dict that JSON can hold.

        "image_mean" and "image_std" are lists with a number a channel, of images of 0 to 1;
        "is_inside" says whether the layer normalizes by them. "image_size", "crop_pct" and
        "interpolation" say how training resized its images; None is not known.
        """


@typing.runtime_checkable
class StartsAsIdentity(typing.Protocol):
    """Can start so that it changes nothing; `models.upgrade` asks what it adds."""

    def start_as_identity(self):
        """Sets the weights of the built layer so that its outputs are its inputs."""


@typing.runtime_checkable
class StartsAsSum(typing.Protocol):
    """Merges a residual branch with its shortcut and can start as their sum; `upgrade` asks."""

    def start_as_sum(self):
        """Sets the weights of the built layer so that it gives branch + shortcut."""


@typing.runtime_checkable
class ReplacesConvolution(typing.Protocol):
    """Stands in a convolution's place and can start as that convolution; `models.upgrade` asks."""

    def start_as_convolution(self, kernel, bias=None):
        """Sets the weights of the built layer so that it is the convolution of this kernel.

        Args:
            kernel: array `(height, width, in_channels, filters)`, of the old convolution.
            bias: array `(filters,)` or None, default None. None where the old one has no bias.
        """


@typing.runtime_checkable
class StartsNearConvolution(typing.Protocol):
    """Stands in a convolution's place and can start as that in part; `models.upgrade` asks."""

    def start_near_convolution(self, kernel, bias=None):
        """Sets the weights of the built layer so that it is near the convolution of this kernel.

        Args:
            kernel: array `(height, width, in_channels, filters)`, of the old convolution.
            bias: array `(filters,)` or None, default None. None where the old one has no bias.

        Returns:
            int. So many of the first channels of its outputs are the convolution's.
        """


@typing.runtime_checkable
class HasIntegerForm(typing.Protocol):
    """Has a form that loses least when made integers; `export.to_tflite` asks every layer."""

    def for_integers(self, bits):
        """Returns a context manager in which calls compute in that form.

        Args:
            bits: 8 or 16. How many bits the values between layers have; or 32: those are floats,
                and only weights are integers.
        """
