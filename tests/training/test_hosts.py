"""Several hosts: two processes of recipes.train on one machine, on JAX, one of them killed."""

import concurrent.futures
import csv
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_fmm import training

pytest.importorskip("jax")

ROOT = pathlib.Path(__file__).parents[2]
DEADLINE = 600
FOREVER = 1000


class Hosts:
    """Processes of recipes.train on one dataset, which end with the test at the latest."""

    def __init__(self, folder):
        self.folder = folder
        self._all = []

    def start(self, workdir, epochs, count):
        """Starts a run on `count` hosts and returns their processes."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        flags = f"--dataset digits --batch-size 400 --epochs {epochs} --workdir {workdir}"
        where = f"--hosts {count} --coordinator localhost:{port} --host-timeout 30 --host"
        started = []
        for host in range(count):
            path = self.folder / f"log{len(self._all)}"
            command = [sys.executable, "-m", "recipes.train", *flags.split()]
            command += [*where.split(), str(host)] if count > 1 else []
            environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
            with open(path, "w") as log:
                process = subprocess.Popen(
                    command, cwd=self.folder, env=environment, stdout=log, stderr=log
                )
            process.log = path
            started.append(process)
            self._all.append(process)
        return started

    def end(self):
        for process in self._all:
            process.kill()
            process.wait()


@pytest.fixture
def started(tmp_path):
    hosts = Hosts(tmp_path)
    yield hosts
    hosts.end()


def history(workdir):
    """Returns the finished epochs of a run, an array of a row each."""
    try:
        rows = list(csv.reader((workdir / "history.csv").read_text().splitlines()))
    except FileNotFoundError:
        return np.empty((0, 0))
    return np.array(rows[1:], float)


def wait_for_epoch(workdir, after, processes):
    """Waits until a run has more epochs than `after`."""
    end = time.monotonic() + DEADLINE
    while len(history(workdir)) <= after:
        for process in processes:
            assert process.poll() is None, process.log.read_text()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="hosts are watched by a parent, which is forked")
def test_a_killed_coordinator_stops_the_other_and_one_host_goes_on(started, tmp_path):
    workdir, whole = tmp_path / "killed", tmp_path / "whole"
    first, second = started.start(workdir, FOREVER, 2)
    wait_for_epoch(workdir, 0, [first, second])
    first.kill()
    assert second.wait(DEADLINE) == training.hosts.LOST
    told = second.log.read_text()
    assert "A host of this training was lost" in told.splitlines()[-1], told
    epochs = len(history(workdir)) + 1
    # The folder is free: the child of the first is gone with it.
    one = started.start(workdir, epochs, 1) + started.start(whole, epochs, 1)
    for process in one:
        assert process.wait(DEADLINE) == 0, process.log.read_text()
    assert history(workdir).shape == (epochs, 5)
    # Beside a run on one host that nobody killed: sums of another order, no image more or less.
    np.testing.assert_allclose(history(workdir), history(whole), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (ValueError("UNKNOWN: Gloo AllGather failed: Read error: Connection reset by peer"), True),
        (RuntimeError("UNAVAILABLE: the coordination service"), True),
        (ValueError("INVALID_ARGUMENT: shapes must be equal"), False),
        (ValueError("`path` must be a folder. Received: 'gloo'. UNKNOWN: Gloo"), False),
        (OSError("UNKNOWN: Gloo"), False),
        (None, False),
    ],
)
def test_which_errors_tell_of_a_lost_host(error, is_lost):
    assert training.hosts._tells_of_a_lost_host(error) == is_lost


CUT = """
import keras, numpy as np
from keras_fmm import models, training
images = np.random.default_rng(0).random((8, 16, 16, 3), "float32")
labels = np.arange(8)
told = []
for given in ({"kind": "default"}, {}, {"model_devices": 2}):
    strategy = training.strategy(**given)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = models.ToyCNN(input_shape=(16, 16, 3), classes=8, attention="cbam")
        model.compile(keras.optimizers.SGD(0.1, 0.9), "sparse_categorical_crossentropy")
        loss = model.fit(images, labels, epochs=2, batch_size=8, verbose=0).history["loss"]
    told.append(loss)
    whole = model.get_layer("stage2_conv").kernel
    part = whole.value.addressable_shards[0].data
    print(training.replicas(strategy), whole.shape[-1] // part.shape[-1])
np.testing.assert_allclose(told[1:], [told[0]] * 2, rtol=1e-4)
"""


@pytest.mark.slow
def test_devices_share_the_batch_and_kernels():
    flags = "--xla_force_host_platform_device_count=4"
    environment = {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", CUT], env={**os.environ, **environment}, capture_output=True
    )
    assert told.returncode == 0, told.stderr.decode()
    assert told.stdout.split() == [b"1", b"1", b"4", b"1", b"2", b"2"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"count": 0}, ValueError, "`count` must be a positive integer"),
        ({"count": 1, "index": 3}, ValueError, "an integer from 0 to 0. Received: index=3"),
        ({"count": 2, "timeout": 4}, ValueError, "at least 5 seconds. Received: timeout=4"),
        ({"count": 2, "start_timeout": 1.5}, TypeError, "`start_timeout` must be a positive"),
    ],
)
def test_hosts_refuse_wrong_numbers(given, error, message):
    with pytest.raises(error, match=re.escape(message)):
        training.hosts.start(**given)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has several hosts")
def test_other_backends_say_what_they_have_instead():
    told = {"tensorflow": "MirroredStrategy", "torch": "DistributedDataParallel"}
    with pytest.raises(RuntimeError, match=told[keras.backend.backend()]):
        training.hosts.start(2, 0, "localhost:1234")


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="another error comes first")
@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ((2, None, None), ValueError, "must be given together"),
        ((None, 1, "localhost:1234"), ValueError, "must be given together"),
        ((2, 2, "localhost:1234"), ValueError, "an integer from 0 to 1. Received: index=2"),
        ((2, -1, "localhost:1234"), ValueError, "an integer from 0 to 1. Received: index=-1"),
        ((2, 0, "localhost"), ValueError, "an address and a port"),
        ((2, 0, "localhost:0"), ValueError, "a port from 1 to 65535"),
        ((2, 0, "localhost:65536"), ValueError, "a port from 1 to 65535"),
        ((2, 0, 1234), TypeError, "`coordinator` must be a str"),
    ],
)
def test_hosts_refuse_half_a_place(place, error, message, monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    with pytest.raises(error, match=message):
        training.hosts.start(*place)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="another error comes first")
def test_hosts_start_in_the_main_thread():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        started = pool.submit(training.hosts.start, 2, 0, "localhost:1234")
    with pytest.raises(RuntimeError, match="main thread"):
        started.result()


def test_one_host_is_the_first_and_calls_by_itself():
    training.hosts.start(count=1)
    assert (training.hosts.count(), training.hosts.index()) == (1, 0)
    training.hosts.check_same({"epochs": 3})
    # As on several, whose results travel as JSON.
    assert training.hosts.from_first(lambda: (1, 2)) == [1, 2]
    with pytest.raises(TypeError, match="JSON"):
        training.hosts.from_first(set)
    with pytest.raises(OSError, match="full"):
        training.hosts.from_first(_full)
    with pytest.raises(SystemExit, match="error: it"):
        training.hosts.stop("error: it")


def _full():
    raise OSError("full")
