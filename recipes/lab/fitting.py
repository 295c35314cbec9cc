"""The one training loop: a network, the folder of its run, and data in one of two forms.

A form of data says how labels are given, and what `model.fit` is to be called with from an epoch
on: `trials.Arrays` (arrays, on any backend) and `train.Pipelines` (tf.data, several replicas).
"""

import sys
import typing

import keras

from keras_fmm import progress, training


class Data(typing.Protocol):
    """What a form of data has.

    Attributes:
        loss: str, of labels as this form gives them.
        accuracy: class of the metric for them.
    """

    loss: str
    accuracy: type

    def arguments(self, initial_epoch):
        """Returns the arguments of `model.fit` that bring data, from an epoch on, a dict.

        What an epoch shows must follow from its number alone, so that a stopped run ends as one
        that was not.
        """


def compiled(
    model,
    data,
    learning_rate,
    momentum,
    weight_decay=None,
    run_eagerly=False,
    slow=(),
    factor=1.0,
    clip=None,
):
    """Compiles a classifier for SGD, and returns it.

    Args:
        model: `keras.Model` of softmax outputs.
        data: the class of a form of data.
        learning_rate: float, or a schedule of Keras.
        momentum: float.
        weight_decay: float, decoupled; None without.
        run_eagerly: bool, as of `model.compile`.
        slow, factor: variables that learn at a part of the rate, and which part.
        clip: float, the norm to which all gradients together are shortened; None without.
    """
    optimizer = keras.optimizers.SGD(
        learning_rate, momentum, weight_decay=weight_decay, global_clipnorm=clip
    )
    if slow:
        training.slow_down(optimizer, slow, factor)
    model.compile(
        optimizer,
        data.loss,
        # Weighted, for data whose last batch is filled up with examples that do not count.
        weighted_metrics=[data.accuracy("accuracy")],
        run_eagerly=run_eagerly,
    )
    # With all its variables made, the metric's too, a training step is traced once, not twice.
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, run, data, epochs, tensorboard=False, verbose="auto"):
    """Trains from the run's last finished epoch on.

    Args:
        model: `keras.Model`, compiled.
        run: `training.Run`.
        data: a form of data.
        epochs: int, how many there shall be in the end.
        tensorboard: bool, whether logs for TensorBoard are written.
        verbose: 0 (silent), 1 (bars), 2 (a line an epoch) or "auto": bars on a terminal,
            else lines.

    Raises:
        ValueError: the run has more epochs already.
        RuntimeError: the loss or a weight was not finite; the run's status is then "failed".
    """
    initial_epoch = run.restore(model)
    if initial_epoch > epochs:
        raise ValueError(
            "`epochs` must not be fewer than the run already has. Received: "
            f"epochs={epochs} for {run.workdir}, which has {initial_epoch}. Move that folder away "
            "to train anew."
        )
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    if run.stopped:
        if verbose:
            print_stopped(run)
        return
    if initial_epoch == epochs:
        if verbose:
            print(f"{run.workdir} has its {epochs} epochs already.", flush=True)
        return
    if verbose:
        print(f"{run.workdir}: from epoch {initial_epoch} to {epochs}", flush=True)
    model.fit(
        **data.arguments(initial_epoch),
        initial_epoch=initial_epoch,
        epochs=epochs,
        # The data shuffle themselves, by the epoch's number.
        shuffle=False,
        callbacks=run.callbacks(tensorboard=tensorboard),
        verbose=verbose,
    )
    if run.stopped and verbose:
        print_stopped(run)


def shows_progress(examples, batch_size, verbose):
    """Returns a callback that shows how far `evaluate` or `predict` is; Keras' own bar is not late.

    Args:
        examples, batch_size: ints.
        verbose: as of `progress.Progress`.
    """
    bar = progress.Progress(-(-examples // batch_size), verbose, "batch")
    return keras.callbacks.LambdaCallback(
        on_test_batch_end=lambda batch, logs: bar.add(1),
        on_predict_batch_end=lambda batch, logs: bar.add(1),
    )


def print_stopped(run):
    """Says that a run has ended by its patience."""
    monitor = run.record["monitor"]
    history = run.record["history"]
    print(
        f"{run.workdir} stopped after {len(history[monitor])} epochs: {monitor} had not been "
        f"better than {max(history[monitor]):.4f} for as long as `patience` says.",
        flush=True,
    )
