"""What a pretrained network expects of its images, kept in the model."""

import keras

from keras_fmm import checks


@keras.saving.register_keras_serializable(package="keras_fmm")
class Preprocessing(keras.layers.Normalization):
    """Keeps how the images of a pretrained network were made, and normalizes them if asked.

    Saved, upgraded and nested with its model, it tells what `models.from_timm` knew.

    Args:
        image_mean: sequence of float, one a channel, of images of 0 to 1.
        image_std: sequence of float, likewise, each above 0. In training images were
            `(image / 255 - image_mean) / image_std`.
        normalize: bool, default True. Whether the layer does that with images of 0 to 255; else it
            hands on what comes, which must be done so already.
        image_size: int or None, default None. The side that images were cropped to in training.
        crop_pct: number or None, default None. What part of the shorter side the crop takes.
        test_image_size: int or None, default None. The side at which the network was tested.
        test_crop_pct: number or None, default None. The part there.
        interpolation: str or None, default None. How images were resized, "bicubic" or "bilinear".
        source: str or None, default None. What timm calls the network and its weights.
        axis: int, default -1. That of the channels.
        **kwargs: the arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, or as `axis` says.

    Output shape:
        That of the inputs.

    Raises:
        TypeError, ValueError: `image_mean` or `image_std` are no numbers, or not as many as there
            are channels, or a deviation is not above 0.

    Example:

    >>> import numpy as np
    >>> layer = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    >>> float(layer(np.full((1, 2, 2, 3), 255.0))[0, 0, 0, 0])
    2.0
    """

    def __init__(
        self,
        image_mean,
        image_std,
        normalize=True,
        image_size=None,
        crop_pct=None,
        test_image_size=None,
        test_crop_pct=None,
        interpolation=None,
        source=None,
        axis=-1,
        **kwargs,
    ):
        normalize = checks.flag("normalize", normalize)
        means = [checks.number("image_mean", x) for x in checks.listed("image_mean", image_mean)]
        stds = [checks.number("image_std", x) for x in checks.listed("image_std", image_std)]
        if len(means) != len(stds) or not all(x > 0 for x in stds):
            raise ValueError(
                "`image_mean` and `image_std` must have a number a channel, the deviations above "
                f"0. Received: image_mean={image_mean!r}, image_std={image_std!r}"
            )
        super().__init__(
            axis=axis,
            mean=[255.0 * x for x in means],
            variance=[(255.0 * x) ** 2 for x in stds],
            **kwargs,
        )
        self.image_mean = tuple(means)
        self.image_std = tuple(stds)
        self.normalize = normalize
        self.image_size = image_size
        self.crop_pct = crop_pct
        self.test_image_size = test_image_size
        self.test_crop_pct = test_crop_pct
        self.interpolation = interpolation
        self.source = source

    def build(self, input_shape):
        channels = input_shape[self.axis[0]]
        if self.normalize and channels != len(self.image_mean):
            raise ValueError(
                f"Images must have {len(self.image_mean)} channels, for as many means. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        if self.normalize:
            super().build(input_shape)
        self.built = True

    def call(self, inputs):
        return super().call(inputs) if self.normalize else inputs

    def images_expected(self):
        """Returns what the layer knows of images, a dict; see `protocols.TellsImages`."""
        return {
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "is_inside": self.normalize,
            "image_size": self.image_size,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
        }

    def get_config(self):
        config = keras.layers.Layer.get_config(self)
        config.update(
            {
                "image_mean": self.image_mean,
                "image_std": self.image_std,
                "normalize": self.normalize,
                "image_size": self.image_size,
                "crop_pct": self.crop_pct,
                "test_image_size": self.test_image_size,
                "test_crop_pct": self.test_crop_pct,
                "interpolation": self.interpolation,
                "source": self.source,
                "axis": self.axis[0],
            }
        )
        return config
