"""A progress bar of what takes longer than a few seconds."""

import sys
import time

import keras

from keras_fmm import checks

VERBOSE = ("auto", 0, 1, 2)
_SECONDS = 5.0
# Between lines where there is no terminal to draw a bar on.
_SECONDS_A_LINE = 30.0


class Progress:
    """Shows how far work of known length is, on Keras' progress bar; in a file as whole lines.

    Args:
        target: int, the steps that the work takes.
        verbose: "auto", 0, 1 or 2. "auto" shows a bar once the work has taken five seconds and is
            not done; 0 never does, 1 does from the first step on, and 2 writes one line when the
            work is done.
            Where the output is no terminal, there is a line each half a minute for the bar.
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
        self._last_line = None
        # Keras draws its bar over itself with backspaces, in a file too. A notebook understands.
        self._writes_lines = verbose in ("auto", 1) and not (
            sys.stdout.isatty() or "ipykernel" in sys.modules
        )
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
        if self._is_shown and self._writes_lines:
            self._write_line()
        elif self._is_shown:
            self._bar.update(done)

    def _write_line(self):
        now, last = self._clock(), self._last_line
        if last is None or now - last >= _SECONDS_A_LINE or self._done == self._target:
            self._last_line = now
            took = now - self._start
            print(f"{self._done}/{self._target} - {took:.0f}s", flush=True)
