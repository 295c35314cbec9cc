"""What `python -m recipes.NAME` does before the recipe is imported: quick help, no foreign logs."""

import atexit
import importlib.machinery
import os
import re
import sys
import threading
import types

# What takes seconds to import, and what that imports.
HEAVY = ("ai_edge_litert", "h5py", "jax", "keras", "keras_fmm", "matplotlib", "numpy", "scipy")
HEAVY += ("tensorflow", "torch")
# A line of a log as absl, TensorFlow or LiteRT writes it. What ends the process (F) is none.
LOG = re.compile(
    rb"[IWE]\d{4} [\d:.]+ +\d+ |\d{4}-\d\d-\d\d [\d:.]+: [IWE] |(INFO|WARNING|VERBOSE): "
    # What TensorFlow's converter says of each file.
    rb"|fully_quantize: \d"
)


def words():
    """Returns the recipe that Python was started to run, `recipes.NAME`, and its words.

    Both are empty where Python runs something else.
    """
    given = sys.orig_argv[1:]
    if "-m" in given:
        name, *rest = given[given.index("-m") + 1 :]
        if name.startswith("recipes."):
            return name, rest
    return "", []


def asks_for_help(given):
    """Whether argparse will print the help and end: a word behind `--` is no flag."""
    flags = given[: given.index("--")] if "--" in given else given
    return "-h" in flags or "--help" in flags


class StandIn(types.ModuleType):
    """Stands for a module, or for anything in one, while a recipe is imported for its help alone.

    Whatever is done with it while modules are made gives it again; a class that inherits from it
    inherits nothing.
    """

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}")

    def __call__(self, *args, **kwargs):
        return self

    def __mro_entries__(self, bases):
        return ()

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0

    def __str__(self):
        return self.__name__.rpartition(".")[2].upper()

    def _same(self, *args):
        return self

    __getitem__ = __or__ = __ror__ = __mod__ = __mul__ = __rmul__ = __truediv__ = _same


class StandIns:
    """Finds a stand-in for each module of `HEAVY`; what has been imported stays."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in HEAVY:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


def drop_logs():
    """Lets lines of C++ libraries' logs not reach the terminal; all else does.

    What Python itself writes goes there as before. `TF_CPP_MIN_LOG_LEVEL` below 3 shows the logs:
    TensorFlow looks at it late, and LiteRT not at all.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    python = os.fdopen(os.dup(terminal), "w", buffering=1, errors="backslashreplace")
    source, sink = os.pipe()
    os.dup2(sink, 2)
    os.close(sink)
    sys.stderr = python

    def forward():
        with os.fdopen(source, "rb") as lines, os.fdopen(os.dup(terminal), "wb", 0) as out:
            for line in lines:
                if not LOG.match(line):
                    out.write(line)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()

    def stop():
        os.dup2(terminal, 2)
        # A process that this one started may still hold the other end.
        thread.join(1)

    atexit.register(stop)
