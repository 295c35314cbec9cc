"""Show in a browser what a TFLite file sees in photographs, and what a layer of it attends to.

Data: a .tflite file of `python -m recipes.export_model`, with `--attention-map LAYER` for the map;
then the photographs that you drop on the page. They stay on your machine. They are resized as
`python -m recipes.classify --resize` does it, by the `--aspect-ratio` of the training.
Command, once, for what runs the file in a browser (LiteRT.js, by npm), then for each file:

    npm ci --prefix recipes/page
    python -m recipes.browser --model runs/leaves/best_int8.tflite

It makes a folder of the page, the file and LiteRT.js, which needs nothing else, and serves it to
this machine alone. Any server can: `python -m http.server --directory FOLDER`.
Cost: seconds, and 20 MB in the folder.
"""

import dataclasses
import functools
import http.server
import json
import pathlib
import shutil

from keras_fmm import export, files
from recipes.lab import artefacts, datasets
from recipes.lab.settings import setting, start

PAGE = pathlib.Path(__file__).with_name("page")
RUNTIME = PAGE / "node_modules" / "@litertjs"
PAGE_FILES = ("images.js", "index.html", "page.css", "page.js")
# LiteRT.js takes the second pair where a browser lacks some instructions.
RUNTIME_FILES = (
    "core/dist/index.js",
    *(f"core/wasm/litert_wasm_{x}internal.{y}" for x in ("", "compat_") for y in ("js", "wasm")),
    "wasm-utils/dist/index.js",
    # Whose it is, and its licence.
    *("core/package.json", "wasm-utils/package.json"),
)
MODEL, DESCRIPTION, WRITER = "model.tflite", "model.json", "recipes.browser"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which file the page runs, and where it is served."""

    model: str = setting(..., "a .tflite file")
    aspect_ratio: str | None = datasets.known_aspect_ratio()
    input_range: str | None = artefacts.input_range()
    output: str | None = setting(None, "the folder to write; none: beside the file, NAME_page")
    serve: bool = setting(True, "serve the folder until Ctrl-C")
    port: int = setting(8000, "where, on this machine; 0: any that is free", minimum=0)


def main(settings):
    """Writes the folder and serves it; returns its path."""
    path = pathlib.Path(settings.model)
    description = described(path, settings.input_range)
    if settings.aspect_ratio is not None:
        description["input"]["fit"] = settings.aspect_ratio
    folder = pathlib.Path(settings.output or path.with_name(f"{path.stem}_page"))
    write(folder, path, description)
    print(f"The page is in {folder}.", flush=True)
    if settings.serve:
        with server_of(folder, settings.port) as server:
            print(f"Open http://127.0.0.1:{server.server_port}/ and stop with Ctrl-C.", flush=True)
            server.serve_forever()
    return folder


def server_of(folder, port=0):
    """Returns a server of a folder, for this machine alone, that is to be started."""
    handler = functools.partial(Handler, directory=folder)
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise OSError(
            f"`port` must be free on this machine. Received: {port} ({error}). Give another one, "
            "or 0 for any that is free."
        ) from error


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    # Where the system has others, browsers refuse them.
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *args):
        pass


def described(path, input_range=None):
    """Returns what the page must know of a TFLite file, a dict; `input_range` is the setting.

    Raises:
        ValueError: the page cannot run it.
    """
    inspection = export.inspect(path)
    metadata, inputs, outputs = inspection.metadata, inspection.inputs, inspection.outputs
    shapes = f"inputs {[x.shape for x in inputs]} and outputs {[x.shape for x in outputs]}"
    ranks = [len(tensor.shape) for tensor in outputs]
    if len(inputs) != 1 or ranks != ([2, 4] if "attention_map" in metadata else [2]):
        raise ValueError(
            "`model` must give a score for each class, and perhaps a layer's map of places. "
            f"Received: {path}, of {shapes}"
        )
    shape = inputs[0].shape
    if len(shape) != 4 or shape[0] != 1 or -1 in shape or shape[3] not in (1, 3):
        raise ValueError(
            "`model` must take one grey or coloured image of a known size. Received: "
            f"{path}, of {shapes}. Export it with batch_size=1, from a model of known height and "
            "width."
        )
    dtypes = [tensor.dtype for tensor in (*inputs, *outputs)]
    if not set(dtypes) <= {"float32", "uint8"}:
        raise ValueError(
            "`model` must take and give float32 or uint8, which LiteRT.js has. Received: "
            f"{path}, of {', '.join(dtypes)}. Export it with io_dtype float32 or uint8."
        )
    (tensor,) = inputs
    return {
        "written_by": WRITER,
        "input": {
            **dict(zip(("height", "width", "channels"), shape[1:], strict=True)),
            "ranges": artefacts.channel_ranges(path, metadata, shape[3], input_range),
            "fit": metadata.get("aspect_ratio") or "stretch",
            "scale": tensor.scale,
            "zero_point": tensor.zero_point,
        },
        "outputs": [
            {"shape": x.shape, "scale": x.scale, "zero_point": x.zero_point} for x in outputs
        ],
        "class_names": metadata.get("class_names"),
        "attention_map": metadata.get("attention_map"),
    }


def write(folder, path, description):
    """Makes the folder of the page, or replaces one of before; nothing else is removed."""
    if missing := [name for name in RUNTIME_FILES if not (RUNTIME / name).is_file()]:
        raise FileNotFoundError(
            f"LiteRT.js must be in {RUNTIME}. Received: no {missing[0]}. "
            f"Install it with `npm ci --prefix {PAGE}`."
        )
    runtime = {f"runtime/{name}": RUNTIME / name for name in RUNTIME_FILES}
    sources = {MODEL: path, **{name: PAGE / name for name in PAGE_FILES}, **runtime}
    check_replaceable(folder, {*sources, DESCRIPTION})
    with files.replacing(folder) as temporary:
        for name, source in sources.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, temporary / name)
        (temporary / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")


def check_replaceable(folder, names):
    """Raises ValueError where something is in a folder that an earlier page does not have."""
    if not folder.exists():
        return
    found = [x.relative_to(folder).as_posix() for x in folder.rglob("*") if not x.is_dir()]
    try:
        is_page = json.loads((folder / DESCRIPTION).read_text())["written_by"] == WRITER
    except (OSError, ValueError, LookupError, TypeError):
        is_page = not found
    other = [name for name in found if name not in names or not is_page]
    if other or not folder.is_dir():
        raise ValueError(
            "`output` must be a folder that is new, empty or of an earlier page. Received: "
            f"{str(folder)!r}, which {f'holds {other[0]}' if other else 'is a file'}. Choose "
            "another."
        )


if __name__ == "__main__":
    start(main, Settings, __doc__)
