"""The boxes that a detector's outputs are relative to."""

import keras
import numpy as np
from keras import ops

from keras_fmm import checks


@keras.saving.register_keras_serializable(package="keras_fmm")
class DefaultBoxes(keras.layers.Layer):
    """Gives the boxes of feature maps: of a few widths and heights around each position.

    At row i and column j of a map of stride s they are centred at
    `((j + offset) * s, (i + offset) * s)`. Their order is that of the maps, then of the rows, the
    columns and the shapes.

    Args:
        strides: sequence of numbers above 0. Of each map, how many pixels its positions are apart.
        shapes: sequence of lists of pairs of numbers above 0. Of each map, the widths and heights
            of its boxes in pixels.
        offset: number, default 0.5: the centre of a position's square. 0 is its corner.
        data_format: None, "channels_last" or "channels_first", default None (Keras' setting).

    Input shape:
        A list of tensors `(batch, height, width, channels)`, or as `data_format` says.

    Output shape:
        float32 `(boxes, 4)`: x1, y1, x2, y2 in pixels; they may reach beyond the image.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Example:

    >>> layer = DefaultBoxes(strides=[8], shapes=[[[8, 4]]])
    >>> keras.ops.convert_to_numpy(layer([np.zeros((1, 1, 2, 3))])).tolist()
    [[0.0, 2.0, 8.0, 6.0], [8.0, 2.0, 16.0, 6.0]]

    Reference:
        Liu et al., "SSD: Single Shot MultiBox Detector", section 2.2.
    """

    def __init__(self, strides, shapes, offset=0.5, data_format=None, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.strides = _positive("strides", strides)
        self.shapes = [
            [_positive("shapes", pair) for pair in checks.listed("shapes", of_map)]
            for of_map in checks.listed("shapes", shapes)
        ]
        self.offset = checks.number("offset", offset)
        self.data_format = checks.data_format(data_format)
        pairs = [pair for of_map in self.shapes for pair in of_map]
        if len(self.shapes) != len(self.strides) or {len(pair) for pair in pairs} != {2}:
            raise ValueError(
                "`shapes` must have a list of pairs for each of `strides`. "
                f"Received: strides={self.strides}, shapes={self.shapes}"
            )

    def call(self, maps):
        maps = [maps] if not isinstance(maps, (list, tuple)) else maps
        levels = zip(maps, self.strides, self.shapes, strict=True)
        return ops.concatenate([self._of_map(*level) for level in levels], axis=0)

    def _of_map(self, x, stride, shapes):
        rows, columns = self._sides(ops.shape(x))
        half = np.asarray(shapes) / 2
        corners = ops.convert_to_tensor(np.concatenate([-half, half], axis=1), "float32")
        y = (ops.cast(ops.arange(rows), "float32") + self.offset) * stride
        x = (ops.cast(ops.arange(columns), "float32") + self.offset) * stride
        x, y = ops.meshgrid(x, y)
        centres = ops.reshape(ops.stack([x, y, x, y], axis=-1), (-1, 1, 4))
        return ops.reshape(centres + corners, (-1, 4))

    def _sides(self, shape):
        return shape[1:3] if self.data_format == "channels_last" else shape[2:4]

    def compute_output_shape(self, input_shape):
        shapes = input_shape if isinstance(input_shape, list) else [input_shape]
        sides = [self._sides(shape) for shape in shapes]
        if None in [side for pair in sides for side in pair]:
            return (None, 4)
        levels = zip(sides, self.shapes, strict=True)
        return (sum(rows * columns * len(of_map) for (rows, columns), of_map in levels), 4)

    def get_config(self):
        names = ("strides", "shapes", "offset", "data_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_fmm")
class Anchors(DefaultBoxes):
    """Gives the anchors of feature maps: boxes of a few sizes and ratios around each position.

    At row i and column j of a map of stride s the anchors are centred at
    `((j + offset) * s, (i + offset) * s)`; for a size a and a ratio r they are `a / sqrt(r)` wide
    and `a * sqrt(r)` high. Their order is that of the maps, then of the rows, the columns, the
    ratios and the sizes.

    Args:
        strides: sequence of ints, at least 1. Of each map, how many pixels its positions are apart.
        sizes: sequence of sequences of numbers above 0. Of each map, the sides in pixels of its
            square anchors, as many for each map.
        ratios: sequence of numbers above 0, default (0.5, 1, 2). Of height to width.
        offset: number, default 0.5: the centre of a position's square. 0 is its corner, as in
            torchvision.

    Input shape:
        A list of tensors `(batch, height, width, channels)`, or as `data_format` says.

    Output shape:
        float32 `(anchors, 4)`: x1, y1, x2, y2 in pixels; they may reach beyond the image.

    Example:

    >>> layer = Anchors(strides=[8], sizes=[[16]], ratios=[1])
    >>> keras.ops.convert_to_numpy(layer([np.zeros((1, 1, 2, 3))])).tolist()
    [[-4.0, -4.0, 12.0, 12.0], [4.0, -4.0, 20.0, 12.0]]

    Reference:
        Ren et al., "Faster R-CNN", section 3.1; Lin et al., "Focal Loss for Dense Object
        Detection", section 4.
    """

    def __init__(self, strides, sizes, ratios=(0.5, 1, 2), offset=0.5, data_format=None, **kwargs):
        strides = checks.listed("strides", strides)
        strides = [checks.positive_integer("strides", stride) for stride in strides]
        sizes = [_positive("sizes", level) for level in checks.listed("sizes", sizes)]
        ratios = _positive("ratios", ratios)
        if len(sizes) != len(strides) or len({len(level) for level in sizes}) != 1:
            raise ValueError(
                "`sizes` must have a list of as many sizes for each of `strides`. "
                f"Received: strides={strides}, sizes={sizes}"
            )
        shapes = [
            [[size / ratio**0.5, size * ratio**0.5] for ratio in ratios for size in level]
            for level in sizes
        ]
        super().__init__(strides, shapes, offset, data_format, **kwargs)
        self.strides, self.sizes, self.ratios = strides, sizes, ratios

    @property
    def per_position(self):
        """The number of anchors around each position."""
        return len(self.shapes[0])

    def get_config(self):
        config = super().get_config()
        del config["shapes"]
        return {**config, "sizes": self.sizes, "ratios": self.ratios}


def _positive(name, values):
    found = [checks.number(name, value) for value in checks.listed(name, values)]
    if not found or min(found) <= 0:
        raise ValueError(f"`{name}` must hold numbers above 0. Received: {name}={values!r}")
    return found
