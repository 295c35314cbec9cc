"""Rates over steps and over variables, against SGD by hand; and weights of classes."""

import math

import keras
import numpy as np
import pytest

from keras_fmm import training


def rates(*given, steps, **keywords):
    schedule = training.schedule(*given, **keywords)
    if isinstance(schedule, float):
        return [schedule] * steps
    return [float(keras.ops.convert_to_numpy(schedule(step))) for step in range(steps)]


def test_a_cosine_rises_in_a_line_and_falls_to_zero():
    found = rates("cosine", 0.4, 5, 4, warmup_epochs=1, steps=20)
    expected = [0.4 * step / 4 for step in range(4)]
    expected += [0.2 * (1 + math.cos(math.pi * step / 16)) for step in range(16)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    found = rates("cosine", 0.4, 5, 4, steps=20)
    expected = [0.2 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_constant_rate_and_a_step():
    assert training.schedule("constant", 0.1, 5, 4) == 0.1
    found = rates("constant", 0.4, 5, 4, warmup_epochs=0.5, steps=20)
    np.testing.assert_allclose(found, [0, 0.2, *[0.4] * 18], atol=1e-6)
    found = rates("step", 0.4, 5, 4, steps=20)
    np.testing.assert_allclose(found, [*[0.4] * 10, *[0.04] * 5, *[0.004] * 5], rtol=1e-5)
    found = rates("step", 0.4, 5, 4, warmup_epochs=1, steps=20)
    np.testing.assert_allclose(found[:6], [0.05, 0.15, 0.25, 0.35, 0.4, 0.4], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "linear"}, "`name` must be one of 'constant', 'cosine', 'step'"),
        ({"learning_rate": 0.0}, "must be above 0"),
        ({"warmup_epochs": 5}, "shorter than the run. Received: warmup_epochs=5 for 5 epochs"),
        ({"name": "step", "warmup_epochs": 3}, "than half of it. Received: warmup_epochs=3"),
        ({"warmup_epochs": -1.0}, "at least 0"),
        ({"warmup_epochs": math.nan}, "finite"),
    ],
)
def test_a_wrong_schedule_is_refused(changes, message):
    given = {"name": "cosine", "learning_rate": 0.1, "epochs": 5, "steps_per_epoch": 4}
    with pytest.raises(ValueError, match=message):
        training.schedule(**{**given, **changes})


def test_slow_variables_move_at_their_rate():
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"),
        ]
    )
    slow = model.layers[0].trainable_variables
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    training.slow_down(optimizer, model.trainable_variables, slow, 0.25)
    model.compile(optimizer, "mse")
    model.fit(np.ones((4, 1)), np.full((4, 1), 2.0), batch_size=1, shuffle=False, verbose=0)
    weights, moves = np.ones(2), np.zeros(2)
    for _ in range(4):
        error = 2 * (weights.prod() - 2)
        moves = 0.9 * moves - np.array([0.025, 0.1]) * error * weights[::-1]
        weights = weights + moves
    np.testing.assert_allclose(np.ravel(model.get_weights()), weights, rtol=1e-5)


def test_a_clipped_norm_keeps_the_ratio_of_the_rates():
    layers = [keras.layers.Dense(1, use_bias=False) for _ in range(2)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.set_weights([np.array([[2.0]]), np.array([[3.0]])])
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=1.0)
    training.slow_down(optimizer, model.trainable_variables, layers[0].trainable_variables, 0.5)
    model.compile(optimizer, "mse")
    model.fit(np.ones((1, 1)), np.zeros((1, 1)), verbose=0)
    # Of 36 and 24, multiplied 18 and 24, of norm 30.
    np.testing.assert_allclose(np.ravel(model.get_weights()), [2 - 0.06, 3 - 0.08], rtol=1e-5)


def test_only_what_is_the_same_as_a_rate_is_slowed_down():
    variables = [keras.Variable(1.0)]
    with pytest.raises(TypeError, match="`optimizer` must be a keras.SGD"):
        training.slow_down(keras.optimizers.Adam(), variables, variables, 0.1)
    for refused in ({"weight_decay": 0.1}, {"clipnorm": 1.0}):
        with pytest.raises(ValueError, match=f"Received: an optimizer with {next(iter(refused))}"):
            training.slow_down(keras.optimizers.SGD(**refused), variables, variables, 0.1)
    with pytest.raises(ValueError, match="`factor` must be at least 0"):
        training.slow_down(keras.optimizers.SGD(), variables, variables, -1.0)


NAMES = ["cat", "dog", "a=b"]


def test_weights_of_classes():
    labels = [0] * 6 + [1] * 3
    found = training.class_weights("balanced", NAMES, labels)
    # The third has no image: what it would weigh is not seen.
    assert found == {0: 9 / 3 / 6, 1: 9 / 3 / 3, 2: 1.0}
    assert training.class_weights("a=b=2, cat=0.5", NAMES) == {0: 0.5, 1: 1.0, 2: 2.0}
    assert training.class_weights({"dog": 3}, NAMES) == {0: 1.0, 1: 3.0, 2: 1.0}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("dgo=2", "Received: 'dgo'. Did you mean 'dog'"),
        ("dog", "with commas between. Received: 'dog'"),
        ("dog=two", "Received: 'dog=two'"),
        ("dog=0", "must be above 0. Received: dog=0.0"),
        ("dog=nan", "finite"),
        ("dog=1,dog=2", "once. Received: 'dog' twice"),
        ("balanced", "`labels` must be given"),
        ("", "Received: ''"),
    ],
)
def test_wrong_weights_of_classes_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        training.class_weights(weights, NAMES)
