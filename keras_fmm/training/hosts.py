"""Several hosts that train one model together, on JAX: how they start, share work and stop."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import keras
import numpy as np

from keras_fmm import checks

LOST = 75  # the exit status where another host was lost: EX_TEMPFAIL, "try again"
_LOST_ERRORS = re.compile(r"gloo|nccl|coordination|by peer|heartbeat|unavailable:", re.IGNORECASE)
_FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")


def start(
    count: int | None = None,
    index: int | None = None,
    coordinator: str | None = None,
    timeout: int = 60,
    start_timeout: int = 300,
) -> None:
    """Makes this process one of the hosts that train together; all call it with the same `count`.

    It must come before anything is computed on JAX. `training.strategy()` then spans the devices of
    all hosts, and a `training.Run` writes on the first host alone.

    The work goes on in a child of this process, and this one waits for it: JAX aborts a process
    that has lost another, without Python's having a say. It says then that a host was lost, and
    ends with status 75 (`hosts.LOST`), within `timeout` seconds. A child whose parent was killed
    ends with it. An uncaught error on one host ends that host at once, and the others as if it had
    been lost; so does Ctrl-C. `sys.exit` does not: JAX then waits for the other hosts, for
    `timeout` seconds, and the status may be 75. Use `hosts.stop`, or raise.

    Hosts that do not find each other, a scheduler that is not found and JAX that has computed
    already end the process, with status 1 or 75 and what to do: they show in the child, where
    nothing can catch them.

    Args:
        count: int, at least 1, default None. How many hosts; 1 does nothing. Without `count`,
            `index` and `coordinator` JAX asks the scheduler (Slurm, Open MPI, Cloud TPU;
            Kubernetes with `jax[k8s]`).
        index: int below `count`, default None. Which host this is; the first one, 0, writes.
        coordinator: str, default None. Address and port of the first host, "10.0.0.1:1234". None
            takes the environment variable JAX_COORDINATOR_ADDRESS.
        timeout: int, at least 5, default 60. Seconds without a sign of life after which a host is
            lost.
        start_timeout: int, at least 1, default 300. Seconds to wait for all hosts at the start.

    Raises:
        RuntimeError: Keras runs on another backend than JAX, JAX is too old, the hosts have
            started already, or this is not the main thread.
        TypeError: `count`, `index`, `timeout` or `start_timeout` is no integer, or `coordinator`
            no str.
        ValueError: one is out of range, or only some of `count`, `index`, `coordinator` are given.

    Example:

    >>> from keras_fmm.training import hosts
    >>> hosts.start(count=1)
    >>> hosts.count(), hosts.index(), hosts.is_first()
    (1, 0, True)
    """
    timeout = checks.positive_integer("timeout", timeout)
    if timeout < 5:
        raise ValueError(f"`timeout` must be at least 5 seconds. Received: timeout={timeout}")
    start_timeout = checks.positive_integer("start_timeout", start_timeout)
    if count is not None and checks.positive_integer("count", count) == 1:
        _check_place(count, index, coordinator)
        return
    backend = keras.backend.backend()
    if backend != "jax":
        raise RuntimeError(
            "Several hosts need Keras' JAX backend. "
            f"Received: count={count} on the {backend} backend. {_INSTEAD[backend]}"
        )
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    _check_place(count, index, coordinator)
    import jax

    if not checks.takes(jax.distributed.initialize, heartbeat_timeout_seconds=timeout):
        raise RuntimeError(
            "Several hosts need JAX 0.7 or newer, which can tell soon that one is lost. "
            f"Received: JAX {jax.__version__}. Install a newer one."
        )
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "The hosts start in the program's main thread, which takes its signals. Received: the "
            f"thread {threading.current_thread().name!r}. Call `hosts.start` at the program's "
            "beginning."
        )
    if _is_started():
        raise RuntimeError(
            "The hosts start once in a process. Received: JAX' distributed runtime, which runs "
            "already. Call `hosts.start` alone, at the program's beginning."
        )
    missing = (
        f"All hosts of a training must start within `start_timeout`={start_timeout} seconds, and "
        f"find the first. Received: count={count}, index={index}, coordinator={coordinator!r}; "
        "what JAX says is above. Give all hosts one count and one coordinator that they can reach, "
        "and each its own index."
    )
    channel = _go_on_in_child(missing) if hasattr(os, "fork") else None
    sys.excepthook = lambda kind, error, trace: stop(
        "".join(traceback.format_exception(kind, error, trace)).rstrip(), error
    )
    at_sigterm = signal.getsignal(signal.SIGTERM)
    # A CPU has no collectives of its own; "gloo" is what newer versions of JAX choose themselves.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            initialization_timeout=start_timeout,
            heartbeat_timeout_seconds=timeout,
            # Hosts that end well end together; one that does not is not waited for for long.
            shutdown_timeout_seconds=timeout,
        )
    except Exception as error:  # ValueError, RuntimeError and subclasses of JAX and gRPC.
        if count is None:
            missing = (
                "A scheduler must say which hosts there are: Slurm, Open MPI, or Kubernetes with "
                "`jax[k8s]`. Received: none that JAX finds. Give `count`, `index` and "
                "`coordinator`."
            )
        stop(f"{error}\nerror: {missing}", error, alone=False)
    # JAX has taken SIGTERM, to tell of a preemption, and would go on training.
    signal.signal(signal.SIGTERM, at_sigterm or signal.SIG_DFL)
    if channel is not None:
        channel.send(b"1")
    _meet()


def _meet():
    """Makes the connections that training needs, while all hosts are here.

    Gloo makes them at the first collective of a group of devices, and gives a late host 30 seconds.
    """
    import jax

    mesh = jax.sharding.Mesh(jax.devices(), "all")
    split, whole = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(axis)) for axis in ("all", None)
    )
    ones = np.ones(jax.device_count(), "float32")
    ones = jax.make_array_from_callback(ones.shape, split, lambda part: ones[part])
    jax.jit(lambda x: x.sum(keepdims=True), out_shardings=whole)(ones).block_until_ready()
    check_same({})  # between hosts, the first device of each, the second ...


_INSTEAD = {
    "tensorflow": (
        "On TensorFlow, Keras 3 has no training on several hosts: its `fit` fails under "
        "`tf.distribute.MultiWorkerMirroredStrategy`. `training.strategy()` gives the "
        "`MirroredStrategy` over the GPUs of one host; for several set KERAS_BACKEND=jax."
    ),
    "torch": (
        "On PyTorch, Keras' `fit` trains on one device; a loop of your own may wrap the model in "
        "`torch.nn.parallel.DistributedDataParallel`. Or set KERAS_BACKEND=jax."
    ),
}


def _check_place(count, index, coordinator):
    given = [count is not None, index is not None, coordinator is not None]
    if count != 1 and any(given[:2]) and not all(given):
        raise ValueError(
            "`count`, `index` and `coordinator` must be given together, or none of them where a "
            f"scheduler says. Received: count={count}, index={index}, coordinator={coordinator!r}"
        )
    if index is not None:
        checks.integer("index", index, f"an integer from 0 to {count - 1}", below=count)
    if count is None or coordinator is None:
        return
    if not isinstance(coordinator, str):
        raise TypeError(f"`coordinator` must be a str. Received: coordinator={coordinator!r}")
    port = re.fullmatch(r".+:(\d{1,5})", coordinator)
    if not port or not 0 < int(port[1]) < 2**16:
        raise ValueError(
            "`coordinator` must be an address and a port from 1 to 65535, as in '10.0.0.1:1234'. "
            f"Received: coordinator={coordinator!r}"
        )


def count() -> int:
    """Returns how many hosts train together, an int."""
    return _jax().process_count() if _is_started() else 1


def index() -> int:
    """Returns which of the hosts this one is, an int from 0."""
    return _jax().process_index() if _is_started() else 0


def is_first() -> bool:
    """Whether this host is the first, which alone writes."""
    return index() == 0


def from_first(function: Callable[[], Any]) -> Any:
    """Calls a function on the first host alone, and returns what it returned on all hosts.

    The others wait for it. Every host must get here.

    Args:
        function: callable without arguments, whose result JSON can hold. It comes back as JSON has
            it, a tuple as a list, on the first host too.

    Raises:
        TypeError: JSON cannot hold the result (on the first host).
        RuntimeError: on the other hosts, where the function raised on the first, which raises what
            it did.

    Example:

    >>> from keras_fmm.training import hosts
    >>> hosts.from_first(lambda: {"epoch": 3})
    {'epoch': 3}
    """
    if count() == 1:
        return json.loads(json.dumps(function()))
    answer, failure = "{}", None
    if is_first():
        try:
            with alone():
                answer = json.dumps({"value": function()})
        except Exception as error:
            failure = error
            answer = json.dumps({"error": f"{type(error).__name__}: {error}"})
    content = np.frombuffer(answer.encode(), "uint8")
    (size,) = broadcast([np.array(len(content), "int32")])
    (content,) = broadcast([content if is_first() else np.zeros(size, "uint8")])
    if failure is not None:
        raise failure
    answer = json.loads(content.tobytes())
    if "error" in answer:
        raise RuntimeError(
            f"The first host must be able to go on. Received: {answer['error']} (on that host)"
        )
    return answer["value"]


def check_same(settings: Mapping[str, Any]) -> None:
    """Raises on all hosts where one has other settings. Every host must get here.

    Args:
        settings: dict by str of what JSON can hold; other values count as their text.

    Raises:
        ValueError: the settings of two hosts differ.

    Example:

    >>> from keras_fmm.training import hosts
    >>> hosts.check_same({"epochs": 3})
    """
    if count() == 1:
        return
    from jax.experimental import multihost_utils

    content = np.frombuffer(json.dumps(settings, default=str).encode(), "uint8")
    sizes = multihost_utils.process_allgather(np.array(content.size, "int32"))
    content = np.pad(content, (0, max(sizes) - content.size))
    rows = multihost_utils.process_allgather(content)
    every = [
        json.loads(row[:size].tobytes()) for row, size in zip(np.asarray(rows), sizes, strict=True)
    ]
    here = every[index()]
    # The first host has itself as the first: it names the first one that differs.
    other = next((number for number, there in enumerate(every) if there != here), None)
    if other is None:
        return
    there = every[other]
    names = [x for x in {**here, **there} if x not in here or x not in there or here[x] != there[x]]
    told = ", ".join(
        f"{name}={here.get(name)!r} here, {there.get(name)!r} on host {other}" for name in names
    )
    raise ValueError(
        f"All hosts must be given the same settings. Received: {told}. "
        "Give all hosts the same command, each with its own number."
    )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A scope without a distribution: what is computed in it takes no other host.

    Keras makes variables where one does not expect it, as in saving a model; under a distribution
    over several hosts each is an operation of all of them.
    """
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def broadcast(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Returns the first host's arrays on all hosts.

    Args:
        arrays: list of NumPy arrays; on the other hosts of the same shapes and dtypes.
    """
    if count() == 1:
        return arrays
    from jax.experimental import multihost_utils

    # As bytes: what JAX sums must keep the sign of a zero, and types it does not know.
    parts = [np.frombuffer(array.tobytes(), "uint8") for array in arrays]
    parts = [np.asarray(part) for part in multihost_utils.broadcast_one_to_all(parts)]
    return [
        np.frombuffer(part.tobytes(), array.dtype).reshape(array.shape)
        for part, array in zip(parts, arrays, strict=True)
    ]


def stop(text: str, error: BaseException | None = None, alone: bool = True) -> NoReturn:
    """Ends this process with a message on stderr, without waiting for other hosts.

    Args:
        text: str.
        error: the exception behind it, or None. Whether it tells of a lost host says the status.
        alone: bool, whether a single host ends as by `sys.exit`.
    """
    if alone and count() == 1:
        sys.exit(text)
    print(text, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python's own end would wait for the other hosts, that wait for this one.
    os._exit(LOST if _tells_of_a_lost_host(error) else 1)


def _tells_of_a_lost_host(error):
    # What its runtime says came as another error than JAX's own too, behind the status: "UNKNOWN:
    # Gloo AllGather failed". Errors of others may name a file that is called so.
    text = str(error)
    is_of_jax = isinstance(error, _jax().errors.JaxRuntimeError) or (
        isinstance(error, (RuntimeError, ValueError)) and re.match("[A-Z_]+: ", text)
    )
    return bool(is_of_jax and _LOST_ERRORS.search(text))


def _go_on_in_child(missing):
    """Returns in a child a socket, to which that sends a byte once the hosts have found each other.

    This process stays behind, and ends as the child does; `missing` says what to do where a child
    ends before.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ours, childs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        # Its own group: a terminal's interrupt comes once, from the parent.
        os.setpgid(0, 0)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # A KeyboardInterrupt would wait for the other hosts, or be lost in JAX' callbacks.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        threading.Thread(target=_end_with_parent, args=(childs,), daemon=True).start()
        return childs
    childs.close()
    for name in _FORWARDED:
        signal.signal(getattr(signal, name), lambda number, frame: os.kill(child, number))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status in (LOST, -signal.SIGABRT):
        ours.setblocking(False)
        try:
            found = ours.recv(1)
        except BlockingIOError:  # A process that the child left behind has the other end.
            found = b""
        print(f"error: {_GONE if found else missing}", file=sys.stderr)
        status = LOST
    elif status < 0:
        print(f"stopped by {signal.Signals(-status).name}", file=sys.stderr)
        status = 128 - status
    sys.stderr.flush()
    os._exit(status)


_GONE = (
    "A host of this training was lost, and this one cannot go on without it. Its own output says "
    "why; what JAX says is above. Give all hosts the same command again, as many as before or "
    "another number: the run goes on after its last finished epoch."
)


def _end_with_parent(channel):
    with contextlib.suppress(OSError):  # a reset, where the parent has not read all
        channel.recv(1)  # returns where the parent has ended
    os._exit(1)


def _is_started():
    if keras.backend.backend() != "jax":
        return False
    # JAX 0.5 has no such function, and is too old for `start`.
    return getattr(_jax().distributed, "is_initialized", bool)()


def _jax():
    import jax

    return jax
