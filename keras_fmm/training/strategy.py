"""Which devices train, and what batch and learning rate that means."""

import contextlib
import dataclasses
import functools
import itertools
from typing import Protocol

import keras

from keras_fmm import checks
from keras_fmm.training import hosts

_KINDS = ("auto", "mirrored", "default")
_REFERENCE_BATCH = 256  # Goyal et al. 2017 state their learning rate for this batch


class Strategy(Protocol):
    """What `strategy` returns, of a class of the backend's."""

    def scope(self): ...


def strategy(kind: str = "auto", model_devices: int = 1) -> Strategy:
    """Returns which devices train: what a model is built, compiled and trained under.

    On TensorFlow a `tf.distribute.Strategy`, on JAX a distribution of `keras.distribution`, over
    the devices of all hosts (`training.hosts`), on PyTorch one device; all have a `scope()`. On JAX
    the scope must be open while `fit` and `evaluate` run too, and batch norm sees the whole batch,
    as on one device.

    Args:
        kind: str, default "auto". "auto": the GPUs (on JAX: or TPUs, or CPU devices) where there
            are two or more, else the one device that there is, so that the same code runs there.
            "mirrored": all of them, in TensorFlow all logical CPUs where there is no GPU.
            "default": one device; in TensorFlow its own strategy.
        model_devices: int, at least 1, default 1. Each convolution's kernel is cut by its filters
            among so many devices of one host, and the other devices divide the batch, for networks
            too wide for one device. Their number must be a multiple of it. On JAX alone. Cut are
            the kernels of layers whose name ends in "conv", a number after it or not, and of those
            that Keras names, "conv2d" and "conv2d_1", where they are two-dimensional; all others
            are whole on each device. It must divide their filters: else building the model raises
            a ValueError that names the layer.

    Returns:
        `tf.distribute.Strategy`, `keras.distribution.DataParallel` or `ModelParallel`, the same one
        at each call; it starts the backend's runtime, so set logical devices before. On JAX it is
        not "auto_shard_dataset": every host gives its share of each batch (`data`'s `batches` with
        `share`). On PyTorch an object for the one device on which `fit` trains.

    Raises:
        TypeError: `model_devices` is no integer.
        ValueError: `kind` is not one of these, `model_devices` does not divide the devices, or they
            are on several hosts.
        RuntimeError: "default" or `model_devices` on several hosts, `model_devices` on TensorFlow,
            or "mirrored" or `model_devices` on PyTorch.

    Example:

    >>> from keras_fmm import training
    >>> strategy = training.strategy("default")
    >>> with strategy.scope():
    ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> training.replicas(strategy)
    1
    """
    checks.one_of("kind", kind, _KINDS)
    model_devices = checks.positive_integer("model_devices", model_devices)
    backend = keras.backend.backend()
    if backend == "jax":
        return _distribution(kind, model_devices)
    if backend != "tensorflow":
        if kind == "mirrored" or model_devices > 1:
            raise RuntimeError(
                "Several devices need Keras' TensorFlow or JAX backend. "
                f"Received: kind={kind!r}, model_devices={model_devices} on the {backend} backend, "
                "where `fit` trains on one device. Set KERAS_BACKEND to jax or tensorflow."
            )
        return OneDevice()
    if model_devices > 1:
        raise RuntimeError(
            "Kernels are cut among devices on Keras' JAX backend alone. "
            f"Received: model_devices={model_devices} on the tensorflow backend. "
            "Set KERAS_BACKEND=jax."
        )
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if kind == "mirrored" or (kind == "auto" and len(gpus) > 1):
        return _mirrored(tuple(device.name for device in devices), bool(gpus))
    return tf.distribute.get_strategy()


class OneDevice:
    """What Keras trains on where it has no strategy, as on PyTorch."""

    num_model_replicas = 1

    def scope(self):
        return contextlib.nullcontext()


@functools.cache
def _distribution(kind, model_devices):
    devices = keras.distribution.list_devices()
    if hosts.count() > 1 and (kind == "default" or model_devices > 1):
        raise RuntimeError(
            "Several hosts divide the batch among all their devices. Received: "
            f"kind={kind!r}, model_devices={model_devices} on {hosts.count()} hosts. "
            "Leave both out, or train on one host."
        )
    if kind == "default":
        devices = devices[:1]
    if model_devices == 1:
        return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    checks.divides("model_devices", model_devices, len(devices), "the number of devices")
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // model_devices, model_devices), ("batch", "model"), devices
    )
    layout = keras.distribution.LayoutMap(mesh)
    # The backbones name them so, or Keras. An attention has no wide kernel, a depthwise one nothing
    # to cut.
    layout[r".*(?<!depthwise_)conv(\d*|2d(_\d+)?)/kernel"] = (None, None, None, "model")
    return _CutKernels(layout_map=layout, batch_dim_name="batch", auto_shard_dataset=False)


class _CutKernels(keras.distribution.ModelParallel):
    """Cuts only what is a kernel of a two-dimensional convolution, whatever is named like one."""

    def get_variable_layout(self, variable):
        layout = super().get_variable_layout(variable)
        shape = variable.shape
        if len(layout.axes) != len(shape):
            return keras.distribution.TensorLayout([None] * len(shape), self.device_mesh)
        parts = self.device_mesh.shape[1]
        if layout.axes[-1:] == ("model",) and shape[-1] % parts:
            raise ValueError(
                "`model_devices` must divide the filters of every convolution. Received: "
                f"model_devices={parts} and {variable.path}, which has {shape[-1]} filters."
            )
        return layout


@functools.cache
def _mirrored(names, are_gpus):
    # Two strategies over the same devices use the same keys for their collective operations, and
    # then fail or hang; so there is one for each process and, where nothing is lost by it, one
    # without such operations (a strategy made elsewhere would collide too).
    import tensorflow as tf

    operations = None if are_gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(names, operations)


def replicas(strategy: Strategy | None = None) -> int:
    """Returns how many copies of the model train side by side, an int.

    Args:
        strategy: what `training.strategy` returns, default None. None is what is current: the
            strategy or distribution whose scope is open, else one device.

    Example:

    >>> from keras_fmm import training
    >>> training.replicas()
    1
    """
    if keras.backend.backend() != "tensorflow":
        if strategy is None:
            strategy = keras.distribution.distribution()
        if strategy is None:
            return 1
        kinds = (keras.distribution.DataParallel, keras.distribution.ModelParallel, OneDevice)
        if not isinstance(strategy, kinds):
            raise TypeError(
                "`strategy` must be a `keras.distribution` distribution or None. "
                f"Received: strategy={strategy!r}. `training.strategy()` gives one."
            )
        return strategy.num_model_replicas
    import tensorflow as tf

    if strategy is None:
        strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.Strategy):
        raise TypeError(
            "`strategy` must be a `tf.distribute.Strategy` or None. "
            f"Received: strategy={strategy!r}. `training.strategy()` gives one."
        )
    return strategy.num_replicas_in_sync


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """What `batch_plan` returns.

    Args:
        global_batch_size: int. Images a step; what the data is batched by.
        per_replica_batch_size: int. Images a step on each replica; batch norm sees so many.
        learning_rate: float. What the optimizer gets.
    """

    global_batch_size: int
    per_replica_batch_size: int
    learning_rate: float


def batch_plan(
    strategy: Strategy | None,
    batch_size: int,
    learning_rate: float,
    scale_learning_rate: bool = False,
) -> BatchPlan:
    """Says what a batch and a learning rate mean on the replicas there are.

    `batch_size` is the global batch: Keras divides it among the replicas and averages the loss
    over all of it, so that the number of replicas changes neither the steps of an epoch nor the
    learning rate. Batch the data with `drop_remainder=True`: a last, smaller batch weighs each of
    its images by its replica's share.

    Args:
        strategy: what `training.strategy` returns, or None. None as for `replicas`.
        batch_size: int, at least 1. The global batch; a multiple of the number of replicas.
        learning_rate: float above 0. For this batch, or for one of 256.
        scale_learning_rate: bool, default False. True reads `learning_rate` as the one for a batch
            of 256 and scales it in proportion to the batch, `learning_rate * batch_size / 256`
            (the linear scaling rule; it holds up to a batch of about 8,000, and with a warmup).

    Returns:
        `BatchPlan`.

    Raises:
        TypeError: `batch_size` is not an integer, `learning_rate` not a number, or
            `scale_learning_rate` not a bool.
        ValueError: `batch_size` or `learning_rate` is out of range, or the replicas do not divide
            the batch.

    Example:

    >>> from keras_fmm import training
    >>> training.batch_plan(None, batch_size=64, learning_rate=0.1)
    BatchPlan(global_batch_size=64, per_replica_batch_size=64, learning_rate=0.1)
    >>> training.batch_plan(None, 512, 0.1, scale_learning_rate=True).learning_rate
    0.2

    Reference:
        Goyal et al., Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour, 2017.
    """
    scale_learning_rate = checks.flag("scale_learning_rate", scale_learning_rate)
    batch_size = _global_batch(batch_size, replicas(strategy))
    learning_rate = checks.number("learning_rate", learning_rate)
    if learning_rate <= 0:
        raise ValueError(
            "`learning_rate` must be a finite number above 0. "
            f"Received: learning_rate={learning_rate}"
        )
    if scale_learning_rate:
        learning_rate = learning_rate * batch_size / _REFERENCE_BATCH
    return BatchPlan(batch_size, batch_size // replicas(strategy), learning_rate)


def _global_batch(batch_size, count):
    batch_size = checks.positive_integer("batch_size", batch_size)
    if batch_size % count:
        raise ValueError(
            f"`batch_size`, the global batch, must be a multiple of the {count} replicas. "
            f"Received: batch_size={batch_size}. "
            f"Choose {batch_size // count * count or count} or {(batch_size // count + 1) * count}."
        )
    return batch_size


def evaluation_batch_size(strategy: Strategy | None, batch_size: int, images: int) -> int:
    """Returns a batch size at which no replica is left without an image in the last batch.

    TensorFlow hands a last, smaller batch out in equal shares, rounded up, so that some replicas
    may get none; on a CPU its convolutions then fail. Training drops such a batch; an evaluation
    must see every image.

    Args:
        strategy: what `training.strategy` returns, or None. None as for `replicas`.
        batch_size: int, at least 1. The global batch that is wanted; a multiple of the replicas.
        images: int, at least 1. How many images are evaluated.

    Returns:
        The nearest such batch below `batch_size`, or else above; `batch_size` on one replica.

    Raises:
        TypeError: `batch_size` or `images` is no integer.
        ValueError: either is below 1, or the images are too few for any batch to do so.

    Example:

    >>> from keras_fmm import training
    >>> training.evaluation_batch_size(None, batch_size=64, images=145)
    64
    """
    count = replicas(strategy)

    batch_size = _global_batch(batch_size, count)
    images = checks.positive_integer("images", images)

    def fills_all(batch):
        last = images % batch
        share = -(-last // count)
        return last == 0 or share * (count - 1) < last

    # All that hold every image are alike.
    below = range(min(batch_size, images // count * count + count), 0, -count)
    above = range(batch_size + count, images + 2 * count, count)
    for batch in itertools.chain([batch_size], below, above):
        if fills_all(batch):
            return batch
    raise ValueError(
        f"Every batch of an evaluation must have an image for each of the {count} replicas. "
        f"Received: images={images}, for which no batch size has. Take a larger split."
    )


def on_cpu():
    """Returns a context in which Keras computes on a CPU of this process.

    `keras.device("cpu")` is on JAX the first of all hosts' devices.
    """
    if keras.backend.backend() != "jax":
        return keras.device("cpu")
    import jax

    try:
        (device, *_) = jax.local_devices(backend="cpu")
    except RuntimeError:  # The user has left out CPUs.
        (device, *_) = jax.local_devices()
    return jax.default_device(device)
