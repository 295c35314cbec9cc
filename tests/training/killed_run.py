"""A small training run for test_resume.py that kills itself at a given moment."""

import os
import signal
import sys

import keras
import numpy as np

from keras_fmm import training

CONFIG = {"epochs": 5, "seed": 7}
SAMPLES, BATCH = 32, 8


class Kill(keras.callbacks.Callback):
    """Sends SIGKILL to this process: nothing of it runs after that, no `finally` either."""

    def __init__(self, epoch, where):
        super().__init__()
        self.epoch, self.where = epoch, where
        self.armed = False
        sys.addaudithook(self.watch)

    def on_epoch_begin(self, epoch, logs=None):
        self.current = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.current, batch, self.where) == (self.epoch, 1, "batch"):
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_end(self, epoch, logs=None):
        self.armed = epoch == self.epoch

    def watch(self, event, arguments):
        if self.armed and event == "open" and str(arguments[0]).endswith(f"/{self.where}"):
            os.kill(os.getpid(), signal.SIGKILL)


def make_model():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(8)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.ReLU()(x))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 20)
    model.compile(
        keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def batches(x, y, initial_epoch):
    """Batches of all epochs from `initial_epoch` on; epoch e's order is a function of e alone."""
    for epoch in range(initial_epoch, CONFIG["epochs"] + 1):  # Keras refuses an empty generator
        order = np.random.default_rng(epoch).permutation(SAMPLES)
        for chosen in order.reshape(-1, BATCH):
            yield x[chosen], y[chosen]


def main(workdir, out, epoch=None, where=None):
    """Trains and writes all variables to `out`, if it is not killed.

    `where` is "batch" (in the middle of the epoch) or a file of the run's folder (while it is
    written at the epoch's end).
    """
    keras.utils.set_random_seed(CONFIG["seed"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 4)).astype("float32")
    y = (x.sum(axis=1) > 0).astype("int32")
    model = make_model()
    run = training.Run(workdir, CONFIG, monitor="loss")
    first = run.restore(model)
    model.fit(
        batches(x, y, first),
        steps_per_epoch=SAMPLES // BATCH,
        initial_epoch=first,
        epochs=CONFIG["epochs"],
        callbacks=[*([Kill(epoch, where)] if where else []), *run.callbacks()],
        shuffle=False,
        verbose=0,
    )
    run.finish({"test_loss": model.evaluate(x, y, verbose=0)[0]})
    variables = [*model.variables, *model.optimizer.variables]
    np.savez(out, *[keras.ops.convert_to_numpy(variable) for variable in variables])
