"""The tiny model and data that the tests of keras_fmm.training train."""

import contextlib
import resource

import keras
import numpy as np

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")
SEED = {"seed": 0}


def make_model(optimizer="adam", units=4, run_eagerly=True, seed=None):
    """Batch norm and dropout: all the state a run has beyond its weights.

    Eagerly, as its few steps take far less time than to trace one; `killed_run`, two replicas and
    NaN in the data are trained in graphs.
    """
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=seed),
            keras.layers.Dense(2, dtype="float32", activation="softmax"),
        ]
    )
    model.compile(
        optimizer,
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        run_eagerly=run_eagerly,
    )
    return model


def fit(model, run, epochs, x=X, y=Y, before=(), **kwargs):
    """Restores and trains; batches of 8 in the order of the data, so that every epoch is alike."""
    first = run.restore(model)
    return model.fit(
        x,
        y,
        batch_size=8,
        shuffle=False,
        initial_epoch=first,
        epochs=epochs,
        callbacks=[*before, *run.callbacks()],
        verbose=0,
        **kwargs,
    )


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in variables]


def assert_same_state(model, other):
    for ours, theirs in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Call(keras.callbacks.Callback):
    """Calls a function at the end of one epoch, before the run's own callbacks."""

    def __init__(self, epoch, function):
        super().__init__()
        self.epoch, self.function = epoch, function

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self.function()


def limit_files(size):
    """Lets no file grow beyond `size` bytes, as on a full disk."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


@contextlib.contextmanager
def unlimited_after():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
