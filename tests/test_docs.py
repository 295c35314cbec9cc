"""What is written for people: examples run, tables and lists are whole, links lead somewhere."""

import dataclasses
import doctest
import importlib
import inspect
import json
import pathlib
import re
import shlex
import statistics

import keras
import kubernetes_validate
import pytest

import keras_fmm
from docs import examples, pictures, tables
from keras_fmm import progress

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PORTABLE = ("checks", "files", "graph", "ops", "layers", "models", "analysis")
# Longer than two seconds; what they show is tried in parts by the tests of what they use.
SLOW_PAGES = (
    "detect",
    "detectors",
    "explain",
    "export",
    "own_images",
    "self_attention",
    "start",
    "train",
    "upgrade",
    "use_a_layer",
)
PARTS = [name for name in keras_fmm.__all__ if not name.startswith("_")]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES += [path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]


def modules():
    for path in sorted((ROOT / "keras_fmm").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if ">>>" in path.read_text(encoding="utf-8"):
            yield name


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of_docstrings(name, monkeypatch):
    # A slow machine would print a bar where an example prints none.
    monkeypatch.setattr(progress, "_SECONDS", float("inf"))
    if keras.backend.backend() != "tensorflow" and name.split(".")[1] not in PORTABLE:
        pytest.skip("needs TensorFlow")
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted
    assert not failed


def page_cases():
    for path in examples.pages():
        marks = [pytest.mark.slow] if path.stem in SLOW_PAGES else []
        yield pytest.param(path, marks=marks, id=path.stem)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="pages are for TensorFlow")
@pytest.mark.parametrize("path", list(page_cases()))
def test_code_of_pages(path, tmp_path, capsys):
    examples.run(path, tmp_path)
    for name in examples.shown(path):
        assert (tmp_path / name).exists() or name == pictures.DIAGRAM, (
            f"{path.name} shows {name}, which its code does not write."
        )
    told = capsys.readouterr().out
    # The pages say what they print in the comment behind it.
    code = "".join(code for _, code in examples.blocks(path))
    promised = re.findall(r"^print\(.*\)  # (True|\([\d, ]+\))", code, re.MULTILINE)
    for line in promised:
        assert line in told.splitlines(), f"{path.name} promises {line}, and prints\n{told}"
    if "export.compare" in code:
        rows = [line.split() for line in told.splitlines()]
        differences = [float(row[2]) for row in rows if row[:1] in (["tflite"], ["saved_model"])]
        assert differences
        # Rounding in floats; in int8 a step of 1 / 256 each time.
        bound = 0.05 if "int8" in code else 1e-4
        assert all(difference < bound for difference in differences)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="recipes export")
def test_commands_of_detect(tmp_path, monkeypatch, capsys):
    from recipes import detect
    from recipes.lab import settings

    path = DOCS / "guides" / "detect.md"
    text, _, _ = path.read_text(encoding="utf-8").partition("## By hand")
    monkeypatch.chdir(tmp_path)
    # The images' block alone.
    exec(examples.blocks(path)[0][1], {})
    commands = re.findall(r"^python -m recipes.detect (.*)$", text, re.MULTILINE)
    assert len(commands) == 2
    for flags in commands:
        settings.start(detect.main, detect.Settings, detect.__doc__, shlex.split(flags))
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scores["images"] == 24
    assert list(scores["by_class"]) == ["square"]
    written = {path.name for path in pathlib.Path("runs/shapes").iterdir()}
    assert {"detector.tflite", "saved_model", "network_int8.tflite", "gallery.png"} <= written


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="recipes export")
def test_commands_of_own_images(tmp_path, monkeypatch, capsys):
    from recipes.lab import settings

    path = DOCS / "guides" / "own_images.md"
    examples.run(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    # What follows needs ImageNet's weights.
    text, _, _ = path.read_text().partition("## From a network of your own")
    commands = re.findall(r"^python -m (recipes\S+) (.*)$", text, re.MULTILINE)
    assert [name for name, _ in commands] == [
        "recipes.train",
        "recipes.export_model",
        "recipes.classify",
    ]
    for name, flags in commands:
        recipe = importlib.import_module(name)
        settings.start(recipe.main, recipe.Settings, recipe.__doc__, shlex.split(flags))
    # The images are as dark or light as their class says.
    assert capsys.readouterr().out.splitlines()[-1].startswith("photographs/dog/3.jpg: dog ")

    publish = importlib.import_module("recipes.publish")
    given = publish.Settings("runs/photographs", "mine", dataset="./photographs")
    with pytest.raises(ValueError, match="Give e.g. --dataset ./photographs"):
        publish.main(dataclasses.replace(given, dataset=None))
    entry = publish.main(given)
    trained, published = (shlex.split(one)[3:] for one in entry["command"].split(" && "))
    train = importlib.import_module("recipes.train")
    again, _ = settings.parse(train.Settings, "", trained)
    wanted, _ = settings.parse(train.Settings, "", shlex.split(commands[0][1]))
    assert again == wanted
    assert settings.parse(publish.Settings, "", published)[0] == given
    (tmp_path / "photographs" / "dog" / "0.jpg").unlink()
    with pytest.raises(ValueError, match="must hold the images of the run, unchanged"):
        publish.main(dataclasses.replace(given, replace=True))


def test_pictures_are_there_and_small():
    for path in PAGES:
        for name in examples.shown(path):
            size = (pictures.FOLDER / name).stat().st_size
            assert size < 100_000, f"{name} has {size} bytes; draw less with `make pictures`."


@pytest.mark.parametrize("name", tables.TABLES)
def test_tables_of_layers_are_what_the_layers_say(name):
    there, expected = tables.written(name)
    assert there == expected, f"{name} is not what the layers say: run `make tables`."


@pytest.mark.parametrize("part", [*PARTS, "protocols"])
def test_every_public_name_has_a_page(part):
    page = (DOCS / "api" / f"{part}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"autosummary::\n.*?\n\n(.*?)```", page, re.DOTALL)
    listed = " ".join(blocks).split()
    module = importlib.import_module(f"keras_fmm.{part}")
    public = getattr(module, "__all__", None)
    if public is None:
        public = [name for name, symbol in vars(module).items() if isinstance(symbol, type)]
    for inner in [getattr(module, name) for name in public]:
        if inspect.ismodule(inner):
            functions = inspect.getmembers(inner, inspect.isfunction)
            public = [*public, *(name for name, _ in functions if name[0] != "_")]
    assert sorted(listed) == sorted(public), (
        f"The lists in docs/api/{part}.md must name each public name once. They differ in "
        f"{sorted({*listed} ^ {*public})}."
    )


def test_reference_lists_every_part():
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8").splitlines()
    missing = {*PARTS, "protocols"} - set(index)
    assert not missing, f"Put {sorted(missing)} into docs/api/index.md."


def test_reproduce_lists_every_recipe():
    guide = (DOCS / "guides" / "reproduce.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"python -m (recipes[.\w]+)", guide))
    there = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "recipes").rglob("*.py")
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    assert listed == there, f"docs/guides/reproduce.md differs in {sorted(listed ^ there)}."


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="recipes export")
def test_commands_of_recipes_have_flags_that_are_there():
    from recipes.lab import settings

    found = set()
    for path in PAGES:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        found |= set(
            re.findall(r"python -m (recipes\.[a-z0-9_.]*[a-z0-9_])( [^`\n]*)?(?=[`\n])", text)
        )
    assert len(found) > 20
    for name, flags in sorted(found):
        if "--help" not in flags:
            # Ends the program, with a usage, where a flag is wrong.
            recipe = importlib.import_module(name)
            settings.parse(recipe.Settings, recipe.__doc__, shlex.split(flags))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path):
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"\w+:", link):
            assert (path.parent / link).exists(), (
                f"{path.name} links to {link}, which is not there."
            )


def test_readme_is_short():
    size = (ROOT / "README.md").stat().st_size
    assert size <= 8192, f"README has {size} bytes; move what a newcomer does not need to a guide."


def test_readme_s_numbers_are_those_measured():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    def results(name):
        return json.loads((ROOT / "recipes" / "results" / f"{name}.json").read_text())

    def stages(name):
        row = results(name)["ratios"]["train"]["auto"].values()
        # Those of the other CPU have no intervals.
        return [ratio[0] if isinstance(ratio, list) else ratio for ratio in row]

    low, high = sorted(
        statistics.geometric_mean(stages(name))
        for name in ("benchmark_aw_conv", "benchmark_aw_conv_intel")
    )
    assert f"**{low:.2f} to {high:.2f} times** as long to train" in readme
    names = ("benchmark_aw_conv_narrow", "benchmark_aw_conv_narrow_intel")
    narrow = max(max(stages(name)) for name in names)
    assert f"up to {narrow:.1f} times in narrow ones" in readme
    trials = results("quantization")["fashion_mnist, 3 epochs"]["trials"]["se_toy_cnn"]
    (trial,) = trials.values()
    bytes_of = {name: row["bytes"] for name, row in trial["files"].items()}
    sizes = [round(bytes_of[name] / 1000) for name in ("float32", "int8")]
    assert f"**from {sizes[0]} to {sizes[1]} kB**" in readme
    assert f"**{100 * trial['files']['int8']['same_class']:.2f} %**" in readme
    found = results("sensitivity")["cifar10, 20 epochs"]["sensitivity"]
    plain, gated = (found[network]["jacobian"]["mean"] for network in ("CNN", "AM"))
    assert f"**{gated / plain:.2f} times** as much" in readme


def manifests():
    """Returns the Kubernetes objects of the guide to several hosts, a list of dicts."""
    yaml = pytest.importorskip("yaml")
    guide = (DOCS / "guides" / "several_hosts.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    return list(yaml.safe_load_all(block))


def test_manifest_of_the_guide_is_what_kubernetes_takes():
    service, job = manifests()
    for item in (service, job):
        kubernetes_validate.validate(item, "1.31", strict=True)
    # What the schema cannot know: the parts mean each other.
    pod = job["spec"]["template"]
    command = pod["spec"]["containers"][0]["command"][-1]
    name, port = job["metadata"]["name"], pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    assert f"--coordinator {name}-0.{service['metadata']['name']}:{port}" in command
    assert f"--hosts {job['spec']['completions']}" in command
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]} == {
        volume["name"] for volume in pod["spec"]["volumes"]
    }


@pytest.mark.parametrize(
    ("place", "value"),
    [(["completionMod"], "Indexed"), (["parallelism"], "two"), (["template", "spec"], {})],
)
def test_a_wrong_manifest_is_refused(place, value):
    job = manifests()[1]
    spec = job["spec"]
    for name in place[:-1]:
        spec = spec[name]
    spec[place[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.31", strict=True)
