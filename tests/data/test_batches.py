import random

import keras
import numpy as np
import pytest

from keras_fmm import data
from keras_fmm.data.batches import Batches


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def epochs(batches, count):
    """Returns the batches of some epochs of `fit`, a list a batch."""
    found = []
    for _ in range(count):
        found += [batches[i] for i in range(len(batches))]
        batches.on_epoch_end()
    return found


def test_an_epoch_is_each_image_once_and_follows_from_its_number(digits):
    images, labels = digits.arrays("train")
    steps = digits.steps("train", 100)
    given = epochs(digits.batches("train", 100, seed=3), 3)
    assert len(given) == 3 * steps
    first, second = given[:steps], given[steps : 2 * steps]
    shown = np.concatenate([batch for batch, _ in first])
    assert not (shown == images).all()
    keys = [bytes(image) + bytes([label]) for image, label in zip(images, labels, strict=True)]
    for part in (first, second):
        found = [bytes(x) + bytes([y]) for xs, ys in part for x, y in zip(xs, ys, strict=True)]
        assert sorted(found) == sorted(keys)
    assert not (first[0][0] == second[0][0]).all()
    resumed = epochs(digits.batches("train", 100, seed=3, initial_epoch=2), 1)
    for batch, other in zip(given[2 * steps :], resumed, strict=True):
        np.testing.assert_array_equal(batch[0], other[0])
        np.testing.assert_array_equal(batch[1], other[1])


def test_shares_of_hosts_are_together_the_batch_of_one(digits):
    whole = epochs(digits.batches("train", 60, drop_remainder=True), 1)
    shares = [
        epochs(digits.batches("train", 60, drop_remainder=True, share=(i, 3)), 1) for i in range(3)
    ]
    assert len(whole) == 1294 // 60
    for batch, *parts in zip(whole, *shares, strict=True):
        assert [len(labels) for _, labels in parts] == [20, 20, 20]
        for array, some in zip(batch, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(array, np.concatenate(some))


@pytest.mark.parametrize("multiple", [1, 16])
def test_evaluation_that_is_filled_up_gives_the_split_as_it_is(digits, multiple):
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(inputs / 255))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    images, labels = digits.arrays("test")
    batches = digits.batches("test", 64, shuffle=False, multiple=multiple)
    chances = keras.ops.convert_to_numpy(model(images.astype("float32")))
    loss = -np.log(chances[np.arange(359), labels]).mean()
    accuracy = (chances.argmax(axis=1) == labels).mean()
    np.testing.assert_allclose(model.evaluate(batches, verbose=0), [loss, accuracy], rtol=1e-5)
    lengths = [len(batch[1]) for batch in epochs(batches, 1)]
    assert lengths[-1] == (359 - 5 * 64 if multiple == 1 else 48)


def test_shares_of_an_evaluation_see_each_image_once(digits):
    shares = [
        epochs(digits.batches("test", 64, shuffle=False, share=(i, 2), multiple=4), 1)
        for i in range(2)
    ]
    for batch, other in zip(*shares, strict=True):
        assert len(batch[1]) == len(other[1])
    images = [
        image
        for both in zip(*shares, strict=True)
        for xs, _, weights in both
        for image, weight in zip(xs, weights, strict=True)
        if weight
    ]
    np.testing.assert_array_equal(images, digits.arrays("test")[0])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"share": (2, 2), "multiple": 2}, ValueError, "the index from 0 to less than the count"),
        ({"share": (0, 2)}, ValueError, r"`share` must divide what every batch is a multiple of"),
        ({"share": 2}, TypeError, "`share` must be a pair"),
        ({"share": (0, 1, 2)}, ValueError, "`share` must be a pair"),
        ({"share": (0, 7), "drop_remainder": True}, ValueError, "`share` must divide"),
        ({"multiple": 5}, ValueError, r"`multiple` must divide the batch \(32\)"),
        ({"shuffle": False, "initial_epoch": 1}, ValueError, "Without `shuffle`"),
        ({"batch_size": 2000, "drop_remainder": True}, ValueError, "no batch of this size"),
    ],
)
def test_what_does_not_come_out_even_is_refused(digits, given, error, message):
    with pytest.raises(error, match=message):
        digits.batches("train", **given)


def test_fit_takes_the_orders_of_the_epochs_whatever_the_process_has_drawn(digits, monkeypatch):
    given = []
    read = Batches.__getitem__
    monkeypatch.setattr(
        Batches, "__getitem__", lambda self, i: given.append(read(self, i)) or given[-1]
    )
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    # `fit` begins with the second order: Keras ends an epoch before the first.
    expected = epochs(digits.batches("train", 500, seed=3, initial_epoch=1), 2)
    for seed in (0, 1):
        random.seed(seed)
        given.clear()
        model.fit(digits.batches("train", 500, seed=3), epochs=2, shuffle=False, verbose=0)
        # Before that it looks at some, to know their shapes.
        for (found, _), (images, _) in zip(given[-len(expected) :], expected, strict=True):
            np.testing.assert_array_equal(found, images)
