"""How fast weights learn: over the steps of a run, and some of them slower than others."""

import functools
from collections.abc import Sequence

import keras

from keras_fmm import checks

SCHEDULES = ("constant", "cosine", "step")
_STAIRS = 100


def schedule(
    name: str,
    learning_rate: float,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of a run's optimizer, made of Keras' own schedules.

    Args:
        name: str. "constant", "cosine" (to zero at the end of the run) or "step" (to a tenth after
            half of the run, and to a hundredth after three quarters).
        learning_rate: float above 0. The highest.
        epochs: int, at least 1. Of the whole run.
        steps_per_epoch: int, at least 1.
        warmup_epochs: float, at least 0 and less than `epochs`, default 0. For so long it rises
            in a line from zero; "step" rises in up to 100 stairs. "cosine" begins after it, while
            "step" counts from the start of the run.

    Returns:
        A float, or a `keras.optimizers.schedules.LearningRateSchedule`. It depends on the step
        alone, which an optimizer counts and `training.Run` keeps.

    Raises:
        TypeError: a number is none.
        ValueError: another name, a number out of range, or a warm-up as long as the run; of "step"
            one longer than half of it.

    Example:

    >>> rate = schedule("cosine", 0.1, epochs=10, steps_per_epoch=100, warmup_epochs=1)
    >>> [round(float(rate(step)), 3) for step in (0, 50, 100, 550, 1000)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    checks.one_of("name", name, SCHEDULES)
    learning_rate = checks.number("learning_rate", learning_rate)
    if learning_rate <= 0:
        raise ValueError(
            f"`learning_rate` must be above 0. Received: learning_rate={learning_rate}"
        )
    epochs = checks.positive_integer("epochs", epochs)
    steps = epochs * checks.positive_integer("steps_per_epoch", steps_per_epoch)
    warmup_epochs = checks.number("warmup_epochs", warmup_epochs)
    longest = epochs / 2 if name == "step" else epochs
    if not 0 <= warmup_epochs < longest:
        raise ValueError(
            "`warmup_epochs` must be at least 0 and shorter than the run"
            f"{', of a step schedule than half of it' if name == 'step' else ''}. "
            f"Received: warmup_epochs={warmup_epochs:g} for {epochs} epochs. "
            "Warm up for less, or train for longer."
        )
    warmup = round(warmup_epochs * steps_per_epoch)
    schedules = keras.optimizers.schedules
    if name == "step":
        stairs = min(warmup, _STAIRS)
        ends = [round(warmup * (i + 1) / stairs) - 1 for i in range(stairs)]
        rates = [learning_rate * (i + 0.5) / stairs for i in range(stairs)]
        ends += [steps // 2 - 1, steps * 3 // 4 - 1]
        rates += [learning_rate, learning_rate / 10, learning_rate / 100]
        return schedules.PiecewiseConstantDecay(ends, rates)
    if name == "constant" and not warmup:
        return learning_rate
    # A cosine that stays at its beginning is constant.
    alpha = 1.0 if name == "constant" else 0.0
    if not warmup:
        return schedules.CosineDecay(learning_rate, steps, alpha)
    left = max(steps - warmup, 1)
    return schedules.CosineDecay(0.0, left, alpha, warmup_target=learning_rate, warmup_steps=warmup)


def slow_down(
    optimizer: keras.optimizers.Optimizer, slow: Sequence[keras.Variable], factor: float
) -> None:
    """Lets an optimizer move some of a model's variables at a part of its learning rate.

    As PyTorch's groups of parameters do: weight decay is a part of the rate too; what clips
    gradients sees them all as they are. Call it before `compile`. What is saved is Keras'
    optimizer, as it was: after loading, do it again. Of two calls both factors count.

    Args:
        optimizer: `keras.optimizers.Optimizer`, not yet of a model. Any but `Nadam`.
        slow: list of `keras.Variable`. Those that are to be slower.
        factor: float, at least 0. What their rate is multiplied with.

    Raises:
        TypeError: `optimizer` is no optimizer of Keras, or one that wraps another.
        ValueError: it is `Nadam`, whose schedule of momentum goes on with each group of variables;
            `factor` is below 0.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), keras.layers.Dense(1)])
    >>> model.set_weights([np.ones(w.shape) for w in model.weights])
    >>> optimizer = keras.optimizers.Adam(0.01)
    >>> slow_down(optimizer, model.layers[0].trainable_variables, 0.0)
    >>> model.compile(optimizer, "mse")
    >>> history = model.fit(np.ones((4, 1)), np.zeros((4, 1)), verbose=0)
    >>> [bool((np.asarray(w) == 1).all()) for w in model.get_weights()]
    [True, True, False, False]
    """
    checks.instance("optimizer", optimizer, keras.optimizers.Optimizer)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise TypeError(
            "`optimizer` must not wrap another. Received: a LossScaleOptimizer. Slow down its "
            "`inner_optimizer`, or give that to `compile`, which wraps it for mixed_float16."
        )
    if isinstance(optimizer, keras.optimizers.Nadam):
        raise ValueError(
            "`optimizer` must not be Nadam, whose schedule of momentum would go on with each "
            f"group of variables. Received: {optimizer!r}. Take Adam."
        )
    factor = checks.number("factor", factor)
    if factor < 0:
        raise ValueError(f"`factor` must be at least 0. Received: factor={factor}")
    # What Keras' optimizers call once a step, on every backend.
    update, apply_decay = optimizer._backend_update_step, optimizer._apply_weight_decay
    rates = getattr(update, "rates", None)
    if rates is None:
        rates = {}
        optimizer._backend_update_step = functools.partial(_updated, update, rates)
        optimizer._backend_update_step.rates = rates
        optimizer._apply_weight_decay = functools.partial(
            _decayed, optimizer, apply_decay, optimizer.weight_decay, rates
        )
    for variable in {id(variable): variable for variable in slow}.values():
        _, rate = rates.get(id(variable), (None, 1.0))
        # The variable is kept, so that no other gets its id.
        rates[id(variable)] = variable, rate * factor


def _updated(update, rates, grads, variables, learning_rate):
    """Makes an optimizer's step for the variables of each rate."""
    pairs = zip(grads, variables, strict=True)
    for rate, group in _groups(rates, pairs, lambda pair: pair[1]):
        update(*zip(*group, strict=True), keras.ops.multiply(learning_rate, rate))


def _decayed(optimizer, apply_decay, decay, rates, variables):
    """Lets the variables of each rate decay."""
    if decay is None:
        return
    kept = filter(optimizer._use_weight_decay, variables)
    for rate, group in _groups(rates, kept, lambda variable: variable):
        # Not what the attribute is: on two devices the other's turn comes before it is put back.
        optimizer.weight_decay = decay * rate
        apply_decay(group)
    optimizer.weight_decay = decay


def _groups(rates, items, variable):
    """Returns pairs of a rate and the items whose variable has it."""
    found = {}
    for item in items:
        _, rate = rates.get(id(variable(item)), (None, 1.0))
        found.setdefault(rate, []).append(item)
    return found.items()
