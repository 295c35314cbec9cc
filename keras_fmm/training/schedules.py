"""How fast weights learn: over the steps of a run, and some of them slower than others."""

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
    optimizer: keras.optimizers.SGD,
    variables: Sequence[keras.Variable],
    slow: Sequence[keras.Variable],
    factor: float,
) -> None:
    """Lets an optimizer move some of a model's variables at a part of its learning rate.

    Their gradients are multiplied, which for SGD, with momentum or without, is the same. Call it
    before `compile`. What is saved is Keras' optimizer, as it was: after loading, do it again.

    Args:
        optimizer: `keras.optimizers.SGD` without weight decay, not yet of a model. It may clip by
            `global_clipnorm` alone, which shortens the multiplied gradients all by one factor.
        variables: list of `keras.Variable`. The model's `trainable_variables`.
        slow: list of `keras.Variable`. Those of them that are to be slower.
        factor: float, at least 0. What their rate is multiplied with.

    Raises:
        TypeError: `optimizer` is no SGD: others divide by the gradients' size.
        ValueError: it has weight decay, clips gradients one by one or accumulates them; `factor`
            is below 0.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), keras.layers.Dense(1)])
    >>> model.set_weights([np.ones(w.shape) for w in model.weights])
    >>> optimizer = keras.optimizers.SGD(0.01)
    >>> first = model.layers[0].trainable_variables
    >>> slow_down(optimizer, model.trainable_variables, first, 0.0)
    >>> model.compile(optimizer, "mse")
    >>> history = model.fit(np.ones((4, 1)), np.zeros((4, 1)), verbose=0)
    >>> [bool((np.asarray(w) == 1).all()) for w in model.get_weights()]
    [True, True, False, False]
    """
    checks.instance("optimizer", optimizer, keras.optimizers.SGD)
    config = optimizer.get_config()
    others = ("weight_decay", "clipnorm", "clipvalue")
    set_ = [name for name in (*others, "gradient_accumulation_steps") if config.get(name)]
    if set_:
        raise ValueError(
            "`optimizer` must be SGD without weight decay, clipping of single gradients and "
            "accumulation, which look at gradients themselves. "
            f"Received: an optimizer with {', '.join(set_)}"
        )
    factor = checks.number("factor", factor)
    if factor < 0:
        raise ValueError(f"`factor` must be at least 0. Received: factor={factor}")
    slow = {id(variable) for variable in slow}
    factors = [factor if id(variable) in slow else None for variable in variables]
    apply = optimizer.apply

    def scaled(grads, trainable_variables=None):
        # All of Keras' trainers give them in the order of the model's trainable variables.
        pairs = zip(grads, factors, strict=True)
        grads = [g if f is None or g is None else keras.ops.multiply(g, f) for g, f in pairs]
        return apply(grads, trainable_variables)

    optimizer.apply = scaled
