"""A recipe's command line, made from its frozen dataclass of settings.

A field is declared as `name: type = setting(default, "what it is", choices=...)`; the types are
str, int, float and bool, each also `| None`. The default `...` makes the flag required. A field of
the type `tuple` is no flag: it takes the words beside the flags, at least one; one of `repeated` is
a flag that may be given several times.
"""

import argparse
import dataclasses
import pathlib
import shlex
import sys
import types
import typing

from keras_fmm import checks, training

# What `keras.utils.set_random_seed` takes.
LARGEST_SEED = 2**32 - 1
# What recipes write themselves, whose changes are none of the code.
WRITTEN = ("recipes/results", "docs")


def setting(default, text, choices=None, minimum=None, maximum=None):
    """Returns a dataclass field with what the command line says of it.

    Args:
        default: the value without the flag; `...` where there is none.
        text: str, one line of help.
        choices: sequence of what is allowed, or None for anything of the type.
        minimum, maximum: the least and the largest number allowed, or None.
    """
    metadata = {"text": text, "choices": choices, "minimum": minimum, "maximum": maximum}
    if default is ...:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def repeated(text):
    """Returns a field of the type `tuple`, of str, whose flag may be given several times."""
    metadata = {"text": f"{text}; may be repeated", "choices": None, "minimum": None}
    return dataclasses.field(default=(), metadata=metadata)


def verbosity():
    """Returns the field `verbose`, of how progress is shown; `shown` gives its value."""
    text = (
        "progress: 0 none, 1 bars, 2 lines, auto: for training bars on a terminal, else lines; "
        "for other work a bar once it has taken five seconds"
    )
    return setting("auto", text, choices=("auto", "0", "1", "2"))


def shown(settings):
    """Returns `settings.verbose` as functions take it: "auto", 0, 1 or 2."""
    return settings.verbose if settings.verbose == "auto" else int(settings.verbose)


def flags(values):
    """Returns the words that give settings on a command line, a list of str.

    Args:
        values: dict by the settings' names of what they are.
    """
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, (tuple, list)):
            words += [word for each in value for word in (f"--{flag}", str(each))]
        elif isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", "none" if value is None else str(value)]
    return words


def changed(settings, values):
    """Returns those of the values that are not the settings' defaults, a dict.

    Args:
        settings: the frozen dataclass, a class.
        values: dict by the settings' names, as results keep them.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    return {name: value for name, value in values.items() if value != defaults.get(name)}


def output_path(settings):
    """Returns where results go: `settings.output`, or for a smoke run of the default under runs/.

    A smoke run must not replace what was measured.
    """
    default = next(f.default for f in dataclasses.fields(settings) if f.name == "output")
    if settings.smoke and settings.output == default:
        return pathlib.Path("runs") / "smoke" / pathlib.Path(default).name
    return pathlib.Path(settings.output)


def start(main, settings, description, arguments=None):
    """Calls `main` with the settings that a command line gives, and returns what it returns.

    An error that says what is wrong with the settings, the data or a folder ends the program with
    one line; the flag `--traceback`, which every recipe has, shows where it came from.
    """
    parsed, traceback = parse(settings, description, arguments)
    try:
        return main(parsed)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        if traceback:
            raise
        text = f"error: {checks.printable(str(error))}\n(--traceback shows where it came from)"
        training.hosts.stop(text, error)
    except KeyboardInterrupt:
        sys.exit("stopped")


def parse(settings, description, arguments=None):
    """Returns the settings that a command line gives; ends the program where it is wrong.

    Args:
        settings: the frozen dataclass, a class.
        description: str, the recipe's docstring, for `--help`.
        arguments: list of str, or None for the command line.

    Returns:
        An instance of `settings`, and whether a traceback is asked for.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags = []
    for field in dataclasses.fields(settings):
        kind, optional = _kind(settings, field)
        text = field.metadata["text"]
        if field.metadata["choices"] is not None:
            text += f": {_listed(field.metadata['choices'])}"
        if kind is tuple and field.default is dataclasses.MISSING:
            parser.add_argument(
                field.name,
                nargs="+",
                type=_reader(str, False, field.metadata["choices"]),
                metavar=field.name.upper(),
                help=text,
            )
            continue
        flag = "--" + field.name.replace("_", "-")
        flags.append(flag)
        required = field.default is dataclasses.MISSING
        text += "" if required else f" (default: {_text(field.default)})"
        if kind is tuple:
            # A first one replaces the default, which argparse would add to.
            reader = _reader(str, False, None)
            parser.add_argument(flag, action="append", type=reader, default=None, help=text)
        elif kind is bool:
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=field.default, help=text)
        else:
            bounds = (field.metadata[name] for name in ("choices", "minimum", "maximum"))
            reader = _reader(kind, optional, *bounds)
            parser.add_argument(
                flag,
                type=reader,
                default=field.default,
                required=required,
                help=text,
                metavar=kind.__name__,
            )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    values, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}. The flags are {' '.join(flags)}.")
    values = vars(values)
    traceback = values.pop("traceback")
    tuples = {x.name for x in dataclasses.fields(settings) if _kind(settings, x)[0] is tuple}
    values = {k: tuple(v or ()) if k in tuples else v for k, v in values.items()}
    return settings(**values), traceback


def _kind(settings, field):
    """Returns the type of a field and whether None is allowed too."""
    hint = typing.get_type_hints(settings)[field.name]
    if isinstance(hint, types.UnionType):
        (kind,) = set(typing.get_args(hint)) - {type(None)}
        return kind, True
    return hint, False


def _text(value):
    return "none" if value in (None, ()) else str(value)


def _listed(choices):
    # As they are typed, should there be a comma in one.
    return ", ".join(shlex.quote(_text(choice)) for choice in choices)


def _reader(kind, optional, choices, minimum=None, maximum=None):
    """Returns a function that makes a value of a flag's text, or says why it cannot be one."""

    def read(text):
        # Where a folder or a name may be left out, nothing would be taken for that.
        if not text.strip():
            raise argparse.ArgumentTypeError("must not be empty")
        value = None if optional and text.lower() == "none" else kind(text)
        if choices is not None and value not in choices:
            raise argparse.ArgumentTypeError(f"must be one of {_listed(choices)}. Received: {text}")
        # Not `value < minimum`: a NaN must fail too.
        if minimum is not None and value is not None and not value >= minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}. Received: {text}")
        if maximum is not None and value is not None and not value <= maximum:
            raise argparse.ArgumentTypeError(f"must be at most {maximum}. Received: {text}")
        return value

    # argparse names the type in "invalid int value: ...".
    read.__name__ = kind.__name__
    return read
