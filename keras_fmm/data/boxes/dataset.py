"""A dataset of images with boxes, divided into train, validation and test."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_fmm import checks
from keras_fmm.data import arguments, datasets, splits
from keras_fmm.data.boxes import geometry
from keras_fmm.data.boxes.batches import BoxBatches
from keras_fmm.data.tfrecords import collect


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The examples of a split.

    Attributes:
        source: `ArraySource`, `ImageFileSource` or one like them, whose label of an example is its
            number.
        indices: int64 array `(n,)`. The numbers of those in the split.
        annotations: list of dict, by number. `boxes` float64 `(n, 4)`, x1, y1, x2, y2 in pixels of
            the whole image; `labels` int64 `(n,)`; maybe `area` and `crowd`.
        image_sizes: int array `(numbers, 2)`. The height and width of each image.
    """

    source: Any
    indices: np.ndarray
    annotations: Sequence[Mapping[str, np.ndarray]]
    image_sizes: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BoxDataset:
    """Images with boxes in three splits; `load_boxes` makes it.

    Annotations are dicts, one an image: `boxes`, a float64 array `(n, 4)` of x1, y1, x2, y2, the
    left, upper, right and lower edges in pixels of the image as upright; `labels`, an int64 array
    `(n,)`; and where the dataset has them `area`, float64 `(n,)`, which is not that of the box, and
    `crowd`, bool `(n,)`, which says that a box holds several objects, or one that is not to be
    judged. `detection.average_precision` and `detection.targets` take them as they are.

    Args:
        name: str. The dataset's name, for messages.
        input_shape: tuple of 3. Height, width and channels of one image; height and width are
            None where the images differ in size.
        class_names: tuple of str. Label i is the class of name i.
        parts: dict. The `Part` of each split.
        identity: dict that JSON can hold, default {}. What else makes it this dataset.
        left_out: tuple of str, default (). Boxes and files that were left out, each with why.

    Example:

    >>> from keras_fmm import data
    >>> dataset = data.load_boxes("digits_on_canvas")
    >>> images, annotations = dataset.arrays("test")
    >>> images.shape, str(images.dtype), sorted(annotations[0])
    ((300, 96, 96, 1), 'float32', ['boxes', 'labels'])
    """

    name: str
    input_shape: tuple[int | None, ...]
    class_names: tuple[str, ...]
    parts: Mapping[str, Part]
    identity: Mapping = dataclasses.field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split}={size}" for split, size in self.sizes.items())
        return (
            f"BoxDataset({self.name!r}, input_shape={self.input_shape}, "
            f"classes={self.classes}, {sizes})"
        )

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of images by split."""
        return {split: len(self.parts[split].indices) for split in splits.NAMES}

    @property
    def max_boxes(self) -> int:
        """The most boxes that `batches` has of one image, at least 1."""
        counts = [
            len(_objects(part.annotations[number])[1])
            for part in self.parts.values()
            for number in part.indices
        ]
        return max([1, *counts])

    def annotations(
        self, split: str, image_size: tuple[int, int] | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Returns the annotations of a split in stored order; no image is read for them.

        Args:
            split: str. "train", "validation" or "test".
            image_size: pair of int, default None. The height and width of the images that the
                boxes are to be in; None is each image's own.

        Returns:
            List of dicts; see above.
        """
        part = self._part(split)
        if image_size is not None:
            image_size = arguments.image_size(image_size, self)
        return [self._annotation(part, number, image_size) for number in part.indices]

    def image_sizes(self, split: str) -> np.ndarray:
        """Returns the height and width of the images of a split, an int64 array `(n, 2)`.

        They are those of the stored images, whatever they are resized to.

        Args:
            split: str. "train", "validation" or "test".
        """
        part = self._part(split)
        return part.image_sizes[part.indices].astype("int64")

    def file_paths(self, split: str) -> list[str] | None:
        """Returns the image files of a split in stored order, or None where it has no files.

        Args:
            split: str. "train", "validation" or "test".
        """
        part = self._part(split)
        paths = getattr(part.source, "paths", None)
        return None if paths is None else [paths[index] for index in part.indices]

    def arrays(
        self,
        split: str,
        image_size: tuple[int, int] | None = None,
        at: np.ndarray | Sequence[int] | None = None,
    ) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
        """Returns the images of a split in memory, and their annotations.

        Args:
            split: str. "train", "validation" or "test".
            image_size: pair of int, default None. Height and width to resize the images to, at most
                16,384, bilinearly with antialiasing. It must be given where the images differ in
                size.
            at: array or list of int, default None (all). Which of the split, from 0 on, each once.

        Returns:
            Images, a float32 array `(n, height, width, channels)` of 0 to 255, and a list of dicts
            with boxes in their pixels.

        Raises:
            TypeError: `image_size` or `at` is of no type that fits.
            ValueError: an unknown split; images of different sizes and no `image_size`; in `at` a
                number that is not in the split, or one twice; a file that cannot be read any more.
            OSError: the stored files are damaged.
        """
        part = self._part(split)
        size = arguments.image_size(image_size, self)
        shape = self.input_shape if size is None else (*size, self.input_shape[2])
        numbers = part.indices
        if at is not None:
            numbers = numbers[arguments.positions("at", at, len(numbers))]
        order = np.argsort(numbers)
        images, _ = collect(part.source, numbers[order], shape, size)
        images = images.astype("float32", copy=False)
        if at is not None:
            images = images[np.argsort(order)]
        return images, [self._annotation(part, number, shape[:2]) for number in numbers]

    def steps(self, split: str, batch_size: int, drop_remainder: bool = False) -> int:
        """Returns how many batches one pass over a split has.

        Args:
            split: str. "train", "validation" or "test".
            batch_size: int, at least 1. Examples in a batch.
            drop_remainder: bool, default False. Whether a last batch that is not full is left out.
        """
        drop_remainder = checks.flag("drop_remainder", drop_remainder)
        self._part(split)
        return datasets.steps_of(self, split, batch_size, drop_remainder)

    def batches(
        self,
        split: str,
        batch_size: int = 32,
        image_size: tuple[int, int] | None = None,
        seed: int | None = None,
        augmentation: Sequence[Callable] = (),
        initial_epoch: int = 0,
        drop_remainder: bool = False,
        share: tuple[int, int] = (0, 1),
        multiple: int = 1,
        max_boxes: int | None = None,
    ) -> BoxBatches:
        """Returns a `keras.utils.PyDataset` of batches (images, targets), for `model.fit`.

        Targets are what `detection.targets` makes of the annotations, with the same room for boxes
        in every batch of every split. Crowds are left out of them. Images are read from their files
        as they are needed, by several threads; 1 GiB of them stays in memory.

        With a seed, the order of an epoch and what augmentation does in it follow from `seed` and
        its number alone: a run resumed at epoch k, with `initial_epoch=k`, sees what it would have
        seen. Give `fit` `shuffle=False`, and mind that Keras ends an epoch before the first one of
        each `fit`: see `ImageDataset.batches`.

        Args:
            split: str. "train", "validation" or "test".
            batch_size: int, at least 1, default 32. Images in a batch, of all hosts together.
            image_size: pair of int, default None. As of `arrays`.
            seed: int from 0 to `2**32 - 1`, default None (the stored order). What the order follows
                from.
            augmentation: list or tuple, default (). `RandomBoxFlip`, `RandomBoxZoom`,
                `RandomBoxBrightness`, or functions as `Augmentation` says, one after another. It
                needs a seed. Where one returns anything else, a batch raises TypeError or
                ValueError.
            initial_epoch: int, at least 0, default 0. The epoch that the first pass is. It needs a
                seed.
            drop_remainder: bool, default False. Whether a last batch that is not full is left out.
            share: pair of int, default (0, 1). As of `ImageDataset.batches`.
            multiple: int, at least 1, default 1. As of `ImageDataset.batches`.
            max_boxes: int, default None (`BoxDataset.max_boxes`). The room for boxes.

        Returns:
            `keras.utils.PyDataset` of (images, targets), or of (images, targets, weights) where the
            last batch had to be filled up. Images are float32 `(batch, height, width, channels)` of
            0 to 255; targets float32 `(batch, max_boxes, 5)`: x1, y1, x2, y2 in the image's pixels
            and the label, or 0, 0, 0, 0, -1; weights float32 `(batch,)`.

        Raises:
            TypeError: an argument is of no type that fits.
            ValueError: an unknown split or one without a batch; images of different sizes and no
                `image_size`; augmentation or an initial epoch without a seed; more boxes in an
                image than `max_boxes`; a share that is none, or that does not come out even.
            OSError: the stored files are damaged.

        Example:

        >>> from keras_fmm import data
        >>> dataset = data.load_boxes("digits_on_canvas")
        >>> train = dataset.batches("train", 16, seed=0, augmentation=[data.RandomBoxZoom()])
        >>> images, targets = train[0]
        >>> images.shape, targets.shape
        ((16, 96, 96, 1), (16, 5, 5))
        """
        drop_remainder = checks.flag("drop_remainder", drop_remainder)
        part = self._part(split)
        size = arguments.image_size(image_size, self)
        shape = size or self.input_shape[:2]
        if seed is not None:
            seed = arguments.seed(seed)
        augmentation = checks.listed("augmentation", augmentation)
        for index, augment in enumerate(augmentation):
            if not callable(augment):
                raise TypeError(
                    "`augmentation` must hold functions of an image, boxes and a generator, such "
                    f"as `data.RandomBoxFlip()`. Received: augmentation[{index}]={augment!r}"
                )
        if seed is None and (augmentation or initial_epoch):
            raise ValueError(
                "Augmentation and epochs follow from a seed. Received: seed=None, augmentation="
                f"{augmentation}, initial_epoch={initial_epoch}. Give one, e.g. seed=0."
            )
        steps = datasets.some_steps(self, split, batch_size, drop_remainder)
        rule = "an integer from 0 to 2147483647"
        checks.integer("initial_epoch", initial_epoch, rule, below=checks.SIZES)
        multiple = checks.positive_integer("multiple", multiple)
        checks.divides("multiple", multiple, batch_size, "the batch")
        share = arguments.share(share, batch_size if drop_remainder else multiple)
        room = self.max_boxes
        if max_boxes is not None:
            max_boxes = checks.positive_integer("max_boxes", max_boxes)
            if max_boxes < room:
                raise ValueError(
                    "`max_boxes` must be at least the boxes of each image. Received: "
                    f"max_boxes={max_boxes}, and an image of {self.name!r} has {room}."
                )
            room = max_boxes
        return BoxBatches(
            lambda number: _objects(self._annotation(part, number, shape)),
            room,
            augmentation,
            part.source,
            part.indices,
            batch_size,
            steps,
            size,
            seed,
            initial_epoch,
            share,
            multiple,
        )

    def _annotation(self, part, number, image_size):
        found = part.annotations[number]
        whole = part.image_sizes[number]
        return geometry.scaled(found, whole, whole if image_size is None else image_size)

    def _part(self, split):
        return self.parts[checks.one_of("split", split, splits.NAMES)]


def _objects(annotation):
    """Returns the boxes and labels of one that a detector is to find."""
    crowd = annotation.get("crowd")
    wanted = slice(None) if crowd is None else ~crowd
    return annotation["boxes"][wanted], annotation["labels"][wanted]
