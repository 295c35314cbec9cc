"""What a recipe does as a command: its help imports nothing heavy, foreign logs are not shown."""

import importlib
import json
import pathlib
import subprocess
import sys

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("some recipes need TensorFlow", allow_module_level=True)

from keras_fmm import export, layers, training
from keras_fmm.layers import multiplicative_residual
from recipes import command
from recipes.lab import names, settings

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "recipes").rglob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)
# As Python would be if it had been started for a recipe's help, for all of them in one process.
HELP = """
import sys
sys.orig_argv = ["python", "-m", "recipes.train", "--smoke", "--help"]
sys.argv = ["recipe"]
import importlib, json, io, contextlib
from recipes import command
from recipes.lab import settings
told = {}
for name in json.loads(sys.stdin.read()):
    recipe = importlib.import_module(name)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        settings.start(recipe.main, recipe.Settings, recipe.__doc__, ["--help"])
    told[name] = out.getvalue()
heavy = [
    name for name, module in sys.modules.items()
    if name.partition(".")[0] in command.HEAVY and not isinstance(module, command.StandIn)
]
print(json.dumps([told, heavy]))
"""


def test_help_imports_nothing_heavy_and_says_what_the_recipe_says(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["recipe"])
    done = subprocess.run(
        [sys.executable, "-c", HELP],
        input=json.dumps(RECIPES),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told, heavy = json.loads(done.stdout)
    assert not heavy
    for name in RECIPES:
        recipe = importlib.import_module(name)
        with pytest.raises(SystemExit):
            settings.parse(recipe.Settings, recipe.__doc__, ["--help"])
        # The one default that follows from the backend.
        expected = capsys.readouterr().out.replace("accelerator_tensorflow", "accelerator_BACKEND")
        assert "".join(told[name].split()) == "".join(expected.split()), name


def test_names_are_the_package_s():
    assert tuple(layers.GATES) == names.GATES
    assert tuple(layers.CONVOLUTIONS) == names.CONVOLUTIONS
    assert tuple(export.QUANTIZATIONS) == names.QUANTIZATIONS
    assert training.SCHEDULES == names.SCHEDULES
    assert multiplicative_residual.FORMS == names.FORMS
    assert multiplicative_residual._OF_DEPTH == names.FORMS_OF_DEPTH


def test_a_word_behind_two_dashes_is_a_file_s_name():
    assert command.asks_for_help(["--dataset", "a", "-h"])
    assert not command.asks_for_help(["--model", "a.tflite", "--", "--help"])


@pytest.mark.parametrize(
    ("level", "shown"), [("3", ["before", "F0000 00:00:1.2 77 a.cc:1] died", "end"]), ("0", None)]
)
def test_lines_of_logs_are_dropped_and_no_others(level, shown):
    lines = [
        "before",
        "I0000 00:00:1795753721.326616   25329 port.cc:153] oneDNN",
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "2026-11-27 04:30:00.123: W tensorflow/core/a.cc:1] old",
        "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
        "fully_quantize: 0, inference_type: 6",
        "F0000 00:00:1.2 77 a.cc:1] died",
        "end",
    ]
    script = (
        "import sys; sys.orig_argv = ['python', '-m', 'recipes.train', '--help']\n"
        f"import os; os.environ['TF_CPP_MIN_LOG_LEVEL'] = {level!r}\n"
        "import recipes\n"
        # As a C library writes, in one piece and then in Python's way.
        f"os.write(2, {chr(10).join(lines[:-1])!r}.encode() + b'\\n')\n"
        "sys.exit('end')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 1
    # Python's own line may come first.
    assert sorted(done.stderr.splitlines()) == sorted(shown or lines)
