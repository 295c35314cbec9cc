"""Old names of modules, commands and functions, which warn and lead to the new ones."""

import importlib
import importlib.machinery
import sys
import warnings

_UNTIL = "the old name works until version 0.2"


def names(module, moved, where):
    """Returns the `__getattr__` of a module that functions have left.

    Args:
        module: str, the module's name.
        moved: dict by the functions' names of the modules that have them, which are imported when
            a name is first asked for.
        where: str, what their users do from now on; a sentence.

    Example:

    >>> getattr_of_module = names("geometry", {"sqrt": "math"}, "Write `math.sqrt`.")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     found = getattr_of_module("sqrt")
    >>> found(9.0), str(caught[0].message)
    (3.0, '`geometry.sqrt` leaves the package; the old name works until version 0.2. \
Write `math.sqrt`.')
    """

    def __getattr__(name):
        if name not in moved:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        message = f"`{module}.{name}` leaves the package; {_UNTIL}. {where}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(moved[name]), name)

    return __getattr__


def modules(moves):
    """Lets modules be imported, and run by `python -m`, under their old names too.

    The old name gives the very module of the new one. Calling it again changes nothing.

    Args:
        moves: dict by old name of new names, full ones; their packages exist.
    """
    finder = _Moved(moves)
    if finder not in sys.meta_path:
        sys.meta_path.append(finder)


def moved(old, new, stacklevel=2):
    """Returns the module `new`, and warns whoever asks for it as `old`.

    Args:
        old, new: str, full names.
        stacklevel: int, default 2. Whose line the warning names, as of `warnings.warn` in the
            caller of this.
    """
    warnings.warn(f"`{old}` is now `{new}`; {_UNTIL}.", DeprecationWarning, stacklevel + 1)
    return importlib.import_module(new)


class _Moved:
    """Finds modules under old names, and loads those of the new ones."""

    def __init__(self, moves):
        self._moves = dict(moves)

    def __eq__(self, other):
        return isinstance(other, _Moved) and self._moves == other._moves

    __hash__ = None

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self._moves:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=fullname)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        old, new = module.__name__, self._moves[module.__name__]
        # The import goes on with what stands here.
        sys.modules[old] = moved(old, new)

    def get_code(self, fullname):
        """Returns what `python -m` runs. It warns as `__main__`, whose warnings Python shows."""
        new = self._moves[fullname]
        message = f"`python -m {fullname}` is now `python -m {new}`; {_UNTIL}."
        lines = (
            "import runpy, warnings",
            f"warnings.warn({message!r}, DeprecationWarning)",
            f"runpy.run_module({new!r}, run_name='__main__', alter_sys=True)",
        )
        return compile("\n".join(lines), fullname, "exec")
