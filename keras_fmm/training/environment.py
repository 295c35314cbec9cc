"""What a run ran on: versions, device, commit."""

import contextlib
import os
import pathlib
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata

import keras
import numpy as np

from keras_fmm import checks, hints
from keras_fmm.training.strategy import Strategy, replicas
from keras_fmm.version import __version__


def environment(strategy: Strategy | None = None, ignored: Sequence[hints.Path] = ()) -> dict:
    """Returns what a result depends on beyond its settings; no path, user or host is in it.

    Args:
        strategy: what `training.strategy` returns, default None. Whose replicas are counted; None
            as for `replicas`.
        ignored: sequence of paths, default (). Files and folders whose changes do not count for
            "git", such as where the results themselves go.

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
        "git": _git([pathlib.Path(path).resolve() for path in checks.listed("ignored", ignored)]),
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


def _git(ignored):
    # No tag, the commit itself; and what differs from it.
    commit = _of_git("describe", "--always", "--abbrev=40", "--exclude=*")
    top = _of_git("rev-parse", "--show-toplevel")
    changed = _of_git("diff", "--name-only", "--no-renames", "-z", "HEAD")
    if None in (commit, top, changed):
        return None
    paths = [pathlib.Path(top, name).resolve() for name in changed.split("\0") if name]
    counted = [path for path in paths if not any(path.is_relative_to(one) for one in ignored)]
    return {"commit": commit, "dirty": bool(counted)}


def _of_git(*arguments):
    """Returns what git prints, or None where it fails."""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip()
