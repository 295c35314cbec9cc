import numpy as np
import pytest

from keras_fmm import data
from keras_fmm.data.arrays import ArraySource
from keras_fmm.data.boxes import canvases


def test_splits_have_the_digits_of_their_split(monkeypatch):
    images = np.full((3, 8, 8, 1), 255, "uint8")
    source = ArraySource(images, np.arange(3, dtype="int32"))
    parts = {
        name: (source, np.array([n])) for n, name in enumerate(("train", "validation", "test"))
    }
    digits = data.ImageDataset("digits", (8, 8, 1), tuple("0123456789"), parts)
    monkeypatch.setattr(canvases, "load", lambda *_: digits)
    dataset = data.load_boxes("digits_on_canvas", validation_fraction=0.02)
    assert dataset.sizes == {"train": 1176, "validation": 24, "test": 300}
    for number, split in enumerate(dataset.sizes):
        labels = np.concatenate([x["labels"] for x in dataset.annotations(split)])
        assert set(labels) == {number}
        # Of a digit that is all ink the box is the whole of it.
        boxes = np.concatenate([x["boxes"] for x in dataset.annotations(split)])
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides[:, 0] == sides[:, 1]).all()
        assert (sides.min(), sides.max()) == (14, 43)


@pytest.mark.slow_on_tensorflow
def test_the_seed_says_all_but_test():
    one, again, other = (data.load_boxes("digits_on_canvas", seed=seed) for seed in (1, 1, 2))
    for split in one.sizes:
        images, annotations = one.arrays(split)
        same = again.arrays(split)[0]
        differs = other.arrays(split)[0]
        assert images.shape[1:] == one.input_shape == (96, 96, 1)
        assert images.dtype == "float32"
        assert (images == same).all()
        assert (images == differs).all() == (split == "test")
        assert min(len(x["labels"]) for x in annotations) == 1
        assert max(len(x["labels"]) for x in annotations) == one.max_boxes == 5


def test_what_is_bright_is_in_a_box():
    images, annotations = data.load_boxes("digits_on_canvas").arrays("test", at=list(range(50)))
    for image, annotation in zip(images[..., 0], annotations, strict=True):
        ground = np.median(image)
        is_boxed = np.zeros(image.shape, bool)
        for left, top, right, bottom in annotation["boxes"].astype(int):
            box = np.s_[top:bottom, left:right]
            assert not is_boxed[box].any()
            is_boxed[box] = True
            # The digit is at least 60 above the ground, which has noise of 12.
            assert image[box].max() > ground + 50
        assert (image[~is_boxed] < ground + 115).all()
        assert (image[~is_boxed] > ground + 60).mean() < 0.002
