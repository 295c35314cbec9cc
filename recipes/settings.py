"""A recipe's command line, made from its frozen dataclass of settings.

A field is declared as `name: type = setting(default, "what it is", choices=...)`; the types are
str, int, float and bool, each also `| None`.
"""

import argparse
import dataclasses
import types
import typing


def setting(default, text, choices=None, minimum=None):
    """Returns a dataclass field with what the command line says of it.

    Args:
        default: the value without the flag.
        text: str, one line of help.
        choices: sequence of what is allowed, or None for anything of the type.
        minimum: the least number allowed, or None.
    """
    metadata = {"text": text, "choices": choices, "minimum": minimum}
    return dataclasses.field(default=default, metadata=metadata)


def parse(settings, description, arguments=None):
    """Returns the settings that a command line gives; ends the program where it is wrong.

    Args:
        settings: the frozen dataclass, a class.
        description: str, the recipe's docstring, for `--help`.
        arguments: list of str, or None for the command line.

    Returns:
        An instance of `settings`.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags = []
    for field in dataclasses.fields(settings):
        flag = "--" + field.name.replace("_", "-")
        flags.append(flag)
        kind, optional = _kind(settings, field)
        text = field.metadata["text"]
        if field.metadata["choices"] is not None:
            text += f": {_listed(field.metadata['choices'])}"
        text += f" (default: {_shown(field.default)})"
        if kind is bool:
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=field.default, help=text)
        else:
            reader = _reader(kind, optional, field.metadata["choices"], field.metadata["minimum"])
            parser.add_argument(
                flag, type=reader, default=field.default, help=text, metavar=kind.__name__
            )
    values, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}. The flags are {' '.join(flags)}.")
    return settings(**vars(values))


def _kind(settings, field):
    """Returns the type of a field and whether None is allowed too."""
    hint = typing.get_type_hints(settings)[field.name]
    if isinstance(hint, types.UnionType):
        (kind,) = set(typing.get_args(hint)) - {type(None)}
        return kind, True
    return hint, False


def _shown(value):
    return "none" if value is None else str(value)


def _listed(choices):
    return ", ".join(map(_shown, choices))


def _reader(kind, optional, choices, minimum):
    """Returns a function that makes a value of a flag's text, or says why it cannot be one."""

    def read(text):
        value = None if optional and text.lower() == "none" else kind(text)
        if choices is not None and value not in choices:
            raise argparse.ArgumentTypeError(f"must be one of {_listed(choices)}. Received: {text}")
        # Not `value < minimum`: a NaN must fail too.
        if minimum is not None and value is not None and not value >= minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}. Received: {text}")
        return value

    # argparse names the type in "invalid int value: ...".
    read.__name__ = kind.__name__
    return read
