"""The folder that `recipes.browser` writes; what the page in it does is in tests/browser."""

import base64
import hashlib
import http.client
import json
import re
import threading

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

from keras_fmm import export, layers
from recipes import browser
from recipes.lab.settings import start


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    inputs = keras.Input((6, 8, 1))
    gate = layers.SpatialAttention(3, name="gate")
    network = keras.Model(inputs, keras.layers.Flatten()(gate(inputs)))
    path = tmp_path_factory.mktemp("browser") / "toy.tflite"
    return export.to_tflite(network, path, input_range=(-1, 1), attention_map="gate", verbose=0)


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """What npm installs, but empty."""
    folder = tmp_path / "npm"
    for name in browser.RUNTIME_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr(browser, "RUNTIME", folder)
    return folder


def run(*arguments):
    return start(browser.main, browser.Settings, "", ["--no-serve", *map(str, arguments)])


def test_the_folder_is_whole_and_served(model, runtime, tmp_path):
    folder = run("--model", model, "--output", tmp_path / "page", "--aspect-ratio", "pad")
    assert (folder / "model.tflite").read_bytes() == model.read_bytes()
    told = json.loads((folder / "model.json").read_text())
    assert told["input"] == {
        "height": 6,
        "width": 8,
        "channels": 1,
        "ranges": [[-1, 1]],
        "scale": None,
        "zero_point": None,
        "fit": "pad",
    }
    assert [output["shape"] for output in told["outputs"]] == [[1, 48], [1, 6, 8, 1]]
    assert (told["class_names"], told["attention_map"]) == (None, "gate")
    wanted = {
        "page.js": "text/javascript",
        f"runtime/{browser.RUNTIME_FILES[2]}": "application/wasm",
    }
    with browser.server_of(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection(*server.server_address, timeout=10)
        for name, kind in wanted.items():
            connection.request("GET", f"/{name}")
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.getheader("Content-Type")) == (200, kind)
        connection.close()
        server.shutdown()
        port = server.server_port
        with pytest.raises(OSError, match=f"`port` must be free.*Received: {port} .*Give another"):
            browser.server_of(folder, port)
    with pytest.raises(OSError, match="Received: 70000"):
        browser.server_of(folder, 70000)


def test_an_earlier_page_is_replaced_and_nothing_else(model, runtime, tmp_path, capsys):
    folder = tmp_path / "page"
    run("--model", model, "--output", folder)
    (folder / "page.js").write_text("old")
    run("--model", model, "--output", folder)
    assert (folder / "page.js").read_text() != "old"
    (folder / "runtime" / "mine.txt").touch()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    (tmp_path / "with_model").mkdir()
    (tmp_path / "with_model" / "model.tflite").write_bytes(b"of the user's")
    for other, held in (
        (folder, "holds runtime/mine.txt"),
        (tmp_path / "with_model", "holds model.tflite"),
        (model, "is a file"),
    ):
        with pytest.raises(SystemExit, match=f"`output` must be a folder that is new.*{held}"):
            run("--model", model, "--output", other)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert (tmp_path / "with_model" / "model.tflite").read_bytes() == b"of the user's"


def exported(path, shape=(6, 8, 1), **arguments):
    keras.utils.set_random_seed(0)
    pooled = keras.layers.GlobalAveragePooling2D() if None in shape else keras.layers.Flatten()
    network = keras.Sequential([keras.Input(shape), pooled, keras.layers.Dense(2)])
    images = np.random.default_rng(0).uniform(size=(20, *(size or 6 for size in shape)))
    return export.to_tflite(network, path, representative_data=images, verbose=0, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (6, 8, 2)}, "one grey or coloured image"),
        ({"shape": (None, None, 3)}, "of a known size"),
        ({"batch_size": 4}, "Export it with batch_size=1"),
        ({"shape": (5,)}, "one grey or coloured image"),
        ({"quantization": "int8", "io_dtype": "int8"}, "of int8, int8. Export it with io_dtype"),
    ],
)
def test_what_the_page_cannot_run_is_refused(runtime, tmp_path, arguments, message):
    path = exported(tmp_path / "toy.tflite", **arguments)
    with pytest.raises(SystemExit, match=message):
        run("--model", path)
    assert sorted(tmp_path.iterdir()) == [runtime, path]


def test_without_the_runtime_the_command_that_installs_it_is_said(model, tmp_path, monkeypatch):
    monkeypatch.setattr(browser, "RUNTIME", tmp_path / "npm")
    with pytest.raises(SystemExit, match="`npm ci --prefix .*page`"):
        run("--model", model, "--output", tmp_path / "page")
    with pytest.raises(SystemExit, match="absent.tflite"):
        run("--model", tmp_path / "absent.tflite")
    assert not list(tmp_path.iterdir())


def test_the_page_lets_its_own_script_run_and_asks_no_other_host():
    page = (browser.PAGE / "index.html").read_text()
    (imports,) = re.findall(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page, "The import map's hash is another: write it into the page."
    paths = [path.removeprefix("./runtime/") for path in json.loads(imports)["imports"].values()]
    assert set(paths) <= set(browser.RUNTIME_FILES)
    for name in browser.PAGE_FILES:
        assert not re.search(r"https?:|//\w+\.", (browser.PAGE / name).read_text())
    lock = (browser.PAGE / "package-lock.json").read_text()
    assert set(re.findall(r"https?://([^/\"]+)", lock)) <= {"registry.npmjs.org"}
    wanted = json.loads((browser.PAGE / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        assert json.loads(lock)["packages"][f"node_modules/{name}"]["version"] == version
