import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("strategies of tf.distribute", allow_module_level=True)

import tensorflow as tf

from keras_fmm import training


def test_mirrored_takes_both_logical_cpus():
    assert training.replicas(training.strategy("mirrored")) == 2


@pytest.mark.parametrize("kind", ["auto", "default"])
def test_without_gpus_one_replica(kind):
    assert training.replicas(training.strategy(kind)) == 1


def test_one_mirrored_strategy_a_process():
    assert training.strategy("mirrored") is training.strategy("mirrored")


def test_replicas_of_the_open_scope():
    assert training.replicas() == 1
    with training.strategy("mirrored").scope():
        assert training.replicas() == 2


def test_unknown_kind_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"one of 'auto', 'mirrored', 'default'.*'multi'"):
        training.strategy("multi")


@pytest.mark.parametrize(("images", "batch_size"), [(145, 18), (144, 18), (3, 2), (5, 4), (9, 64)])
def test_no_replica_is_without_an_image_to_evaluate(images, batch_size):
    strategy = training.strategy("mirrored")
    size = training.evaluation_batch_size(strategy, batch_size, images)
    assert size % 2 == 0
    batches = strategy.experimental_distribute_dataset(tf.data.Dataset.range(images).batch(size))
    shares = [[len(x) for x in strategy.experimental_local_results(batch)] for batch in batches]
    assert np.sum(shares) == images
    assert np.min(shares) > 0
    assert training.evaluation_batch_size(None, batch_size, images) == batch_size


def test_too_few_images_to_evaluate():
    with pytest.raises(ValueError, match="an image for each of the 2 replicas. Received: images=1"):
        training.evaluation_batch_size(training.strategy("mirrored"), 8, 1)


def test_plan_divides_the_global_batch():
    plan = training.batch_plan(training.strategy("mirrored"), batch_size=64, learning_rate=0.1)
    assert plan == training.BatchPlan(64, 32, 0.1)


def test_plan_scales_the_learning_rate_from_a_batch_of_256():
    plan = training.batch_plan(training.strategy("default"), 64, 0.1, scale_learning_rate=True)
    assert plan == training.BatchPlan(64, 64, 0.025)


@pytest.mark.parametrize(("size", "choices"), [(7, "Choose 6 or 8"), (1, "Choose 2 or 2")])
def test_plan_refuses_a_batch_the_replicas_do_not_divide(size, choices):
    with pytest.raises(ValueError, match=f"2 replicas.*batch_size={size}. {choices}"):
        training.batch_plan(training.strategy("mirrored"), size, 0.1)


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf")])
def test_plan_refuses_learning_rates(rate):
    with pytest.raises(ValueError, match="`learning_rate` must be a finite number"):
        training.batch_plan(None, 8, rate)


def test_plan_refuses_batch_sizes():
    with pytest.raises(TypeError, match="`batch_size` must be a positive integer"):
        training.batch_plan(None, 8.0, 0.1)


@pytest.mark.slow_on_tensorflow
def test_two_replicas_take_the_steps_of_one():
    """What batch_plan says: with the same global batch nothing else changes."""
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    kernels = []
    for kind in ("default", "mirrored"):
        strategy = training.strategy(kind)
        plan = training.batch_plan(strategy, batch_size=8, learning_rate=0.1)
        with strategy.scope():
            layer = keras.layers.Dense(1, kernel_initializer="ones")
            model = keras.Sequential([keras.Input((3,)), layer])
            model.compile(keras.optimizers.SGD(plan.learning_rate), "mse")
        model.fit(x, x[:, :1], plan.global_batch_size, epochs=2, shuffle=False, verbose=0)
        assert keras.ops.convert_to_numpy(model.optimizer.iterations.value) == 4
        kernels.append(model.get_weights()[0])
    np.testing.assert_allclose(*kernels, rtol=1e-5)
