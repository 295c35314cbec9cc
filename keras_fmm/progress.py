"""A progress bar of what takes longer than a few seconds."""

import time

import keras

from keras_fmm import checks

VERBOSE = ("auto", 0, 1, 2)
_SECONDS = 5.0


class Progress:
    """Shows how far work of known length is, on Keras' progress bar.

    Args:
        target: int, the steps that the work takes.
        verbose: "auto", 0, 1 or 2. "auto" shows a bar once the work has taken five seconds and is
            not done; 0 never does, 1 does from the first step on, and 2 writes one line when the
            work is done.
        unit_name: str, what a step is called.
        clock: function that returns seconds; tests give their own.

    Raises:
        ValueError: `verbose` is none of these.

    Example:

    >>> progress = Progress(3)
    >>> for number in range(3):
    ...     progress.add(1)
    """

    def __init__(self, target, verbose="auto", unit_name="step", clock=time.monotonic):
        checks.one_of("verbose", verbose, VERBOSE)
        self._is_shown = verbose != "auto"
        self._target, self._done = target, 0
        self._clock, self._start = clock, clock()
        self._bar = keras.utils.Progbar(
            target, verbose=verbose if self._is_shown else 1, unit_name=unit_name
        )

    def add(self, steps):
        """Says that steps are done; beyond the target none are counted."""
        done = min(self._done + steps, self._target)
        if done == self._done:
            return
        self._done = done
        if done < self._target and self._clock() - self._start >= _SECONDS:
            self._is_shown = True
        if self._is_shown:
            self._bar.update(done)
