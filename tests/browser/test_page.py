"""The page of recipes.browser in a headless Chromium: what it says is what run_tflite says.

`make test-browser` runs it; skipped where Playwright, Chromium or LiteRT.js is not installed.
"""

import os
import re
import shutil
import threading

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

from PIL import Image

from keras_fmm import analysis, data, export, layers, models
from recipes import browser

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
if not browser.RUNTIME.is_dir():
    pytest.skip(f"LiteRT.js is not in {browser.RUNTIME}", allow_module_level=True)

NAMES = ["<img src=x onerror=alert(1)>", "a \u202ename\u2066", "b & c"]
SIZE = (24, 32)
# The page's arithmetic is in another order. A JPEG's pixels are those of another decoder.
BOUND, JPEG_BOUND = 1e-4, 0.02


def network(channels=3, layer=None):
    """Scores that differ, and a map that is greatest where a photograph is bright."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((*SIZE, channels))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 5, 2, activation="relu", kernel_initializer="random_uniform")(x)
    gate = layers.SpatialAttention(3, name="gate") if layer is None else layer
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, 2, activation="relu")(gate(x)))
    gate.set_weights([np.abs(x) for x in gate.get_weights()])
    spread = keras.initializers.RandomNormal(stddev=2)
    outputs = keras.layers.Dense(3, activation="softmax", kernel_initializer=spread)(x)
    return keras.Model(inputs, outputs)


def photograph(number, height=91, width=77):
    """Dark colours that run over the image, and in one of four corners a bright spot of noise."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width] / np.reshape([height, width], (2, 1, 1))
    image = np.stack([x * 60, y * 60, 30 + 30 * np.sin(9 * x * y)], -1)
    top, left = int((0.1, 0.6)[number % 2] * height), int((0.1, 0.6)[number // 2] * width)
    spot = image[top:, left:][: height // 4 + 1, : width // 4 + 1]
    spot[:] = rng.integers(150, 256, spot.shape)
    return Image.fromarray(image.clip(0, 255).astype("uint8"))


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as running:
        names = ("chromium", "chromium-browser", "google-chrome", "chrome")
        path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
        # Root may not have Chromium's sandbox.
        options = {"executable_path": path, "args": ["--no-sandbox"] * (os.getuid() == 0)}
        try:
            found = running.chromium.launch(**options)
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {error.message.splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """A function of a .tflite file to the page that runs it; nothing but the page is asked for."""
    servers, pages, asked = [], [], []

    def opened(path, change=None, **settings):
        settings |= {"model": str(path), "output": str(tmp_path / "page"), "serve": False}
        folder = browser.main(browser.Settings(**settings))
        if change:
            change(folder)
        server = browser.server_of(folder)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = chromium.new_page()
        pages.append(page)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: asked.append(f"error: {error}"))
        page.on("dialog", lambda dialog: asked.append(f"dialog: {dialog.message}"))
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        playwright.expect(page.locator("#message")).not_to_contain_text("Loading", timeout=60_000)
        return page

    yield opened
    for page in pages:
        page.close()
    for server in servers:
        server.shutdown()
        server.server_close()
    wrong = [url for url in asked if not re.match(r"(http://127\.0\.0\.1:|data:,$)", url)]
    assert not wrong


def exported(folder, model, **arguments):
    rng = np.random.default_rng(0)
    arguments = {
        "representative_data": rng.uniform(0, 255, (100, *model.input_shape[1:])),
        "class_names": NAMES,
        "input_range": (0, 255),
        "attention_map": "gate",
        "verbose": 0,
    } | arguments
    return export.to_tflite(model, folder / "toy.tflite", **arguments)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("plain"), network())


def told(page, photo):
    """What the page says of a photograph: the scores by name, and the map's place of maximum."""
    page.set_input_files("#file", str(photo))
    playwright.expect(page.locator("#message")).to_have_text(photo.name, timeout=60_000)
    rows = page.locator("#classes li")
    names = [row.locator("bdi").text_content() for row in rows.all()]
    scores = [float(row.get_attribute("data-score")) for row in rows.all()]
    place = re.search(r"row (\d+) of (\d+), column (\d+) of", page.text_content("#attention"))
    assert scores == sorted(scores, reverse=True)
    return dict(zip(names, scores, strict=True)), place and (int(place[1]) - 1, int(place[3]) - 1)


def expected(path, photo, channels=3, **arguments):
    image = data.load_image(photo, SIZE, channels, **arguments)[None]
    scores, found = export.run_tflite(path, image)
    found = found[0].mean(axis=-1)
    return dict(zip(NAMES, scores[0], strict=True)), np.unravel_index(found.argmax(), found.shape)


@pytest.mark.parametrize(
    ("channels", "arguments"),
    [
        (3, {}),
        (1, {"quantization": "float16"}),
        (3, {"quantization": "dynamic"}),
        (3, {"quantization": "int8"}),
        (1, {"quantization": "int8", "io_dtype": "uint8"}),
    ],
    ids=["float32", "float16 grey", "dynamic", "int8", "uint8 grey"],
)
def test_the_page_says_what_the_file_says(opened, tmp_path, channels, arguments):
    model = network(channels)
    path = exported(tmp_path, model, **arguments)
    page = opened(path)
    places = set()
    for number in range(4):
        photo = tmp_path / f"{number}.png"
        photograph(number).save(photo)
        scores, place = told(page, photo)
        wanted, wanted_place = expected(path, photo, channels)
        # LiteRT.js rounds some inner value of an int8 file to the next integer.
        step = 1e-3 if arguments.get("quantization") == "int8" else 0
        step = 1 / 256 if "io_dtype" in arguments else step
        assert scores == pytest.approx(wanted, abs=BOUND + step)
        assert place == wanted_place
        places.add(place)
    assert len(places) == 4
    if not arguments:
        # And that is the layer's own map.
        own = analysis.attention_maps(model, data.load_image(photo, SIZE)[None])["gate"][0]
        assert np.unravel_index(own.mean(-1).argmax(), own.shape[:2]) == place


def sideways(path):
    """A photograph that a camera stored on its side."""
    exif = Image.Exif()
    exif[274] = 6
    photograph(1, 300, 400).save(path, exif=exif, quality=95)


def transparent(path):
    image = photograph(2).convert("RGBA")
    image.putalpha(Image.fromarray(np.linspace(0, 255, 91 * 77).reshape(91, 77).astype("uint8")))
    image.save(path)


@pytest.mark.parametrize(
    ("name", "write", "bound"),
    [
        ("sideways.jpg", sideways, JPEG_BOUND),
        ("large.jpg", lambda path: photograph(2, 801, 1203).save(path), JPEG_BOUND),
        ("transparent.png", transparent, JPEG_BOUND),
        ("small.png", lambda path: photograph(0).crop((5, 5, 15, 25)).save(path), BOUND),
        ("palette.gif", lambda path: photograph(3).quantize(60).save(path), BOUND),
        ("grey.png", lambda path: photograph(1).convert("L").save(path), BOUND),
    ],
)
def test_photographs_are_read_as_load_image_reads_them(opened, plain, tmp_path, name, write, bound):
    write(tmp_path / name)
    scores, place = told(opened(plain), tmp_path / name)
    wanted, wanted_place = expected(plain, tmp_path / name)
    assert scores == pytest.approx(wanted, abs=bound)
    assert place == wanted_place


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_the_aspect_ratio_is_that_of_load_image(opened, plain, tmp_path, fit):
    page = opened(plain, aspect_ratio=fit)
    for number, sides in enumerate([(91, 77), (70, 131), (20, 9)]):
        photo = tmp_path / f"{number}.png"
        photograph(0, *sides).save(photo)
        wanted, _ = expected(plain, photo, **{f"{fit}_to_aspect_ratio": True})
        stretched, _ = expected(plain, photo)
        scores, _ = told(page, photo)
        assert scores == pytest.approx(wanted, abs=BOUND)
        assert scores != pytest.approx(stretched, abs=BOUND)


DROP = """async ([name, text]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], name));
    document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true,
        cancelable: true}));
}"""


def test_wrong_files_are_refused_and_the_next_photograph_is_taken(opened, tmp_path):
    path = exported(tmp_path, network(), input_range=(0, 510))
    page = opened(path)
    message = playwright.expect(page.locator("#message"))
    names = ["<b>no.png", "empty.jpg"]
    for name, text in zip(names, ["a picture of a cat", ""], strict=True):
        page.evaluate(DROP, [name, text])
        message.to_have_text(f"{name} is not an image that this browser reads. Take a JPEG or PNG.")
        message.to_have_class("error")
    assert not page.is_visible("#found")
    photo = tmp_path / "photo.png"
    photograph(0).save(photo)
    # The other range, by hand.
    wanted, _ = export.run_tflite(path, 2 * data.load_image(photo, SIZE)[None])
    scores, _ = told(page, photo)
    assert [scores[name] for name in NAMES] == pytest.approx(wanted[0], abs=BOUND)
    message.not_to_have_class("error")
    assert page.is_visible("#found")
    assert page.locator("#classes img").count() == 0
    # The map is drawn over the photograph, as strongly as the slider says.
    drawn = "document.getElementById('photo').toDataURL()"
    before = page.evaluate(drawn)
    page.fill("#opacity", "0")
    assert page.evaluate(drawn) != before


def test_a_map_of_channels_and_no_map(opened, tmp_path):
    path = exported(tmp_path, network(layer=layers.SqueezeExcite(2, name="gate")))
    photo = tmp_path / "photo.png"
    photograph(0).save(photo)
    page = opened(path)
    told(page, photo)
    assert page.text_content("#attention").startswith("gate weighs channels, not places")
    assert not page.is_visible("#opacity")
    path = exported(tmp_path, network(), attention_map=None, class_names=None)
    page = opened(path)
    scores, _ = told(page, photo)
    wanted = export.run_tflite(path, data.load_image(photo, SIZE)[None])[0]
    assert scores == pytest.approx({str(i): x for i, x in enumerate(wanted)}, abs=BOUND)
    assert "no attention map" in page.text_content("#attention")


def cut(folder):
    content = (folder / "model.tflite").read_bytes()
    (folder / "model.tflite").write_bytes(content[: len(content) // 2])


def other(folder):
    exported(folder, network(1)).replace(folder / "model.tflite")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "The model cannot be run"),
        (other, "model.json is not of this file"),
        (lambda folder: (folder / "model.json").unlink(), "model.json is not there"),
        (lambda folder: (folder / "runtime/core/wasm").rename(folder / "gone"), "cannot be run"),
    ],
)
def test_a_folder_that_is_not_whole_says_so(opened, plain, change, message):
    page = opened(plain, change)
    assert message in page.text_content("#message")
    assert page.is_disabled("#file")


def test_each_channel_is_normalized_as_the_file_says(opened, tmp_path):
    inputs = keras.Input((*SIZE, 3))
    layer = models.Preprocessing((0.5, 0.25, 0.1), (0.25, 0.5, 1.0), normalize=False)
    means = keras.layers.GlobalAveragePooling2D()(layer(inputs))
    model = keras.Model(inputs, keras.layers.Softmax()(means))
    path = exported(
        tmp_path,
        model,
        attention_map=None,
        input_range=None,
        aspect_ratio="crop",
        class_names=NAMES,
    )
    photo = tmp_path / "photo.png"
    photograph(1).save(photo)
    image = data.load_image(photo, SIZE, crop_to_aspect_ratio=True)[None]
    wanted = np.asarray(model((image / 255 - [0.5, 0.25, 0.1]) / [0.25, 0.5, 1.0]))[0]
    scores, _ = told(opened(path), photo)
    assert scores == pytest.approx(dict(zip(NAMES, wanted.tolist(), strict=True)), abs=BOUND)
