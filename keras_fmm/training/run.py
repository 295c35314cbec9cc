"""A training run in a folder: it can be killed at any moment and goes on where it was."""

import json
import pathlib

import keras
import numpy as np

from keras_fmm import checks, files
from keras_fmm.training import backup, records
from keras_fmm.training.callbacks import (
    AverageReplicas,
    BestCheckpoint,
    EpochRecorder,
    StopAtNaN,
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
    seed generators. The state of other callbacks (EarlyStopping's patience) is not kept. One
    process at a time may use a folder.

    Args:
        workdir: str or `os.PathLike`. The folder: missing, empty or this run's.
        config: dict that JSON can hold. The settings that make this run what it is. A folder whose
            run has other settings is refused.
        monitor: str, default "val_accuracy". The metric that chooses `best.keras`; must be there in
            every epoch.
        mode: str, default "auto". "auto" (Keras knows which way its metrics improve), "min" or
            "max".
        resumable: sequence of str, default (). Keys of `config` that may differ from the folder's,
            such as "epochs" to train a finished run for longer.

    Attributes:
        workdir: `pathlib.Path`. The folder.
        record: dict. What `run.json` holds: name, status ("created", "running", "finished" or
            "failed"), reason (of a failure), config, monitor, environment (of the last training),
            start and end (UTC, ISO 8601), seconds_per_epoch, history (a list an epoch for each
            metric), metrics.

    Raises:
        TypeError: JSON cannot hold `config`.
        ValueError: `config` holds a NaN or an infinity; the folder is another run's, or not a
            run's and not empty.
        OSError: the folder cannot be made or written, or is full.

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

    def __init__(self, workdir, config, monitor="val_accuracy", mode="auto", resumable=()):
        try:
            config = json.loads(json.dumps(dict(config), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise type(error)(
                "`config` must be a dict that JSON can hold, of finite numbers. "
                f"Received: config={config!r} ({error})"
            ) from error
        self.workdir = pathlib.Path(workdir)
        self.mode = mode
        self._state = None  # what the backup holds beside the variables; None until `restore`
        record = records.read(self.workdir)
        if record is None or not (record["history"] or (self.workdir / records.BACKUP).exists()):
            # A run that finished no epoch has nothing to lose: it may become another one.
            record = self._new_record(config, monitor)
        there = {**record["config"], "monitor": record["monitor"]}
        here = {**config, "monitor": monitor}
        records.refuse_differences(self.workdir, there, here, resumable)
        self.record = record
        self._config = config  # recorded once something was done under it
        # Now, not after an epoch, is when to learn that the folder cannot be written.
        records.write(self.workdir, self.record)

    def restore(self, model):
        """Puts the last finished epoch back into the model, and says where `fit` starts.

        Args:
            model: `keras.Model`. Built and compiled as the run's was (under the same scope).

        Returns:
            The number of finished epochs, for `fit(initial_epoch=...)`; 0 for a new run.

        Raises:
            ValueError: the model is not built and compiled, a file of the run is missing, or its
                backup is of another model; then nothing was assigned.
        """
        if not (model.built and model.compiled and model.optimizer is not None):
            raise ValueError(
                "`model` must be built and compiled before it is restored. Received: a model with "
                f"built={model.built}, compiled={model.compiled}. Give it an Input or call "
                "`model.build(input_shape)`, then `model.compile(...)`."
            )
        for name in (records.BACKUP, records.BEST) if self.record["history"] else ():
            if not (self.workdir / name).exists():
                raise ValueError(
                    f"A run that goes on needs its files. Received: {self.workdir}, which has "
                    f"finished epochs and no {name}. Choose another workdir, or delete that one "
                    "to start over."
                )
        path = self.workdir / records.BACKUP
        if path.exists():
            self._state = backup.load(path, model)
        else:
            self._state = {"history": [], "seconds": [], "best": None}
        self._environment = environment(getattr(model, "distribute_strategy", None))
        self._show()
        return len(self._state["history"])

    def callbacks(self, tensorboard=False):
        """Returns the callbacks for one call of `fit`, in the order in which they must run.

        Put callbacks of your own before them: what they change is then in the backup.

        Args:
            tensorboard: bool, default False. Whether `tensorboard/` is written as well.

        Returns:
            List of `keras.callbacks.Callback`. `fit` raises from them RuntimeError where the loss
            or a weight is NaN (status "failed"; the files stay at the last good epoch), ValueError
            where `monitor` is not among the metrics or `initial_epoch` is not what `restore`
            returned, OSError where the folder is full.

        Raises:
            ImportError: `tensorboard` is asked for and not installed.
            RuntimeError: `restore` was not called.
            TypeError: `tensorboard` is no bool.
        """
        tensorboard = checks.flag("tensorboard", tensorboard)
        if self._state is None:
            raise RuntimeError(
                "`restore` must be called before `callbacks`. Received: a run not restored yet. "
                "Write `initial_epoch = run.restore(model)` first, for a new run too."
            )
        best = BestCheckpoint(
            self.workdir / records.BEST, self.record["monitor"], self.mode, self._state["best"]
        )
        board = []
        if tensorboard:
            checks.package("tensorboard", "`tensorboard=True`", "plots")
            board = [keras.callbacks.TensorBoard(self.workdir / "tensorboard")]
        stop = StopAtNaN(self.record["monitor"], self._fail)
        return [
            AverageReplicas(),
            stop,
            *board,
            best,
            EpochRecorder(best, self._begin_epoch, self._end_epoch),
        ]

    def finish(self, metrics=None):
        """Writes the final record.

        Args:
            metrics: dict of str to number, default None. Results beyond the history, e.g. on the
                test set.
        """
        metrics = {name: np.asarray(value).tolist() for name, value in (metrics or {}).items()}
        end = self.record["end"] or records.now()
        self.record.update(
            status="finished", reason=None, config=self._config, metrics=metrics, end=end
        )
        records.write(self.workdir, self.record)

    def _new_record(self, config, monitor):
        return {
            "name": self.workdir.resolve().name,
            "status": "created",
            "reason": None,
            "config": config,
            "monitor": monitor,
            "environment": environment(),
            "start": records.now(),
            "end": None,
            "seconds_per_epoch": [],
            "history": {},
            "metrics": {},
        }

    def _begin_epoch(self, epoch):
        done = len(self._state["history"])
        if epoch != done:
            raise ValueError(
                "`fit` must go on where the run is. "
                f"Received: epoch {epoch} (from 0) of a run with {done} finished epochs. "
                "Give `fit` the `initial_epoch` that `run.restore(model)` returned."
            )
        now = {
            "status": "running",
            "config": self._config,
            "environment": self._environment,
        }
        if any(self.record[key] != value for key, value in now.items()):
            self.record.update(now, reason=None, end=None, metrics={})
            records.write(self.workdir, self.record)

    def _end_epoch(self, model, logs, best, seconds):
        row = {name: np.asarray(value).tolist() for name, value in logs.items()}
        self._state = {
            "history": [*self._state["history"], row],
            "seconds": [*self._state["seconds"], round(seconds, 3)],
            "best": None if best is None else float(best),
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

    def _fail(self, reason):
        done = len(self._state["history"])
        kept = "No epoch was finished, so nothing is kept"
        if done:
            kept = f"{records.BACKUP} keeps epoch {done}, the last good one, and {records.BEST} "
            kept += f"the best one, in {self.workdir}"
        self.record.update(status="failed", reason=reason, end=records.now())
        records.write(self.workdir, self.record)
        return RuntimeError(
            f"The training must stay finite. Received: {reason}. {kept}. "
            "Look for NaN in the data, lower the learning rate or clip the gradients; "
            "a run started again goes on after the last good epoch."
        )
