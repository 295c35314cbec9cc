"""A training run in a folder: it can be killed at any moment and goes on where it was."""

import errno
import json
import os
import tempfile
import weakref
import zipfile
from collections.abc import Mapping, Sequence

import h5py
import keras
import numpy as np

from keras_fmm import checks, files, hints, locks
from keras_fmm.training import backup, hosts, records
from keras_fmm.training.callbacks import (
    AverageReplicas,
    BestCheckpoint,
    EpochRecorder,
    StopAtNaN,
    StopEarly,
)
from keras_fmm.training.environment import environment


class Run:
    """A training run and its folder.

    The folder holds `run.json` (the record), `history.csv` (one row an epoch), `best.keras` (the
    model of the best `monitor`), `backup.npz` (the state after the last finished epoch) and, on
    request, `tensorboard/`. Each file is replaced whole, so a kill leaves none half-written.

    A killed run that is started again goes on after its last finished epoch and, where the
    arithmetic is deterministic (a CPU), ends with the same bits as one that was not killed. This
    needs data whose order in epoch e depends on e alone, starting at `initial_epoch`
    (tf.data's own shuffle starts over at its first order), and randomness drawn from the layers'
    seed generators. The state of other callbacks is not kept; in the place of
    `keras.callbacks.EarlyStopping` take `patience`, whose state is.

    A run has its folder until it is finished, has failed or is dropped, or its process ends,
    however that ends: `.run.lock` says who has it, and keeps other processes and threads out. In
    the same thread, as where a cell of a notebook runs again, a later `Run` on the folder takes it
    over, and the earlier one then raises where it would write. On a network drive without locks, or
    whose locks hold on one host only, other hosts are not kept out.

    Where several hosts train together (`training.hosts`) each makes the run and calls the same
    methods. The first has the folder, reads and writes; the others need not see it, and get from
    the first what they need. They may be more or fewer when the run goes on.

    Args:
        workdir: str or `os.PathLike`. The folder: missing, empty or this run's.
        config: dict that JSON can hold. The settings that make this run what it is. A folder whose
            run has other settings is refused.
        monitor: str, default "val_accuracy". The metric that chooses `best.keras`; must be there in
            every epoch.
        mode: str, default "auto". "auto" (Keras knows which way its metrics improve), "min" or
            "max".
        resumable: sequence or set of str, default (). Keys of `config` that may differ from the
            folder's, such as ["epochs"] to train a finished run for longer. One str alone is
            refused.
        patience: int, at least 1, or None, default None. After so many epochs without a better
            `monitor` the training ends, as `stopped` then says; None trains to the end.
        min_delta: number, at least 0, default 0. By how much more than this a `monitor` must be
            better to be so for `patience`. Any better one is kept in `best.keras`.
        ignored: sequence of paths, default (). As of `environment`: files and folders whose changes
            do not count as changes of the code in `record["environment"]`.

    Attributes:
        workdir: `pathlib.Path`. The folder.
        record: dict. What `run.json` holds: name, status ("created", "running", "finished" or
            "failed"), reason (of a failure), config, monitor, environment (of the last training),
            start and end (UTC, ISO 8601), seconds_per_epoch, history (a list an epoch for each
            metric), metrics. On other hosts than the first as of the last call of a method.

    Raises:
        TypeError: `workdir` is no path; `config` is no dict or JSON cannot hold it; `monitor` is no
            str, `resumable` no sequence of str, `patience` no integer, or `min_delta` no number.
        ValueError: `workdir` is empty; `config` holds a NaN or an infinity; `resumable` holds what
            is no key of `config`; `mode` is none of the three; the folder is another run's or
            damaged, or not a run's and not empty; `patience` is below 1, `min_delta` below 0; hosts
            differ in `config`, `monitor`, `mode`, `patience` or `min_delta`.
        BlockingIOError: another process or thread has the folder; the message says which.
        OSError: the folder cannot be made, read or written, or is full.
        RuntimeError: on another host than the first, which raised one of these. So do the methods.

    Example:

    >>> import tempfile
    >>> x, y = np.ones((8, 2)), np.ones((8, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    ...     model.compile("sgd", "mse")
    ...     run = Run(folder + "/run", {"seed": 0}, monitor="loss")
    ...     first = run.restore(model)
    ...     history = model.fit(
    ...         x, y, initial_epoch=first, epochs=2, callbacks=run.callbacks(), verbose=0
    ...     )
    ...     run.finish({"test_loss": model.evaluate(x, y, verbose=0)})
    ...     again = Run(folder + "/run", {"seed": 0}, monitor="loss").restore(model)
    >>> first, again, run.record["status"], len(run.record["history"]["loss"])
    (0, 2, 'finished', 2)
    """

    def __init__(
        self,
        workdir: hints.Path,
        config: Mapping,
        monitor: str = "val_accuracy",
        mode: str = "auto",
        resumable: Sequence[str] = (),
        patience: int | None = None,
        min_delta: float = 0.0,
        ignored: Sequence[hints.Path] = (),
    ) -> None:
        config = _as_json("config", config)
        if not isinstance(monitor, str) or not monitor:
            raise TypeError(f"`monitor` must be a metric's name. Received: monitor={monitor!r}")
        self.mode = checks.one_of("mode", mode, ("auto", "min", "max"))
        resumable = checks.listed("resumable", resumable, ordered=False)
        unknown = [key for key in resumable if not isinstance(key, str) or key not in config]
        if unknown:
            is_text = all(isinstance(key, str) for key in unknown)
            raise (ValueError if is_text else TypeError)(
                "`resumable` must hold keys of `config`. "
                f"Received: resumable={resumable!r}, with {unknown[0]!r}. "
                f"Choose from {list(config)}."
            )
        if patience is not None:
            patience = checks.positive_integer("patience", patience)
        self._patience = patience
        self._min_delta = checks.number("min_delta", min_delta)
        if self._min_delta < 0:
            raise ValueError(f"`min_delta` must be at least 0. Received: min_delta={min_delta}")
        self._ignored = checks.listed("ignored", ignored)
        asked = {"monitor": monitor, "mode": mode, "patience": patience}
        hosts.check_same({**config, **asked, "min_delta": self._min_delta})
        self.workdir = checks.path("workdir", workdir)
        self._state = None  # what the backup holds beside the variables; None until `restore`
        self._config = config  # recorded once something was done under it
        self._lock = None  # other hosts than the first have none
        self.record = hosts.from_first(lambda: self._opened(config, monitor, resumable))

    def _opened(self, config, monitor, resumable):
        """Takes the folder and returns its record, or a new one."""
        records.check_folder(self.workdir)
        lock = self._taken()
        try:
            record = records.read(self.workdir)
            if record is None or not (
                record["history"] or (self.workdir / records.BACKUP).exists()
            ):
                # A run that finished no epoch has nothing to lose: it may become another one.
                record = self._new_record(config, monitor)
            there = {**record["config"], "monitor": record["monitor"]}
            here = {**config, "monitor": monitor}
            records.refuse_differences(self.workdir, there, here, resumable)
            # Now, not after an epoch, is when to learn that the folder cannot be written.
            records.write(self.workdir, record)
        except BaseException:
            if lock.owner is None:
                lock.release()
            raise
        self._own(lock)
        return record

    def _taken(self):
        """Returns the lock of the folder, which is made."""
        path = self.workdir / records.LOCK
        try:
            with files.writing(path):
                self.workdir.mkdir(parents=True, exist_ok=True)
                return locks.lock(path)
        except BlockingIOError as error:
            raise BlockingIOError(
                "`workdir` must not be in use. "
                f"Received: workdir={str(self.workdir)!r}, and {error}. "
                "Let that run end or stop it, or choose another workdir."
            ) from error

    def _own(self, lock):
        # An earlier run that it was taken from may outlive this one, and still know the lock.
        lock.owner = weakref.ref(self, lambda _: lock.release())
        self._lock = lock

    def _hold(self):
        """Raises where the folder is not this run's any more; takes it again after `finish`."""
        if self._lock.owner() is self and self._lock.held():
            return
        lock = self._lock if self._lock.held() else self._taken()
        if lock.owner is None and not records.is_written(self.workdir, self.record):
            lock.release()
        if not lock.held() or lock.owner is not None:
            raise RuntimeError(
                "A run must have its folder to itself. "
                f"Received: {self.workdir}, which a later `Run` took over. "
                "Go on with that one, or make a new `Run` and restore it."
            )
        self._own(lock)

    def restore(self, model: keras.Model) -> int:
        """Puts the last finished epoch back into the model, and says where `fit` starts.

        Args:
            model: `keras.Model`. Built and compiled as the run's was (under the same scope).

        Returns:
            The number of finished epochs, for `fit(initial_epoch=...)`; 0 for a new run.

        Raises:
            TypeError: `model` is no model.
            ValueError: the model is not built and compiled, a file of the run is missing or
                damaged, or its backup or best model is of another one; then nothing was assigned.
            RuntimeError: a later `Run` took the folder over.
            OSError: the folder cannot be written or is full.
        """
        checks.instance("model", model, keras.Model)
        if not (model.built and model.compiled and model.optimizer is not None):
            raise ValueError(
                "`model` must be built and compiled before it is restored. Received: a model with "
                f"built={model.built}, compiled={model.compiled}. Give it an Input or call "
                "`model.build(input_shape)`, then `model.compile(...)`."
            )
        strategy = getattr(model, "distribute_strategy", None)
        self._environment = environment(strategy, self._ignored)
        path = self.workdir / records.BACKUP
        if hosts.from_first(lambda: self._has_backup(path)):
            self._state = backup.load(path, model, _is_state, lambda: self._check_best(model))
        else:
            # TensorFlow traces the first step twice, and keeps the first for ever, where it makes
            # the optimizer's variables.
            backup.build_optimizer(model)
            self._state = {"history": [], "seconds": [], "best": None, "mark": None, "waited": 0}
        self.record = hosts.from_first(self._show)
        return len(self._state["history"])

    def _has_backup(self, path):
        self._hold()
        if not (self.record["history"] or path.exists()):
            return False
        self._check_files()
        return True

    def _check_files(self):
        for name in (records.BACKUP, records.BEST):
            if not (self.workdir / name).exists():
                raise ValueError(
                    f"A run that goes on needs its files. Received: {self.workdir}, which has "
                    f"finished epochs and no {name}. Choose another workdir, or delete that one "
                    "to start over."
                )
        best = self.workdir / records.BEST
        if not _is_whole(best):
            raise ValueError(
                "A run that goes on needs its best model. "
                f"Received: {best}, which is damaged. Put a copy of it there, choose another "
                "workdir, or delete that one to start over."
            )

    def _check_best(self, model):
        best = self.workdir / records.BEST
        with zipfile.ZipFile(best) as archive, archive.open("model.weights.h5") as file:
            there = _shapes(file)
        with tempfile.TemporaryDirectory() as folder:
            # The same writer gives the same names, whatever else was made in the process.
            model.save_weights(f"{folder}/model.weights.h5")
            here = _shapes(f"{folder}/model.weights.h5")
        if there != here:
            name = next(x for x in [*there, *here] if there.get(x) != here.get(x))
            raise ValueError(
                f"A run that goes on needs its best model. Received: {best}, which is another "
                f"model: {name} has the shape {there.get(name)} in it and {here.get(name)} in "
                "this one. Put the run's own there, choose another workdir, or delete that one to "
                "start over; nothing was changed."
            )

    @property
    def stopped(self) -> bool:
        """Whether its patience has run out: then nothing is left to train.

        As of `restore`; on the first host also as of the last epoch.
        """
        waited = (self._state or {}).get("waited", 0)
        return self._patience is not None and waited >= self._patience

    def callbacks(self, tensorboard: bool = False) -> list[keras.callbacks.Callback]:
        """Returns the callbacks for one call of `fit`, in the order in which they must run.

        Put callbacks of your own before them: what they change is then in the backup.

        Args:
            tensorboard: bool, default False. Whether `tensorboard/` is written as well.

        Returns:
            List of `keras.callbacks.Callback`. `fit` raises from them RuntimeError where the loss
            or a weight is NaN (status "failed"; the files stay at the last good epoch), ValueError
            where `monitor` is not among the metrics, `mode` is "auto" and Keras does not know the
            metric's, or `initial_epoch` is not what `restore` returned, or the run has stopped,
            OSError where the folder is full, RuntimeError where a later `Run` took the folder over.

        Raises:
            ImportError: `tensorboard` is asked for, and it or TensorFlow, which writes for it, is
                not installed.
            NotADirectoryError: a file is where its logs go.
            RuntimeError: `restore` was not called.
            TypeError: `tensorboard` is no bool.
        """
        tensorboard = checks.flag("tensorboard", tensorboard)
        if self._state is None:
            raise RuntimeError(
                "`restore` must be called before `callbacks`. Received: a run not restored yet. "
                "Write `initial_epoch = run.restore(model)` first, for a new run too."
            )
        stop = StopAtNaN(self.record["monitor"], self._fail)
        early = [] if self._patience is None else [StopEarly(lambda: self.stopped)]
        if not hosts.is_first():
            return [stop, *early]
        best = BestCheckpoint(
            self.workdir / records.BEST, self.record["monitor"], self.mode, self._state["best"]
        )
        board = []
        if tensorboard:
            # Which writes for it, on every backend.
            checks.package("tensorflow", "`tensorboard=True`", "tensorflow")
            checks.package("tensorboard", "`tensorboard=True`", "plots")
            logs = self.workdir / "tensorboard"
            if os.path.lexists(logs) and not logs.is_dir():
                message = f"{logs} must be a folder. Received: a file or a link to nothing. "
                raise NotADirectoryError(errno.ENOTDIR, f"{message}Move it away")
            board = [keras.callbacks.TensorBoard(logs)]
        hold = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self._hold())
        draws = []
        if keras.backend.backend() == "torch":
            draws = [keras.callbacks.LambdaCallback(on_train_batch_begin=self._begin_batch)]
        return [
            hold,
            *draws,
            AverageReplicas(),
            stop,
            *board,
            best,
            EpochRecorder(best, self._begin_epoch, self._end_epoch),
            *early,
        ]

    def finish(self, metrics: Mapping | None = None) -> None:
        """Writes the final record, and leaves the folder to other processes.

        Args:
            metrics: dict of str to number, or to what else JSON can hold, default None. Results
                beyond the history, e.g. on the test set.

        Raises:
            TypeError: `metrics` is no dict, or JSON cannot hold it.
            ValueError: it holds a NaN or an infinity. Nothing was written in either case.
            RuntimeError: a later `Run` took the folder over.
            OSError: the folder cannot be written or is full.
        """
        metrics = _as_json("metrics", {} if metrics is None else metrics)
        self.record = hosts.from_first(lambda: self._finished(metrics))

    def _finished(self, metrics):
        self._hold()
        end = self.record["end"] or records.now()
        self.record.update(
            status="finished", reason=None, config=self._config, metrics=metrics, end=end
        )
        records.write(self.workdir, self.record)
        self._lock.release()
        return self.record

    def _new_record(self, config, monitor):
        return {
            "name": self.workdir.resolve().name,
            "status": "created",
            "reason": None,
            "config": config,
            "monitor": monitor,
            "environment": environment(ignored=self._ignored),
            "start": records.now(),
            "end": None,
            "seconds_per_epoch": [],
            "history": {},
            "metrics": {},
        }

    def _begin_epoch(self, epoch):
        self._hold()
        done = len(self._state["history"])
        if epoch != done:
            raise ValueError(
                "`fit` must go on where the run is. "
                f"Received: epoch {epoch} (from 0) of a run with {done} finished epochs. "
                "Give `fit` the `initial_epoch` that `run.restore(model)` returned."
            )
        if self.stopped:
            raise ValueError(
                "`fit` must not go on where a run has stopped. Received: a run whose "
                f"{self.record['monitor']} was not better for {self._patience} epochs. Ask "
                "`run.stopped` before `fit`, or make a new run of more patience."
            )
        now = {
            "status": "running",
            "config": self._config,
            "environment": self._environment,
        }
        if any(self.record[key] != value for key, value in now.items()):
            self.record.update(now, reason=None, end=None, metrics={})
            records.write(self.workdir, self.record)
        # Not in `restore`: where the model is new, `fit` draws before it begins.
        backup.set_generators(self._state.get("generators"))

    def _begin_batch(self, batch, logs=None):
        # A loader draws when it is made: anew for each epoch, or, with `steps_per_epoch`, once for
        # all of them, and once more where a run goes on.
        if batch == 0:
            backup.set_generators(self._state.get("generators"))

    def _end_epoch(self, model, logs, best, seconds):
        row = {name: keras.ops.convert_to_numpy(value).tolist() for name, value in logs.items()}
        best = None if best is None else float(best)
        # What patience counts from; the best only gets better.
        mark = self._state.get("mark", self._state["best"])
        if best is None or mark is None:
            is_better = best != mark
        else:
            is_better = abs(best - mark) > self._min_delta
        self._state = {
            "history": [*self._state["history"], row],
            "seconds": [*self._state["seconds"], round(seconds, 3)],
            "best": best,
            "mark": best if is_better else mark,
            "waited": 0 if is_better else self._state.get("waited", 0) + 1,
            "generators": backup.generators(),
        }
        backup.save(self.workdir / records.BACKUP, model, self._state)
        self._show()

    def _show(self):
        """Brings history.csv and run.json to the backup's state, which alone is what resumes."""
        rows = self._state["history"]
        with files.replacing(self.workdir / records.HISTORY) as temporary:
            # Keras' own writer, so that the columns are the ones its users know.
            writer = keras.callbacks.CSVLogger(temporary)
            writer.on_train_begin()
            for epoch, row in enumerate(rows):
                writer.on_epoch_end(epoch, row)
            writer.on_train_end()
        names = dict.fromkeys(name for row in rows for name in row)
        self.record["history"] = {name: [row.get(name) for row in rows] for name in names}
        self.record["seconds_per_epoch"] = self._state["seconds"]
        records.write(self.workdir, self.record)
        return self.record

    def _fail(self, reason):
        """Records a failure, which all hosts see alike, and returns the error to raise."""
        done = len(self._state["history"])
        kept = "No epoch was finished, so nothing is kept"
        if done:
            kept = f"{records.BACKUP} keeps epoch {done}, the last good one, and {records.BEST} "
            kept += f"the best one, in {self.workdir}"
        if hosts.is_first():
            self._hold()
            self.record.update(status="failed", reason=reason, end=records.now())
            records.write(self.workdir, self.record)
            self._lock.release()
        return RuntimeError(
            f"The training must stay finite. Received: {reason}. {kept}. "
            "Look for NaN in the data, lower the learning rate or clip the gradients; "
            "a run started again goes on after the last good epoch."
        )


def _as_json(name, value):
    """Returns a dict as a file of JSON gives it back; raises TypeError or ValueError."""
    checks.mapping(name, value)
    try:
        return json.loads(json.dumps(dict(value), allow_nan=False, default=_as_numbers))
    except RecursionError as error:
        raise ValueError(f"`{name}` must be less nested. Received: {error}") from error
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"`{name}` must be a dict that JSON can hold, of finite numbers. "
            f"Received: {name}={value!r} ({error})"
        ) from error


def _as_numbers(value):
    if not hasattr(value, "dtype"):
        raise TypeError(f"{type(value).__name__} is no JSON")
    return np.asarray(checks.as_numpy(value)).tolist()


def _is_state(state):
    """Whether a backup's state is what `_end_epoch` makes."""
    number = (int, float)
    return (
        isinstance(state, dict)
        and isinstance(state.get("history"), list)
        and all(isinstance(row, dict) for row in state["history"])
        and all(
            isinstance(value, (*number, list)) for row in state["history"] for value in row.values()
        )
        and isinstance(state.get("seconds"), list)
        and len(state["seconds"]) == len(state["history"]) > 0
        and all(isinstance(seconds, number) for seconds in state["seconds"])
        and "best" in state
        and isinstance(state["best"], (*number, type(None)))
        and isinstance(state.get("mark"), (*number, type(None)))
        # Runs of 0.2.0 have neither.
        and isinstance(state.get("generators", []), list)
        and isinstance(state.get("waited", 0), int)
    )


def _shapes(file):
    """Returns by its place the shape of each array in a file of weights, but the optimizer's."""
    found = {}
    with h5py.File(file) as weights:
        weights.visititems(lambda name, entry: found.update({name: getattr(entry, "shape", None)}))
    return {name: shape for name, shape in found.items() if name.split("/")[0] != "optimizer"}


def _is_whole(path):
    """Whether a .keras file has its parts, each with the bytes that were written."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = ("config.json", "metadata.json", "model.weights.h5")
            return all(archive.getinfo(x).file_size for x in parts) and archive.testzip() is None
    except Exception:  # zipfile and zlib raise many kinds over a damaged file.
        return False
