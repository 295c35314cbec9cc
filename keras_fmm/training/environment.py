"""What a run ran on: versions, device, commit."""

import contextlib
import os
import pathlib
import platform
import subprocess
from importlib import metadata

import keras
import numpy as np

from keras_fmm.training.strategy import Strategy, replicas
from keras_fmm.version import __version__


def environment(strategy: Strategy | None = None) -> dict:
    """Returns what a result depends on beyond its settings; no path, user or host is in it.

    Args:
        strategy: what `training.strategy` returns, default None. Whose replicas are counted; None
            as for `replicas`.

    Returns:
        Dict that JSON can hold. Its keys are "versions" (python, keras, backend, the backend's
        package, numpy, keras_fmm), "device" (kind, "cpu" or "accelerator"; names; of an accelerator
        also platform_version, what the backend tells of CUDA and the like; number of CPU cores of
        this process; replicas), "git" (commit and whether tracked files differ from it, of the
        working directory; None where that is no git checkout).

    Example:

    >>> from keras_fmm import training
    >>> sorted(training.environment())
    ['device', 'git', 'versions']
    >>> training.environment()["device"]["replicas"]
    1
    """
    backend = keras.backend.backend()
    return {
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "backend": backend,
            backend: metadata.version(backend),
            "numpy": np.__version__,
            "keras_fmm": __version__,
        },
        "device": {**_device(backend), "cores": _cores(), "replicas": replicas(strategy)},
        "git": _git(),
    }


def _device(backend):
    names, platform_version = [], None
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        names = [detail.get("device_name", "unknown") for detail in details]
        built = tf.sysconfig.get_build_info()
        platform_version = f"CUDA {built.get('cuda_version')}, cuDNN {built.get('cudnn_version')}"
    elif backend == "jax":
        import jax

        names = [device.device_kind for device in jax.devices() if device.platform != "cpu"]
        platform_version = " ".join(jax.devices()[0].client.platform_version.split())
    elif backend == "torch":
        import torch

        # That on which Keras makes its tensors: it takes one.
        device = keras.ops.zeros(1).device
        if device.type == "cuda":
            names = [torch.cuda.get_device_name(device)]
            platform_version = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        elif device.type != "cpu":
            names = [device.type]
    if names:
        return {"kind": "accelerator", "names": names, "platform_version": platform_version}
    return {"kind": "cpu", "names": [_cpu_name()]}


def _cpu_name():
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cores():
    # A container or `taskset` may leave this process fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _git():
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40"]
    command.append("--exclude=*")  # no tag: the commit itself
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    described = done.stdout.strip()
    return {"commit": described.removesuffix("-dirty"), "dirty": described.endswith("-dirty")}
