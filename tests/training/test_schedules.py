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
    training.slow_down(optimizer, slow, 0.25)
    model.compile(optimizer, "mse")
    model.fit(np.ones((4, 1)), np.full((4, 1), 2.0), batch_size=1, shuffle=False, verbose=0)
    weights, moves = np.ones(2), np.zeros(2)
    for _ in range(4):
        error = 2 * (weights.prod() - 2)
        moves = 0.9 * moves - np.array([0.025, 0.1]) * error * weights[::-1]
        weights = weights + moves
    np.testing.assert_allclose(np.ravel(model.get_weights()), weights, rtol=1e-5)


OPTIMIZERS = {
    "sgd": (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
    "sgd with decay": (keras.optimizers.SGD, {"weight_decay": 0.1}),
    "clipped": (keras.optimizers.SGD, {"clipvalue": 0.3, "momentum": 0.9}),
    "adam": (keras.optimizers.Adam, {"amsgrad": True}),
    "adamw": (keras.optimizers.AdamW, {"weight_decay": 0.1}),
    "accumulated": (keras.optimizers.Adam, {"gradient_accumulation_steps": 2}),
    "rmsprop": (keras.optimizers.RMSprop, {"momentum": 0.5}),
    "lion": (keras.optimizers.Lion, {}),
    # Without code of its own on PyTorch.
    "adafactor": (keras.optimizers.Adafactor, {"relative_step": False}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slow_variables_move_as_by_an_optimizer_of_their_own(name):
    make, arguments = OPTIMIZERS[name]
    random = np.random.default_rng(0)
    begin = random.normal(size=(3, 2, 2)).astype("float32")

    def begun(learning_rate, values):
        variables = [keras.Variable(value) for value in values]
        optimizer = make(learning_rate, **arguments)
        if optimizer.weight_decay is not None:
            optimizer.exclude_from_weight_decay(var_list=variables[:1])
        return optimizer, variables

    # The first of three is fast, and its weights do not decay.
    both, together = begun(0.1, begin)
    fast, all_fast = begun(0.1, begin)
    slow, all_slow = begun(0.025, begin)
    training.slow_down(both, together[1:], 0.25)
    gradients = random.normal(size=(4, 3, 2, 2)).astype("float32")
    for step in gradients:
        step = [keras.ops.convert_to_tensor(g) for g in step]
        both.apply(step, together)
        fast.apply(step, all_fast)
        slow.apply(step, all_slow)
    for found, expected in zip(together, [all_fast[0], *all_slow[1:]], strict=True):
        found, expected = (keras.ops.convert_to_numpy(v.value) for v in (found, expected))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert int(both.iterations) == len(gradients) // arguments.get("gradient_accumulation_steps", 1)


def test_two_calls_make_three_rates():
    begin, gradient = np.ones((2, 3)).astype("float32")
    variables = [keras.Variable(value) for value in begin]
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    # A variable that is named twice is no slower for that.
    training.slow_down(optimizer, [variables[1], variables[2], variables[1]], 0.5)
    training.slow_down(optimizer, variables[2:], 0.5)
    optimizer.apply([keras.ops.convert_to_tensor(x) for x in gradient], variables)
    found = [float(keras.ops.convert_to_numpy(v.value)) for v in variables]
    # Decay comes first, by half of the rate, and then a step.
    expected = [1 - 0.5 * rate - rate for rate in (0.1, 0.05, 0.025)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert optimizer.weight_decay == 0.5


def test_gradients_are_clipped_as_they_are():
    layers = [keras.layers.Dense(1, use_bias=False) for _ in range(2)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.set_weights([np.array([[2.0]]), np.array([[3.0]])])
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=1.0)
    training.slow_down(optimizer, layers[0].trainable_variables, 0.5)
    model.compile(optimizer, "mse")
    model.fit(np.ones((1, 1)), np.zeros((1, 1)), verbose=0)
    # Of 36 and 24, whose norm is 12 times the root of 13.
    moves = 0.1 * np.array([0.5 * 36, 24]) / (12 * np.sqrt(13))
    np.testing.assert_allclose(np.ravel(model.get_weights()), [2, 3] - moves, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_slow_variables_in_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    layers = [keras.layers.Dense(1, use_bias=False) for _ in range(2)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.set_weights([np.ones((1, 1)), np.ones((1, 1))])
    optimizer = keras.optimizers.Adam(0.01)
    training.slow_down(optimizer, layers[0].trainable_variables, 0.0)
    model.compile(optimizer, "mse")
    # The error is half a unit: its gradient times the first loss scale is within float16.
    model.fit(np.ones((4, 1)), np.full((4, 1), 0.5), verbose=0)
    still, moved = np.ravel(model.get_weights())
    assert still == 1
    assert moved == pytest.approx(0.99, abs=1e-3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's strategies")
def test_slow_variables_of_a_mirrored_model():
    with training.strategy("mirrored").scope():
        layers = [keras.layers.Dense(1, use_bias=False, kernel_initializer="ones") for _ in "ab"]
        model = keras.Sequential([keras.Input((1,)), *layers])
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=1.0)
        training.slow_down(optimizer, layers[0].trainable_variables, 0.5)
        model.compile(optimizer, "mse")
    model.fit(np.ones((4, 1)), np.zeros((4, 1)), batch_size=4, verbose=0)
    # Decay of a hundredth and a step of a hundredth, and half of both.
    np.testing.assert_allclose(np.ravel(model.get_weights()), [0.99, 0.98], atol=1e-6)


def test_what_cannot_be_slowed_down_is_refused():
    variables = [keras.Variable(1.0)]
    with pytest.raises(TypeError, match="`optimizer` must be a keras.Optimizer"):
        training.slow_down("adam", variables, 0.1)
    with pytest.raises(ValueError, match="must not be Nadam"):
        training.slow_down(keras.optimizers.Nadam(), variables, 0.1)
    wrapped = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    with pytest.raises(TypeError, match="Slow down its `inner_optimizer`"):
        training.slow_down(wrapped, variables, 0.1)
    with pytest.raises(ValueError, match="`factor` must be at least 0"):
        training.slow_down(keras.optimizers.SGD(), variables, -1.0)


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
