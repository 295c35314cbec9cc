"""Regions that may hold an object, and a sample of them to train on."""

import keras
from keras import ops

from keras_fmm import checks
from keras_fmm.detection import boxes as boxes_of
from keras_fmm.detection.losses import decoded
from keras_fmm.detection.matching import match
from keras_fmm.detection.suppression import suppressed


@keras.saving.register_keras_serializable(package="keras_fmm")
class RegionProposals(keras.layers.Layer):
    """Gives the boxes that most likely hold an object of whatever class, each object's once.

    Of each map the anchors of the highest logits are decoded and cut at the image's border. Of
    those that overlap by more than `iou_threshold`, of one map, the best is left; of these the best
    of all maps. No gradient passes.

    Args:
        proposals: int, default 1000. The room for boxes.
        candidates: int, default 1000. How many are looked at, of each map.
        iou_threshold: number from 0 to 1, default 0.7.

    Call arguments:
        inputs: a list, of each map a list of anchors `(n, 4)`, deltas `(batch, n, 4)` and logits
            `(batch, n, 1)`.
        images: as of `Detections`.

    Output shape:
        float32 `(batch, proposals, 4)`: x1, y1, x2, y2 in the image's pixels, the best first;
        behind the last 0, 0, 0, 0.

    Example:

    >>> import numpy as np
    >>> anchors = np.array([[0, 0, 8, 8], [0, 0, 8, 7], [4, 4, 20, 20]], "float32")
    >>> level = [anchors, np.zeros((1, 3, 4)), np.array([[[1.0], [2.0], [0.0]]])]
    >>> found = RegionProposals(proposals=3)([level], np.zeros((1, 16, 16, 3)))
    >>> keras.ops.convert_to_numpy(found)[0].tolist()
    [[0.0, 0.0, 8.0, 7.0], [4.0, 4.0, 16.0, 16.0], [0.0, 0.0, 0.0, 0.0]]

    Reference:
        Ren et al., "Faster R-CNN", section 3.1; of each map as in torchvision.
    """

    def __init__(
        self, proposals=1000, candidates=1000, iou_threshold=0.7, data_format=None, **kwargs
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.proposals = checks.positive_integer("proposals", proposals, 10_001)
        self.candidates = checks.positive_integer("candidates", candidates, 100_001)
        self.iou_threshold = checks.share("iou_threshold", iou_threshold)
        self.data_format = checks.data_format(data_format)

    def call(self, inputs, images):
        boxes, scores, levels = [], [], []
        for level, (anchors, deltas, logits) in enumerate(inputs):
            deltas, logits = ops.stop_gradient(deltas), ops.stop_gradient(logits)
            count = min(self.candidates, anchors.shape[0] or self.candidates)
            best, index = highest(ops.sigmoid(logits[..., 0]), count)
            found = decoded(ops.take(anchors, index, axis=0), rows(deltas, index))
            boxes.append(found)
            scores.append(best)
            levels.append(ops.zeros_like(index) + level)
        boxes = boxes_of.cut(ops.concatenate(boxes, axis=1), images, self.data_format)
        scores, levels = ops.concatenate(scores, axis=1), ops.concatenate(levels, axis=1)
        order = ops.argsort(-scores, axis=1)
        boxes = rows(boxes, order)
        scores, levels = (ops.take_along_axis(x, order, axis=1) for x in (scores, levels))
        return ops.stop_gradient(
            suppressed(boxes, scores, levels, self.proposals, 0.0, self.iou_threshold)["boxes"]
        )

    def compute_output_spec(self, inputs, images):
        return keras.KerasTensor((images.shape[0], self.proposals, 4), "float32")

    def get_config(self):
        names = ("proposals", "candidates", "iou_threshold", "data_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_fmm")
class Sampling(keras.layers.Layer):
    """Chooses boxes at random, with and without an object, to train a detector on.

    They are matched with objects by their overlaps, as in Faster R-CNN. As many as there are with
    an object are taken, at most `positive_fraction` of all, and then boxes without one up to
    `samples`.

    Args:
        samples: int, default 256. How many are chosen in each image, if there are as many.
        positive_fraction: number from 0 to 1, default 0.5.
        foreground: number from 0 to 1, default 0.7. The overlap from which on a box has an object.
        background: number from 0 to `foreground`, default 0.3. That below which it has none.
        best_of_each: bool, default True. Whether each object's best boxes have an object, by
            however little they overlap.
        with_objects: bool, default False. Whether objects' own boxes are among those to choose
            from.
        seed: int from 0 to `2**32 - 1` or None, default None. Of the choice, which is the same for
            one that is 2**31 more.

    Call arguments:
        boxes: `(n, 4)` or `(batch, n, 4)`: x1, y1, x2, y2; those of no area are never chosen.
        objects: `(batch, objects, 5)`, of `targets`.

    Output shape:
        A dict: "boxes", float32 `(batch, samples, 4)`; "index", int32 `(batch, samples)`, their
        place among `boxes`, behind the objects' own; "objects", float32 `(batch, samples, 5)`, what
        each is to find where "state", float32 `(batch, samples)`, is 1; it is to find nothing where
        that is 0, and it is not asked where it is -1.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Example:

    >>> import numpy as np
    >>> objects = np.array([[[0, 0, 8, 8, 5]]], "float32")
    >>> boxes = np.array([[9, 9, 20, 20], [0, 0, 8, 7]], "float32")
    >>> found = Sampling(samples=3)(boxes, objects)
    >>> keras.ops.convert_to_numpy(found["index"])[0, :2].tolist()
    [1, 0]
    >>> keras.ops.convert_to_numpy(found["state"])[0].tolist()
    [1.0, 0.0, -1.0]
    """

    def __init__(
        self,
        samples=256,
        positive_fraction=0.5,
        foreground=0.7,
        background=0.3,
        best_of_each=True,
        with_objects=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.samples = checks.positive_integer("samples", samples, 10_001)
        self.positive_fraction = checks.share("positive_fraction", positive_fraction)
        self.foreground = checks.share("foreground", foreground)
        self.background = checks.share("background", background)
        if self.background > self.foreground:
            raise ValueError(
                f"`background` must be at most `foreground`. Received: {background=}, {foreground=}"
            )
        self.best_of_each = checks.flag("best_of_each", best_of_each)
        self.with_objects = checks.flag("with_objects", with_objects)
        self.seed = checked_seed(seed)
        # PyTorch's holds no more.
        within = None if seed is None else self.seed % 2**31
        self.seed_generator = keras.random.SeedGenerator(within)

    def call(self, boxes, objects):
        if len(boxes.shape) == 2:
            boxes = ops.repeat(ops.expand_dims(boxes, 0), ops.shape(objects)[0], axis=0)
        if self.with_objects:
            boxes = ops.concatenate([objects[..., :4], boxes], axis=1)
        best_of_each = "any" if self.best_of_each else None
        matched, state = match(boxes, objects, self.foreground, self.background, best_of_each)
        has_area = ops.all(boxes[..., 2:] > boxes[..., :2], axis=2)
        state = ops.where(has_area, state, -1.0)
        lot = keras.random.uniform(ops.shape(state), seed=self.seed_generator)
        positive = ops.where(state == 1, lot, -1.0)
        most = int(self.samples * self.positive_fraction)
        if most:
            last = highest(positive, most)[0][:, -1:]
            is_chosen = ops.logical_and(state == 1, positive >= last)
        else:
            is_chosen = ops.zeros_like(has_area)
        # Those with an object first, then those without.
        order = ops.where(is_chosen, lot + 1, ops.where(state == 0, lot, -1.0))
        order, index = highest(order, self.samples)
        return {
            "boxes": rows(boxes, index),
            "index": index,
            "objects": rows(matched, index),
            "state": ops.where(order >= 1, 1.0, ops.where(order >= 0, 0.0, -1.0)),
        }

    def compute_output_spec(self, boxes, objects):
        shape = (objects.shape[0], self.samples)
        return {
            "boxes": keras.KerasTensor((*shape, 4), "float32"),
            "index": keras.KerasTensor(shape, "int32"),
            "objects": keras.KerasTensor((*shape, 5), "float32"),
            "state": keras.KerasTensor(shape, "float32"),
        }

    def get_config(self):
        names = (
            "samples",
            "positive_fraction",
            "foreground",
            "background",
            "best_of_each",
            "with_objects",
            "seed",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def checked_seed(seed):
    """Returns a seed as an int, or None."""
    return (
        seed if seed is None else checks.integer("seed", seed, "from 0 to 2**32 - 1", below=2**32)
    )


def highest(scores, count):
    """Returns the highest numbers of each row, falling, and their places, as int32.

    Args:
        scores: float tensor `(batch, n)`, n at least 1.
        count: int. How many; where there are fewer, those behind are -1 and their places any.
    """
    last = ops.shape(scores)[1] - 1
    known = scores.shape[1]
    if known is None or known < count:
        scores = ops.pad(scores, [[0, 0], [0, count]], constant_values=-1.0)
    scores, index = ops.top_k(scores, count)
    return scores, ops.minimum(ops.cast(index, "int32"), last)


def rows(x, index):
    """Returns rows of each sample, `(batch, count, k)` of `(batch, n, k)`, by `(batch, count)`."""
    index = ops.repeat(ops.expand_dims(index, 2), x.shape[2], axis=2)
    return ops.take_along_axis(x, index, axis=1)
