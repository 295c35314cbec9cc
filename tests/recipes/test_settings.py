import dataclasses

import pytest

from recipes.settings import parse, setting


@dataclasses.dataclass(frozen=True)
class Settings:
    name: str | None = setting("a", "a name", choices=(None, "a", "b"))
    epochs: int = setting(3, "how many", minimum=1)
    rate: float = setting(0.5, "how fast", minimum=0.0)
    quiet: bool = setting(False, "say less")


def test_defaults_and_flags():
    assert parse(Settings, "", []) == Settings()
    words = ["--name", "none", "--epochs", "7", "--rate", "1e-3", "--quiet"]
    assert parse(Settings, "", words) == Settings(None, 7, 0.001, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--epoch 3", "unknown: --epoch 3. The flags are --name --epochs --rate --quiet."),
        ("--name c", "argument --name: must be one of none, a, b. Received: c"),
        ("--epochs 0", "argument --epochs: must be at least 1. Received: 0"),
        ("--epochs none", "argument --epochs: invalid int value: 'none'"),
        ("--rate nan", "argument --rate: must be at least 0.0. Received: nan"),
        ("--rate -1", "argument --rate: must be at least 0.0. Received: -1"),
    ],
)
def test_refuses(words, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(Settings, "", words.split())
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_the_recipe_and_every_default(capsys):
    with pytest.raises(SystemExit):
        parse(Settings, "Question: why?", ["--help"])
    shown = capsys.readouterr().out
    assert "Question: why?" in shown
    assert "a name: none, a, b (default: a)" in shown
