import dataclasses

import pytest

from recipes import classify, train
from recipes.lab.settings import changed, flags, parse, setting, shown, start, verbosity


@dataclasses.dataclass(frozen=True)
class Settings:
    name: str | None = setting("a", "a name", choices=(None, "a", "b"))
    epochs: int = setting(3, "how many", minimum=1)
    rate: float = setting(0.5, "how fast", minimum=0.0)
    quiet: bool = setting(False, "say less")


def test_defaults_and_flags():
    assert parse(Settings, "", []) == (Settings(), False)
    words = ["--name", "none", "--epochs", "7", "--rate", "1e-3", "--quiet"]
    assert parse(Settings, "", words) == (Settings(None, 7, 0.001, True), False)


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


@pytest.mark.parametrize("text", ["", "  "])
def test_refuses_what_is_empty(text, capsys):
    for words in (["--dataset", text], ["--workdir", text], ["--data-dir", text]):
        with pytest.raises(SystemExit):
            parse(train.Settings, "", words)
        assert f"argument {words[0]}: must not be empty" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(classify.Settings, "", ["--model", "a.tflite", "a.png", text])
    assert "argument IMAGES: must not be empty" in capsys.readouterr().err


def test_verbosity_is_what_keras_takes():
    @dataclasses.dataclass(frozen=True)
    class Shown:
        verbose: str = verbosity()

    for words, value in (([], "auto"), (["--verbose", "0"], 0), (["--verbose", "2"], 2)):
        assert shown(parse(Shown, "", words)[0]) == value


def test_flags_give_settings_back():
    given = Settings(None, 7, 0.001, True)
    assert parse(Settings, "", flags(dataclasses.asdict(given)))[0] == given
    # What results keep is told from the defaults; a setting of before is told too.
    kept = {**dataclasses.asdict(Settings(epochs=7)), "older": 1}
    assert changed(Settings, kept) == {"epochs": 7, "older": 1}


def test_help_shows_the_recipe_and_every_default(capsys):
    with pytest.raises(SystemExit):
        parse(Settings, "Question: why?", ["--help"])
    shown = capsys.readouterr().out
    assert "Question: why?" in shown
    assert "a name: none, a, b (default: a)" in shown


@dataclasses.dataclass(frozen=True)
class Required:
    run: str = setting(..., "which run")


def test_a_setting_without_default_is_required(capsys):
    assert parse(Required, "", ["--run", "a"]) == (Required("a"), False)
    with pytest.raises(SystemExit):
        parse(Required, "", [])
    assert "the following arguments are required: --run" in capsys.readouterr().err


def test_an_error_is_one_line_unless_a_traceback_is_asked_for():
    def main(settings):
        raise ValueError(f"`run` must be new. Received: {settings.run}")

    with pytest.raises(SystemExit) as exit_:
        start(main, Required, "", ["--run", "a"])
    assert str(exit_.value).splitlines()[0] == "error: `run` must be new. Received: a"
    with pytest.raises(ValueError, match="must be new"):
        start(main, Required, "", ["--run", "a", "--traceback"])
