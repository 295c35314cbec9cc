"""Changes of training images: what they do, that they repeat, and what is refused."""

import random

import keras
import numpy as np
import pytest

from keras_fmm.training import Augmentation

SHAPE, CLASSES = (6, 8, 3), 4
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype("uint8")
LABELS = np.array([0, 1, 2, 3, 1], "int32")


def test_a_flip_gives_each_image_or_its_mirror():
    flip = Augmentation("random_flip('horizontal')", SHAPE, CLASSES)
    mirrored = 0
    for number in range(4):
        images, labels = flip(IMAGES, LABELS, number)
        np.testing.assert_array_equal(labels, LABELS)
        for image, original in zip(images, IMAGES.astype("float32"), strict=True):
            is_mirrored = np.array_equal(image, original[:, ::-1])
            assert is_mirrored or np.array_equal(image, original)
            mirrored += is_mirrored
    assert 0 < mirrored < 20


@pytest.mark.parametrize(("name", "error"), [("MixUp(1.0)", 1e-3), ("CutMix", 1.0)])
def test_labels_are_mixed_as_images_are(name, error):
    # Keras' box has no whole pixels, its label has: in such images up to a point in thirty.
    shape = (60, 80, 1)
    mix = Augmentation(name, shape, CLASSES, seed=3)
    assert mix.mixes_labels
    assert not Augmentation("RandomFlip", shape, CLASSES).mixes_labels
    # Each pixel says its image's class: the mean of an image is that of its labels.
    given = np.broadcast_to(LABELS[:, None, None, None] * 10, (5, *shape))
    mixed = 0
    for number in range(4):
        images, labels = mix(given, LABELS, number)
        assert labels.shape == (5, CLASSES)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        means = labels @ np.arange(CLASSES) * 10
        np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), means, atol=error)
        # Of a batch there is one draw, which may leave it all but as it was.
        mixed += np.any((labels > 0.01) & (labels < 0.99))
    assert mixed


def test_a_batch_follows_from_its_number_alone():
    text = "RandomFlip, RandomTranslation(0.3, 0.3), RandomErasing, MixUp"
    first, second = (Augmentation(text, SHAPE, CLASSES, seed=5) for _ in range(2))
    other = Augmentation(text, SHAPE, CLASSES, seed=6)
    keras.utils.set_random_seed(1)
    expected = [first(IMAGES, LABELS, number)[0] for number in range(3)]
    keras.utils.set_random_seed(2)
    for number in (2, 0, 1):
        np.testing.assert_array_equal(second(IMAGES, LABELS, number)[0], expected[number])
    assert not np.array_equal(expected[0], expected[1])
    assert not np.array_equal(other(IMAGES, LABELS, 0)[0], expected[0])
    assert not np.array_equal(second(IMAGES, LABELS, 0, part=1)[0], expected[0])


def test_what_python_draws_is_drawn_anew_and_nothing_else_is_changed():
    mix = Augmentation("AugMix(num_chains=2, chain_depth=3)", SHAPE, CLASSES)
    found = []
    for seed in (1, 2):
        random.seed(seed)
        expected = random.getstate()
        found.append(mix(IMAGES, LABELS, 7)[0])
        assert random.getstate() == expected
    np.testing.assert_array_equal(*found)


class Repeated(keras.utils.PyDataset):
    """The same two batches in each epoch."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return IMAGES + np.uint8(index), LABELS


def epoch(batches):
    return [batches[i][0] for i in range(len(batches))]


def test_batches_of_an_epoch_are_the_same_where_a_run_goes_on():
    make = Augmentation("RandomRotation(0.2)", SHAPE, CLASSES)
    whole = make.batches(Repeated(), 0)
    epochs = [epoch(whole)]
    whole.on_epoch_end()
    epochs.append(epoch(whole))
    resumed = make.batches(Repeated(), 1)
    np.testing.assert_array_equal(epoch(resumed), epochs[1])
    assert not np.array_equal(*epochs)


def test_a_pipeline_is_the_same_where_a_run_goes_on():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("pipelines are for TensorFlow")
    make = Augmentation("RandomRotation(0.2), MixUp", SHAPE, CLASSES)
    batches = tf.data.Dataset.from_tensors((IMAGES, LABELS)).repeat(4)
    whole = make.pipeline(batches, 0)
    assert whole.cardinality().numpy() == 4
    assert whole.element_spec[0].shape == (5, *SHAPE)
    assert whole.element_spec[1].shape == (5, CLASSES)
    whole = list(whole.as_numpy_iterator())
    for number, (images, labels) in enumerate(make.pipeline(batches, 2).take(2)):
        np.testing.assert_array_equal(images, whole[number + 2][0])
        np.testing.assert_array_equal(labels, whole[number + 2][1])
    np.testing.assert_array_equal(make(IMAGES, LABELS, 3)[0], whole[3][0])
    (_, labels), *_ = make.validation(batches)
    np.testing.assert_array_equal(labels, np.eye(CLASSES)[LABELS])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RandmFlip", "Received: 'RandmFlip'. Did you mean RandomFlip"),
        ("flip", "Did you mean RandomFlip"),
        ("Dense(3)", "transform images. Received: 'Dense'"),
        ("RandomFlip('diagonal')", "must get what they take. Received: RandomFlip"),
        ("RandomFlip(speed=3)", "must get what they take. Received: RandomFlip with .*speed=3"),
        ("RandomRotation(__import__('os'))", "plain values"),
        ("RandomFlip; MixUp", "must name layers"),
        ("", "must name layers"),
        ("keras.layers.RandomFlip", "it is no list of names"),
        ("RandomCrop(4, 4)", "Received: RandomCrop .*images of \\(4, 4, 3\\)"),
    ],
)
def test_refuses(text, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(text, SHAPE, CLASSES)


def test_refuses_what_is_no_layer_and_images_of_any_size():
    with pytest.raises(TypeError, match="must be layers of Keras that transform images"):
        Augmentation([keras.layers.Dense(2)], SHAPE, CLASSES)
    with pytest.raises(ValueError, match="Give images of one size"):
        Augmentation("RandomFlip", (None, None, 3), CLASSES)
    layer = keras.layers.RandomFlip("horizontal", dtype="float32")
    assert Augmentation([layer], SHAPE, CLASSES).layers == [layer]
