"""Keras callbacks of a run: stop at NaN, keep the best model, back up and record each epoch."""

import contextlib
import math
import time

import keras
import numpy as np

from keras_fmm import files
from keras_fmm.training import hosts


class StopAtNaN(keras.callbacks.Callback):
    """Raises at the first step whose loss is NaN or infinite, before anything of it is saved.

    `keras.callbacks.TerminateOnNaN(raise_error=True)` names no epoch, and looks neither at the
    validation loss nor at the weights, which the last step of an epoch can spoil after its loss
    was computed. The loss Keras reports is the mean over the epoch so far: its first NaN is the
    first NaN step.

    Args:
        monitor: str, the metric that chooses the best model, which must be finite as well.
        fail: function of a str, the reason, that returns the exception to raise.
    """

    def __init__(self, monitor, fail):
        super().__init__()
        self.monitor = monitor
        self.fail = fail
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        bad = self._bad(logs or {}, ["loss"])
        if bad:
            # self.model only now: on JAX, asking for it copies the state back.
            steps = self.model.steps_per_execution
            within = f" (one of {steps} steps run as one)" if steps > 1 else ""
            where = f"at step {batch + 1} of epoch {self._epoch + 1}, counted from 1"
            raise self.fail(f"{bad} {where}{within}")

    def on_epoch_end(self, epoch, logs=None):
        where = f"at the end of epoch {epoch + 1}, counted from 1"
        bad = self._bad(logs or {}, ["loss", "val_loss", self.monitor])
        if bad:
            raise self.fail(f"{bad} {where}")
        for weight in self.model.weights:
            value = keras.ops.convert_to_numpy(weight.value)
            # A weight that is not trained may hold infinities on purpose (a mask).
            spoiled = ~np.isfinite(value) if weight.trainable else np.isnan(value)
            if spoiled.any():
                raise self.fail(f"the weight {weight.path} was NaN or infinite {where}")

    def _bad(self, logs, names):
        return ", ".join(f"{n}={logs[n]}" for n in names if not math.isfinite(logs.get(n, 0)))


class AverageReplicas(keras.callbacks.Callback):
    """Gives all replicas the mean of what each keeps for itself, before it is used or saved.

    Under MirroredStrategy Keras lets every replica move its own averages in batch norm, while
    saving takes those of the first: the model that is saved would not be the one that was
    validated, and a run would not resume to the same numbers.
    """

    def on_test_begin(self, logs=None):
        self._average()

    def on_epoch_end(self, epoch, logs=None):
        self._average()

    def _average(self):
        strategy = getattr(self.model, "distribute_strategy", None)
        if strategy is None or strategy.num_replicas_in_sync == 1:
            return
        for variable in self.model.non_trainable_variables:
            if "float" in variable.dtype:
                values = strategy.experimental_local_results(variable.value)
                variable.assign(np.mean([value.numpy() for value in values], axis=0))


class BestCheckpoint(keras.callbacks.ModelCheckpoint):
    """`ModelCheckpoint(save_best_only=True)` whose file is always a whole one.

    Keras writes in place, so that a kill leaves a broken file where the best model was. Here Keras
    writes to the temporary path of `files.replacing`. A metric that is not there is an error;
    Keras would save every epoch.

    Args:
        path: str or `os.PathLike`, ending in .keras.
        monitor: str, name of the metric.
        mode: "auto", "min" or "max".
        best: float, the best value so far, or None.
    """

    def __init__(self, path, monitor, mode, best):
        super().__init__(
            path, monitor=monitor, mode=mode, save_best_only=True, initial_value_threshold=best
        )
        self._path = path

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        # Metrics are there from the first step on: an epoch later is late to learn of it.
        if self.monitor_op is None and self.monitor.removeprefix("val_") in (logs or {}):
            self._set_monitor_op()

    def _set_monitor_op(self):
        try:
            super()._set_monitor_op()
        except ValueError as error:
            raise ValueError(
                '`mode` must be "min" or "max" for a metric of which Keras does not know which '
                f"way it improves. Received: mode={self.mode!r} of the monitor {self.monitor!r}. "
                'Give the run `mode="max"` if larger is better, `mode="min"` if smaller is.'
            ) from error

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor not in (logs or {}):
            raise ValueError(
                "`monitor` must be a metric of every epoch. "
                f"Received: monitor={self.monitor!r}, where the metrics are {sorted(logs or {})}. "
                "Give `fit` validation_data (and validation_freq=1), or the run another monitor."
            )
        with (
            contextlib.suppress(_NotBetter),
            hosts.alone(),
            files.replacing(self._path) as temporary,
        ):
            # ModelCheckpoint formats its path: braces in a folder's name are meant literally.
            self.filepath = str(temporary).replace("{", "{{").replace("}", "}}")
            super().on_epoch_end(epoch, logs)
            if not temporary.exists():
                raise _NotBetter


class _NotBetter(Exception):
    """Leaves `files.replacing` without replacing."""


class EpochRecorder(keras.callbacks.Callback):
    """Tells a run of each epoch that begins and ends; the last callback, so all else is in.

    Args:
        checkpoint: `BestCheckpoint`, whose best value belongs to the backup.
        begin: function of the epoch's index.
        end: function of the model, the logs, the best value so far and the seconds it took.
    """

    def __init__(self, checkpoint, begin, end):
        super().__init__()
        self.checkpoint = checkpoint
        self.begin = begin
        self.end = end

    def on_epoch_begin(self, epoch, logs=None):
        self.begin(epoch)
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._start
        self.end(self.model, logs or {}, self.checkpoint.best, seconds)


class StopEarly(keras.callbacks.Callback):
    """Ends `fit` where a run has no patience left, on all hosts at once.

    Args:
        is_over: function that says so, asked on the first host once an epoch is in the backup.
    """

    def __init__(self, is_over):
        super().__init__()
        self.is_over = is_over

    def on_epoch_end(self, epoch, logs=None):
        if hosts.from_first(self.is_over):
            self.model.stop_training = True
