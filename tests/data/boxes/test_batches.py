import keras
import numpy as np
import pytest

from keras_fmm import data, detection
from keras_fmm.data.arrays import ArraySource
from keras_fmm.data.boxes.dataset import BoxDataset, Part


@pytest.fixture(scope="module")
def dataset():
    """Image i is filled with i, and has i % 4 boxes, of which one may be a crowd."""
    random = np.random.default_rng(0)
    annotations = []
    for number in range(23):
        corner = random.uniform(0, 10, (number % 4, 2))
        boxes = np.concatenate([corner, corner + random.uniform(1, 6, corner.shape)], axis=1)
        annotations.append(
            {
                "boxes": boxes,
                "labels": random.integers(0, 3, len(boxes)),
                "area": random.uniform(1, 9, len(boxes)),
                "crowd": np.arange(len(boxes)) == 2,
            }
        )
    images = np.broadcast_to(np.arange(23, dtype="uint8")[:, None, None, None], (23, 16, 20, 1))
    source = ArraySource(images, np.arange(23))
    places = {"train": np.arange(15), "validation": np.arange(15, 23), "test": np.arange(0)}
    sizes = np.full((23, 2), (16, 20))
    parts = {name: Part(source, where, annotations, sizes) for name, where in places.items()}
    return BoxDataset("boxes", (16, 20, 1), ("a", "b", "c"), parts)


def whole(batches):
    return tuple(map(np.concatenate, zip(*(batches[n] for n in range(len(batches))), strict=True)))


@pytest.mark.parametrize("image_size", [None, (32, 10)])
def test_targets_are_those_of_detection(dataset, image_size):
    images, targets = whole(dataset.batches("train", 4, image_size))
    expected, annotations = dataset.arrays("train", image_size)
    assert images.dtype == expected.dtype == targets.dtype == "float32"
    np.testing.assert_allclose(images, expected, atol=1e-4)
    # The third box of an image is a crowd.
    assert dataset.max_boxes == targets.shape[1] == 2
    wanted = detection.targets(annotations, classes=3, max_boxes=2)
    np.testing.assert_allclose(targets, wanted, rtol=1e-6)
    down, across = (1, 1) if image_size is None else (2, 0.5)
    for annotation, own in zip(annotations, dataset.annotations("train"), strict=True):
        factors = [across, down, across, down]
        np.testing.assert_allclose(annotation["boxes"], own["boxes"] * factors)
        np.testing.assert_allclose(annotation["area"], own["area"] * across * down)


def test_order_follows_from_seed_and_epoch(dataset):
    batches = dataset.batches("train", 4, seed=3)
    orders = []
    for _ in range(3):
        orders.append(whole(batches)[0][:, 0, 0, 0].tolist())
        batches.on_epoch_end()
    assert all(sorted(order) == list(range(15)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    resumed = dataset.batches("train", 4, seed=3, initial_epoch=2)
    assert whole(resumed)[0][:, 0, 0, 0].tolist() == orders[2]


AUGMENTATION = (data.RandomBoxFlip(0.5, 0.5), data.RandomBoxZoom(), data.RandomBoxBrightness())


def test_augmentation_follows_from_seed_epoch_and_image(dataset):
    one = dataset.batches("train", 4, seed=3, augmentation=AUGMENTATION)
    other = dataset.batches("train", 7, seed=3, augmentation=AUGMENTATION)
    images, targets = whole(one)
    for found, expected in zip(whole(other), (images, targets), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (targets[..., 4] >= -1).all()
    has_box = targets[..., 4] >= 0
    assert (targets[~has_box][:, :4] == 0).all()
    assert (targets[has_box][:, 2:4] > targets[has_box][:, :2]).all()
    one.on_epoch_end()
    assert not np.array_equal(
        np.sort(whole(one)[0].mean((1, 2, 3))), np.sort(images.mean((1, 2, 3)))
    )


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda i, b, r: (i, b + np.inf), "returned numbers that are not finite"),
        (lambda i, b, r: (i, b * np.nan), "returned numbers that are not finite"),
        (lambda i, b, r: (i * np.nan, b), "returned numbers that are not finite"),
        (
            lambda i, b, r: (0.5, b),
            r"an image of the shape \(\) and boxes of \(\d, 4\) for",
        ),
        (lambda i, b, r: (i[:-1], b), r"an image of the shape \(15, 20, 1\) and boxes"),
        (
            lambda i, b, r: (i, b[1:]),
            r"boxes of \(\d, 4\) for those of \(16, 20, 1\) and \(\d, 4",
        ),
        (lambda i, b, r: (i, np.tile(b, (2, 1))), r"and boxes of \(\d, 4\) for those of"),
        (lambda i, b, r: (i, b[:, :2]), r"and boxes of \(\d, 2\) for those of"),
        (lambda i, b, r: None, "returned a NoneType. Of a box"),
        (lambda i, b, r: i, "returned a ndarray. Of a box"),
        (lambda i, b, r: (i, [[0, 0, 1], [1]]), "`the boxes of augmentation.1.` must be one array"),
    ],
)
def test_what_augmentation_must_return(dataset, function, match):
    batches = dataset.batches("train", 15, seed=0, augmentation=[data.RandomBoxFlip(), function])
    with pytest.raises(ValueError, match=match) as raised:
        batches[0]
    assert "augmentation[1]" in str(raised.value)


@pytest.mark.parametrize("order", [[2, 3, 0, 1], [2, 1, 0, 3]])
def test_a_box_that_ends_before_it_begins_is_left_out(dataset, order):
    batches = dataset.batches(
        "train", 15, seed=0, augmentation=[lambda image, boxes, random: (image, boxes[:, order])]
    )
    assert (batches[0][1][..., 4] == -1).all()


def test_boxes_that_augmentation_moves_are_cut_to_the_image(dataset):
    def move(image, boxes, random):
        return image, [[x1 + 12, y1, x2 + 12, y2] for x1, y1, x2, y2 in boxes]

    _, targets = dataset.batches("train", 15, seed=0, augmentation=[move])[0]
    found = targets[targets[..., 4] >= 0]
    _, still = dataset.batches("train", 15, seed=0)[0]
    moved = still[still[..., 4] >= 0] + np.array([12, 0, 12, 0, 0], "float32")
    moved = moved[moved[:, 0] < 20]
    assert 0 < len(found) == len(moved)
    assert (moved[:, 2] > 20).any()
    np.testing.assert_allclose(found, np.minimum(moved, [20, 16, 20, 16, 3]), rtol=1e-6)


def test_hosts_share_a_batch(dataset):
    images, targets = dataset.batches("validation", 4, multiple=4)[0]
    for number in range(2):
        part = dataset.batches("validation", 4, multiple=4, share=(number, 2))[0]
        rows = slice(2 * number, 2 * number + 2)
        np.testing.assert_array_equal(part[0], images[rows])
        np.testing.assert_array_equal(part[1], targets[rows])


def test_fit(dataset):
    inputs = keras.Input((16, 20, 1))
    outputs = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, outputs)

    def loss(wanted, found):
        return keras.ops.mean((keras.ops.mean(wanted, axis=1) - found) ** 2)

    model.compile("sgd", loss)
    history = model.fit(dataset.batches("train", 4, seed=0), epochs=2, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 2


def test_arrays_in_another_order(dataset):
    images, annotations = dataset.arrays("validation", at=[5, 0])
    assert images[:, 0, 0, 0].tolist() == [20, 15]
    assert [len(x["labels"]) for x in annotations] == [0, 3]
    assert dataset.arrays("test")[0].shape == (0, 16, 20, 1)
    assert dataset.image_sizes("validation").tolist() == [[16, 20]] * 8


def test_crowds_are_no_targets_of_detection_either():
    given = {"boxes": [[0, 0, 2, 2], [1, 1, 3, 3]], "labels": [0, 1], "crowd": [True, False]}
    assert detection.targets([given], classes=2).tolist() == [[[1, 1, 3, 3, 1]]]


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"split": "training"}, ValueError, "`split` must be one of"),
        ({"split": "test"}, ValueError, "'test' of 'boxes' has .* `validation_fraction` of the da"),
        ({"augmentation": AUGMENTATION}, ValueError, "follow from a seed. Received: seed=None"),
        ({"initial_epoch": 2}, ValueError, "follow from a seed"),
        ({"augmentation": ["flip"], "seed": 0}, TypeError, "Received: augmentation.0.='flip'"),
        ({"max_boxes": 1}, ValueError, "Received: max_boxes=1, and an image of 'boxes' has 2"),
        ({"batch_size": 4, "multiple": 3}, ValueError, "`multiple` must divide the batch"),
    ],
)
def test_bad_arguments(dataset, given, error, match):
    with pytest.raises(error, match=match):
        dataset.batches(**{"split": "train", **given})
