import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_fmm import data, training
from keras_fmm.data import tfrecords


@pytest.fixture(params=["digits", "in memory", "streamed"])
def dataset(request, prepared, monkeypatch):
    """The three kinds of sources; each image differs from all others in its split."""
    if request.param == "digits":
        return data.load("digits")
    if request.param == "streamed":
        monkeypatch.setattr(tfrecords, "IN_MEMORY_BYTES", 0)
    return data.load("fmm_tiny", data_dir=prepared)


def flat(batches):
    images, labels = zip(*[(x.numpy(), y.numpy()) for x, y in batches], strict=True)
    return np.concatenate(images), np.concatenate(labels)


def orders(pipeline):
    """The bytes of each batch's images."""
    return [images.numpy().tobytes() for images, _ in pipeline]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_without_shuffle_it_is_the_arrays(dataset, split):
    pipeline = dataset.pipeline(split, batch_size=4, shuffle=False)
    images, labels = flat(pipeline)
    expected_images, expected_labels = dataset.arrays(split)
    np.testing.assert_array_equal(images, expected_images)
    np.testing.assert_array_equal(labels, expected_labels)
    assert images.dtype == "uint8"
    assert labels.dtype == "int32"
    assert pipeline.cardinality() == dataset.steps(split, 4)
    assert pipeline.element_spec[0].shape.as_list() == [None, *dataset.input_shape]


@pytest.mark.slow_on_tensorflow
def test_what_is_streamed_is_what_is_held_in_memory(prepared, monkeypatch):
    held = data.load("fmm_tiny", data_dir=prepared)
    expected = {split: held.arrays(split) for split in held.sizes}
    monkeypatch.setattr(tfrecords, "IN_MEMORY_BYTES", 0)
    streamed = data.load("fmm_tiny", data_dir=prepared)
    for split, arrays in expected.items():
        for array, other in zip(streamed.arrays(split), arrays, strict=True):
            np.testing.assert_array_equal(array, other)


def test_each_epoch_holds_each_example_once_and_no_batch_is_in_two(dataset):
    steps = dataset.steps("train", 7)
    pipeline = dataset.pipeline("train", batch_size=7, epochs=2)
    assert pipeline.cardinality() == 2 * steps
    batches = list(pipeline)
    expected = sorted(image.tobytes() for image in dataset.arrays("train")[0])
    epochs = [flat(part)[0] for part in (batches[:steps], batches[steps:])]
    assert len(batches) == 2 * steps
    for images in epochs:
        assert sorted(image.tobytes() for image in images) == expected
    assert (epochs[0] != epochs[1]).any()


def test_images_keep_their_labels(prepared):
    images, labels = flat(data.load("fmm_tiny", data_dir=prepared).pipeline("train", 5, epochs=1))
    np.testing.assert_array_equal(images[:, 0, 0, 0] % 3, labels)


@pytest.mark.slow_on_tensorflow
def test_a_resumed_run_sees_the_epochs_it_would_have_seen(dataset):
    steps = dataset.steps("train", 9)
    full = orders(dataset.pipeline("train", 9, seed=5, epochs=3))
    # Neither what ran before in the process nor its own seed plays a part.
    tf.random.set_seed(123)
    resumed = orders(dataset.pipeline("train", 9, seed=5, initial_epoch=1, epochs=3))
    assert resumed == full[steps:]
    endless = dataset.pipeline("train", 9, seed=5, initial_epoch=1)
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    assert orders(itertools.islice(endless, 2 * steps)) == full[steps:]
    again = dataset.pipeline("train", 9, seed=5, epochs=1)
    assert orders(again) == orders(again) == full[:steps]


def test_the_seed_makes_the_order(dataset):
    one, other = (orders(dataset.pipeline("train", 9, seed=s, epochs=1)) for s in (0, 2**32 - 1))
    assert one != other


def test_model_fit_draws_each_epoch_anew():
    dataset = data.load("digits")
    steps = dataset.steps("train", 300)
    seen = []

    class Recorder(keras.Model):
        def train_step(self, batch):
            seen.append(batch[0].numpy().tobytes())
            return {"loss": 0.0}

    model = Recorder()
    model.compile("sgd", run_eagerly=True)
    pipeline = dataset.pipeline("train", 300, seed=1, initial_epoch=2)
    model.fit(pipeline, initial_epoch=2, epochs=4, steps_per_epoch=steps, verbose=0)
    assert seen == orders(dataset.pipeline("train", 300, seed=1, initial_epoch=2, epochs=4))


@pytest.mark.parametrize(
    ("batch_size", "drop_remainder", "steps"),
    [(10, False, 4), (10, True, 3), (36, True, 1), (99, False, 1)],
)
def test_steps(prepared, batch_size, drop_remainder, steps):
    dataset = data.load("fmm_tiny", data_dir=prepared)  # 36 examples in train
    assert dataset.steps("train", batch_size, drop_remainder) == steps
    for shuffle, epochs in ((False, None), (True, 1)):
        pipeline = dataset.pipeline(
            "train", batch_size, shuffle, epochs=epochs, drop_remainder=drop_remainder
        )
        assert len(list(pipeline)) == steps
        assert pipeline.element_spec[0].shape[0] == (batch_size if drop_remainder else None)


def test_resizing_is_the_same_everywhere(dataset):
    images, _ = flat(dataset.pipeline("test", 5, shuffle=False, image_size=(6, 3)))
    expected, _ = dataset.arrays("test", image_size=(6, 3))
    assert images.dtype == expected.dtype == "float32"
    assert images.shape == (dataset.sizes["test"], 6, 3, 1)
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-3)
    if dataset.name == "fmm_tiny":  # each image is of one value
        np.testing.assert_allclose(
            images[:, 0, 0, 0], dataset.arrays("test")[0][:, 0, 0, 0], rtol=1e-5
        )


def test_images_that_differ_in_size(prepared):
    dataset = data.load("fmm_tiny_ragged", data_dir=prepared)
    assert dataset.input_shape == (None, None, 3)
    message = r"'fmm_tiny_ragged' differ in size.*image_size=None.*e.g. image_size=\(160, 160\)"
    with pytest.raises(ValueError, match=message):
        dataset.arrays("train")
    with pytest.raises(ValueError, match=message):
        dataset.pipeline("train", 2)
    images, labels = dataset.arrays("train", image_size=(4, 4))
    assert images.shape == (11, 4, 4, 3)
    np.testing.assert_allclose(images[:, 0, 0, 0] % 3, labels, atol=1e-4)
    streamed, _ = flat(dataset.pipeline("train", 4, shuffle=False, image_size=[4, 4]))
    np.testing.assert_allclose(streamed, images, atol=1e-4)


@pytest.mark.slow_on_tensorflow
def test_mirrored_strategy_trains_on_two_logical_cpus(capfd):
    dataset = data.load("digits")
    strategy = training.strategy("mirrored")
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input(dataset.input_shape),
                data.preprocessing(dataset, "standardize"),
                keras.layers.Flatten(),
                keras.layers.Dense(10),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.03), loss, metrics=["accuracy"])
    steps = dataset.steps("train", 128)
    model.fit(dataset.pipeline("train", 128, epochs=2), epochs=2, steps_per_epoch=steps, verbose=0)
    test = dataset.pipeline("test", 100, shuffle=False)
    assert model.evaluate(test, verbose=0)[1] > 0.8
    assert "shard" not in capfd.readouterr().err.lower()
    shares = strategy.experimental_distribute_dataset(test)
    total = sum(len(x) for _, y in shares for x in strategy.experimental_local_results(y))
    assert total == 359


def test_refused_arguments(prepared):
    dataset = data.load("fmm_tiny", data_dir=prepared)
    with pytest.raises(
        ValueError, match=r"`split` must be one of 'train', 'validation', 'test'. Rec"
    ):
        dataset.pipeline("valid")
    with pytest.raises(ValueError, match="`split` must be one of"):
        dataset.arrays("valid")
    with pytest.raises(
        ValueError, match=r"`batch_size` must be a positive integer. Received: batch"
    ):
        dataset.pipeline("train", batch_size=0)
    with pytest.raises(ValueError, match="Received: initial_epoch=3, epochs=3"):
        dataset.pipeline("train", initial_epoch=3, epochs=3)
    with pytest.raises(ValueError, match="Without `shuffle` a pipeline is one pass"):
        dataset.pipeline("train", shuffle=False, epochs=3)
    with pytest.raises(
        ValueError, match=r"has no batch.*batch_size=64, drop_remainder=True, 36 exa"
    ):
        dataset.pipeline("train", batch_size=64, drop_remainder=True)
    with pytest.raises(ValueError, match=r"`image_size\[1\]` must be a positive integer"):
        dataset.pipeline("train", image_size=(4, 0))
    with pytest.raises(TypeError, match="`image_size` must be a pair of positive integers"):
        dataset.arrays("train", image_size=4)
    for give in (dataset.arrays, dataset.pipeline):
        with pytest.raises(ValueError, match=r"`image_size\[1\]` must be below 16,385. Received"):
            give("train", image_size=(4, 2**30))
    whole = data.load("fmm_tiny", validation_fraction=0, data_dir=prepared)
    with pytest.raises(
        ValueError, match=r"'validation'.*has no batch.*larger `validation_fraction`"
    ):
        whole.pipeline("validation")
