"""The features of boxes: RoIAlign, on one map or a pyramid of maps."""

import math

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.detection import boxes as boxes_of


@keras.saving.register_keras_serializable(package="keras_fmm")
class RoIAlign(keras.layers.Layer):
    """Cuts each box out of a feature map, as a map of a fixed size.

    A box is parted into `pool_size` x `pool_size` bins. In each bin `sampling_ratio` x
    `sampling_ratio` points are read by bilinear interpolation, and their mean is the bin's. A point
    more than one position outside the map is 0; one less far outside is that at the border. Of
    several maps, a box is read from that of the level
    `floor(4 + log2(sqrt(width * height) / 224))`, or from the nearest there is; the level n is
    the map of stride 2**n. No gradient reaches the boxes.

    Args:
        pool_size: int, from 1 to 64, default 7. The height and width of what is cut out.
        strides: sequence of numbers above 0, default (4, 8, 16, 32). Of each map, how many pixels
            its positions are apart. Of several each is a power of 2, twice that before.
        sampling_ratio: int, from 1 to 16, default 2. The points along a side of a bin.
        aligned: bool, default True. Whether position 0 of a map is the middle of its first stride;
            else pixel 0 is, and a box is at least one position wide, as in the first form and in
            torchvision's detectors.
        data_format: None, "channels_last" or "channels_first", default None (Keras' setting).

    Input shape:
        A list: boxes `(batch, n, 4)`, x1, y1, x2, y2 in pixels of the image, float32; then as many
        maps as `strides`, `(batch, height, width, channels)`, or as `data_format` says. n may be 0.

    Output shape:
        `(batch, n, pool_size, pool_size, channels)`, with "channels_first"
        `(batch, n, channels, pool_size, pool_size)`.

    Raises:
        TypeError, ValueError: an argument is out of range, or there are more or fewer maps than
            strides.

    Example:

    >>> import numpy as np
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> layer = RoIAlign(pool_size=2, strides=[8], sampling_ratio=1)
    >>> cut = layer([np.array([[[8, 8, 24, 24]]]), x])
    >>> keras.ops.convert_to_numpy(cut)[0, 0, :, :, 0].tolist()
    [[5.0, 6.0], [9.0, 10.0]]

    Reference:
        He et al., "Mask R-CNN", section 3; the level: Lin et al., "Feature Pyramid Networks for
        Object Detection", equation 1.
    """

    def __init__(
        self,
        pool_size=7,
        strides=(4, 8, 16, 32),
        sampling_ratio=2,
        aligned=True,
        data_format=None,
        **kwargs,
    ):
        # Half precision has no boxes of hundreds of pixels: they stay as they come.
        super().__init__(**{**kwargs, "autocast": False})
        self.pool_size = checks.positive_integer("pool_size", pool_size, 65)
        self.strides = [checks.number("strides", x) for x in checks.listed("strides", strides)]
        self.sampling_ratio = checks.positive_integer("sampling_ratio", sampling_ratio, 17)
        self.aligned = checks.flag("aligned", aligned)
        self.data_format = checks.data_format(data_format)
        if not self.strides or min(self.strides) <= 0:
            raise ValueError(f"`strides` must be numbers above 0. Received: strides={strides!r}")
        first = math.log2(self.strides[0])
        levels = [2.0 ** (first + index) for index in range(len(self.strides))]
        if len(levels) > 1 and (first % 1 or self.strides != levels):
            raise ValueError(
                "`strides` of several maps must be powers of 2, each twice that before. "
                f"Received: strides={strides!r}"
            )

    def call(self, inputs):
        boxes, *maps = inputs
        self._check(len(maps))
        boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
        if self.data_format == "channels_first":
            maps = [ops.transpose(x, (0, 2, 3, 1)) for x in maps]
        # All positions of all images and maps in one row, from which all boxes are read at once.
        channels = maps[0].shape[-1]
        sides = [ops.shape(x)[1:3] for x in maps]
        flat = [
            ops.reshape(x, (-1, h * w, channels)) for x, (h, w) in zip(maps, sides, strict=True)
        ]
        flat = ops.concatenate(flat, axis=1) if len(flat) > 1 else flat[0]
        rows = ops.shape(flat)[1]
        flat = ops.reshape(flat, (-1, channels))
        level = self._level(boxes)
        starts = [sum(h * w for h, w in sides[:index]) for index in range(len(sides))]
        start, height, width = (
            ops.take(ops.stack([ops.convert_to_tensor(x, "int32") for x in of_maps]), level)
            for of_maps in (starts, [h for h, _ in sides], [w for _, w in sides])
        )
        stride = ops.take(ops.convert_to_tensor(self.strides, "float32"), level)
        image = ops.expand_dims(ops.arange(ops.shape(boxes)[0], dtype="int32"), 1)
        start = start + image * rows
        boxes = boxes / ops.expand_dims(stride, 2) - (0.5 if self.aligned else 0.0)
        y = self._along(boxes[..., 1], boxes[..., 3], height)
        x = self._along(boxes[..., 0], boxes[..., 2], width)
        found = 0.0
        for row, row_weight in y:
            row = ops.expand_dims(row * ops.expand_dims(width, 2) + ops.expand_dims(start, 2), 3)
            for column, column_weight in x:
                weight = ops.expand_dims(row_weight, 3) * ops.expand_dims(column_weight, 2)
                read = ops.take(flat, row + ops.expand_dims(column, 2), axis=0)
                found = found + ops.cast(read, "float32") * ops.expand_dims(weight, 4)
        found = ops.cast(found / self.sampling_ratio**2, self.compute_dtype)
        if self.data_format == "channels_first":
            found = ops.transpose(found, (0, 1, 4, 2, 3))
        return found

    def _level(self, boxes):
        """Returns the place among the maps for each box, `(batch, n)`."""
        width, height = (boxes_of.sides(boxes)[..., axis] for axis in (0, 1))
        # Of no area is the finest.
        root = ops.clip(ops.sqrt(width * height), 1e-6, 1e9)
        # An exact 112 is that of level 3, whatever the logarithm is rounded to.
        level = ops.floor(4 + ops.log2(root / 224) + 1e-6) - math.floor(math.log2(self.strides[0]))
        return ops.clip(ops.cast(level, "int32"), 0, len(self.strides) - 1)

    def _along(self, first, last, side):
        """Returns the positions to read along an axis and their weights, `(batch, n, pool_size)`.

        They are two for each of the points along a bin.
        """
        length = last - first if self.aligned else ops.maximum(last - first, 1.0)
        bins = ops.expand_dims(ops.arange(self.pool_size, dtype="float32"), 0)
        side = ops.expand_dims(side, 2)
        end = ops.cast(side - 1, "float32")
        found = []
        for point in range(self.sampling_ratio):
            place = (bins + (point + 0.5) / self.sampling_ratio) / self.pool_size
            at = ops.expand_dims(first, 2) + ops.expand_dims(length, 2) * place
            is_inside = ops.cast(ops.logical_and(at >= -1, at <= end + 1), "float32")
            at = ops.minimum(ops.maximum(at, 0.0), end)
            # As integers once more, for what is no number.
            low = ops.minimum(ops.maximum(ops.cast(ops.floor(at), "int32"), 0), side - 1)
            part = at - ops.cast(low, "float32")
            found.append((low, (1 - part) * is_inside))
            found.append((ops.minimum(low + 1, side - 1), part * is_inside))
        return found

    def _check(self, maps):
        if maps != len(self.strides):
            raise ValueError(
                f"There must be as many maps as `strides` ({len(self.strides)}) after the boxes. "
                f"Received: {maps} maps"
            )

    def compute_output_shape(self, input_shape):
        boxes, *maps = input_shape
        self._check(len(maps))
        size = (self.pool_size, self.pool_size)
        if self.data_format == "channels_first":
            return (*boxes[:2], maps[0][1], *size)
        return (*boxes[:2], *size, maps[0][3])

    def get_config(self):
        names = ("pool_size", "strides", "sampling_ratio", "aligned", "data_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
