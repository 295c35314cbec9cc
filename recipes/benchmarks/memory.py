"""Does a process that lives for days keep what it is done with?

Question: by how much the memory of one process grows with each call of what makes, trains, exports
and explains a model of every attention layer, a new model for each call; and by how much with what
plain Keras and the backend do of the kind. Wanted: at most 0.2 MB a call more than the plain one.
Data: random images.
Command (on Linux):

    python -m recipes.benchmarks.memory

Each job runs twice for what is made once a process, then a few times, after each of which Python
collects its garbage and the allocator gives free memory back; the growth is the median over these.
"Kept" is what the allocator has lent out, which does not depend on what else the machine does;
"resident" what the process holds of the machine's memory, which tells of the same with more noise.
Each row is printed and saved as it is measured. The same command goes on where one was stopped;
delete the results to measure all anew, or name what to measure again: `--jobs "flops,grad_cam"`. On
another backend than TensorFlow the exports are left out:

    KERAS_BACKEND=jax python -m recipes.benchmarks.memory \\
        --output recipes/results/benchmark_memory_jax.json

Cost: 340 seconds of CPU on 2 cores, 120 on JAX.
Measured: recipes/results/benchmark_memory.json, benchmark_memory_jax.json and
docs/results/memory.md.
"""

import ctypes
import dataclasses
import functools
import gc
import itertools
import pathlib
import resource
import statistics
import tempfile

import keras
import numpy as np

from keras_fmm import analysis, export, layers, models, plots, training
from recipes.benchmarks import timing
from recipes.lab.settings import WRITTEN, output_path, setting, start

MOST = 0.2
# What is left out if nothing is asked for: they go the way of another job.
REPEATS = {"TFLite float16", "TFLite dynamic"}
# Keras lets TensorFlow keep the graph of each model's training step, whose size goes with its
# operators: with so many gates of Keras' own layers the plain network has as many as the other.
PLAIN_GATES = {"fit": 14}
SHAPE = (16, 16, 3)
CLASSES = 4
IMAGES = np.random.default_rng(0).random((8, *SHAPE)).astype("float32")
LABELS = np.arange(len(IMAGES)) % CLASSES
QUIET = {"verbose": 0}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    jobs: str | None = setting(None, "which, with commas between; without it all but repeats")
    calls: int = setting(3, "how many calls of a job are measured", minimum=1)
    output: str = setting("recipes/results/benchmark_memory.json", "where the results go")
    smoke: bool = setting(False, "two jobs, one call")


def main(settings):
    """Measures, prints and saves; returns the results, a dict."""
    chosen = settings.jobs.split(",") if settings.jobs else []
    if settings.smoke:
        settings = dataclasses.replace(settings, calls=1)
        chosen = chosen or ["a model", "attention_maps"]
    output = output_path(settings)
    found = measured(output, settings)
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = jobs(pathlib.Path(folder)), plain_jobs(pathlib.Path(folder))
        if unknown := [name for name in chosen if name not in ours]:
            raise ValueError(
                f"`jobs` must be among {', '.join(ours)}. Received: {', '.join(unknown)}."
            )
        wanted = [name for name in ours if name not in REPEATS]
        print(HEAD, flush=True)
        for name in chosen or [name for name in wanted if name not in found["ours"]]:
            job, other = ours[name]
            if other not in found["plain"]:
                make = functools.partial(plain_network, gates=PLAIN_GATES.get(other, 0))
                found["plain"][other] = growth(plain[other], make, settings.calls)
            grown = growth(job, network, settings.calls)
            found["ours"][name] = {**grown, "plain": found["plain"][other]["kept"]}
            found["left"] = [name for name in wanted if name not in found["ours"]]
            timing.write(output, dataclasses.replace(settings, jobs=None), found)
            print(row(name, found["ours"][name]), flush=True)
    print(verdict(found))
    return timing.read(output.parent, output.stem)


def measured(path, settings):
    """Returns what was measured before with the same settings, versions and device, a dict."""
    results = timing.read(path.parent, path.stem)
    here = training.environment(ignored=WRITTEN)
    if (
        results is None
        or results["settings"]["calls"] != settings.calls
        or any(results["environment"][key] != here[key] for key in ("versions", "device"))
    ):
        return {"plain": {}, "ours": {}, "left": []}
    return {key: results[key] for key in ("plain", "ours", "left")}


def growth(job, make, calls):
    """Returns by how many MB the process grows with each call of a job on a new model, a dict."""
    for _ in range(2):
        job(make())
    readings = [memory()]
    for _ in range(calls):
        job(make())
        readings.append(memory())
    steps = [
        [b - a for a, b in zip(before, after, strict=True)]
        for before, after in itertools.pairwise(readings)
    ]
    kept, resident = (round(statistics.median(column), 3) for column in zip(*steps, strict=True))
    return {"kept": kept, "resident": resident}


class _Lent(ctypes.Structure):
    """What the GNU C library's `mallinfo2` returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def memory():
    """Returns the MB that the allocator has lent out, and that the process is resident with."""
    gc.collect()
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallinfo2.restype = _Lent
    except (OSError, AttributeError) as error:
        raise RuntimeError(
            f"The memory is measured on Linux with glibc 2.33 or newer only ({error})."
        ) from error
    library.malloc_trim(0)
    lent = library.mallinfo2()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return (lent.uordblks + lent.hblkhd) / 2**20, pages * resource.getpagesize() / 2**20


HEAD = "| MB a call | kept | resident | kept by the plain one |\n|---|---|---|---|"


def row(name, values):
    """Returns a job's row of the table."""
    return f"| {name} | {values['kept']} | {values['resident']} | {values['plain']} |"


def verdict(found):
    """Returns which jobs keep too much, and which are still to be measured, a str."""
    ours = found["ours"].items()
    missed = [name for name, values in ours if values["kept"] - values["plain"] > MOST]
    text = f"More than {MOST} MB beyond the plain one: {', '.join(missed) or 'none'}."
    return text + (f"\nNot measured yet: {', '.join(found['left'])}." if found["left"] else "")


def markdown(found):
    """Returns the page's table and what is said of it."""
    rows = [row(*item) for item in found["ours"].items()]
    return "\n".join([HEAD, *rows, "", verdict(found)])


def network():
    """Returns an untrained model of every attention layer.

    Its layers have names: TensorFlow keeps 35 kB for each name that a variable ever had, and those
    that Keras finds by itself are new in each model.
    """

    def middle(x):
        for name in layers.GATES:
            x = layers.get_gate(name, name=name)(x)
        convolution = layers.AWConv2D(8, 3, reduction=2, padding="same", name="second")
        return layers.MultiplicativeResidual(name="residual")([convolution(x), x])

    return _network(middle)


def plain_network(gates=0):
    """Returns an untrained model of Keras' own layers, with so many gates of these."""

    def middle(x):
        for i in range(gates):
            y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"pool_{i}")(x)
            y = keras.layers.Dense(2, "relu", name=f"squeeze_{i}")(y)
            y = keras.layers.Dense(8, "sigmoid", name=f"excite_{i}")(y)
            x = keras.layers.Multiply(name=f"gate_{i}")([x, y])
        return keras.layers.Conv2D(8, 3, padding="same", name="second")(x)

    return _network(middle)


def _network(middle):
    inputs = keras.Input(SHAPE, name="images")
    x = middle(keras.layers.Conv2D(8, 3, name="first", activation="relu")(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, "softmax", name="scores")(x))


def plain_jobs(folder):
    """Returns functions of a model by name: what Keras and the backend do by themselves."""

    def keras_file(model):
        model.save(folder / "plain.keras")
        keras.saving.load_model(folder / "plain.keras")

    found = {
        "a model": lambda model: None,
        "predict": lambda model: model.predict(IMAGES, **QUIET),
        "fit": lambda model: fit(compiled(model)),
        "keras file": keras_file,
    }
    if keras.backend.backend() == "tensorflow":
        found |= _of_tensorflow(folder)
    return found


def _of_tensorflow(folder):
    import tensorflow as tf

    def gradient(model):
        @tf.function(autograph=False)
        def by_images(images):
            with tf.GradientTape() as tape:
                tape.watch(images)
                scores = model(images, training=False)
            return tape.gradient(scores, images)

        # As a call would warn that this is traced again and again.
        return by_images.get_concrete_function(tf.constant(IMAGES))(tf.constant(IMAGES))

    def saved_model(model):
        model.export(folder / "plain", **QUIET)
        tf.saved_model.load(folder / "plain")

    return {
        "gradient": gradient,
        "SavedModel": saved_model,
        "TFLite": lambda model: model.export(str(folder / "p.tflite"), format="litert", **QUIET),
    }


def compiled(model):
    # A new optimizer each time: one that is there has the variables of what it trained.
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def fit(model, callbacks=(), first=0):
    """Trains for two epochs of two steps: what an epoch leaves is to be seen."""
    model.fit(
        IMAGES,
        LABELS,
        batch_size=4,
        initial_epoch=first,
        epochs=first + 2,
        callbacks=list(callbacks),
        **QUIET,
    )


def jobs(folder):
    """Returns by name a function of a model and the name of the plain job that it compares with.

    On other backends than TensorFlow those are left out that need it.

    Args:
        folder: `pathlib.Path`, of what is written.
    """

    def run(model):
        # A run of its own each time, which is not resumed.
        with tempfile.TemporaryDirectory(dir=folder) as workdir:
            run = training.Run(pathlib.Path(workdir) / "run", {}, monitor="loss")
            compiled(model)
            first = run.restore(model)
            fit(model, run.callbacks(), first)
            run.finish({})

    def grad_cam_callback(model):
        with tempfile.TemporaryDirectory(dir=folder) as log_dir:
            fit(compiled(model), [plots.GradCAMCallback(log_dir, IMAGES[:2])])

    def saved_model(model):
        path = export.to_saved_model(model, folder / "saved", [str(i) for i in range(CLASSES)])
        export.run_saved_model(path, IMAGES)
        export.compare(model, IMAGES, saved_model=path)

    def tflite(model, quantization):
        images = {"representative_data": IMAGES} if quantization in ("int8", "int16x8") else {}
        path = folder / "ours.tflite"
        export.to_tflite(model, path, quantization=quantization, **images, **QUIET)
        export.run_tflite(path, IMAGES)
        export.inspect(path)
        export.read_metadata(path)
        export.compare(model, IMAGES, tflite=path)

    def keras_file(model):
        path = export.save_model(model, folder / "ours.keras")
        models.load_weights(model, path)
        keras.saving.load_model(path)

    def trajectory(model):
        line = analysis.ellipse(*IMAGES[:3], points=9)
        analysis.smoothness(analysis.curve(model, line, **QUIET))

    def in_half_precision(model):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = network()
        finally:
            keras.config.set_dtype_policy(before)
        analysis.jacobian_norms(model, IMAGES, **QUIET)

    def eagerly(model):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            scores = model(IMAGES, training=True)
        tape.gradient(scores, model.trainable_variables)

    def of(function, **arguments):
        return lambda model: function(model, IMAGES, **arguments, **QUIET)

    found = {
        "a model": (lambda model: None, "a model"),
        "predict": (lambda model: model.predict(IMAGES, **QUIET), "predict"),
        "a call, eagerly": (eagerly, "gradient"),
        "fit": (lambda model: fit(compiled(model)), "fit"),
        "Run": (run, "fit"),
        "GradCAMCallback": (grad_cam_callback, "fit"),
        "attention_maps": (of(analysis.attention_maps), "predict"),
        "channel_importance": (of(analysis.channel_importance, layer="cbam"), "gradient"),
        "curve": (trajectory, "predict"),
        "flops": (analysis.flops, "a model"),
        "full_grad": (of(analysis.full_grad), "gradient"),
        "grad_cam": (of(analysis.grad_cam), "gradient"),
        "integrated_gradients": (of(analysis.integrated_gradients, n_steps=3), "gradient"),
        "jacobian_norms": (of(analysis.jacobian_norms), "gradient"),
        "jacobian_sensitivity": (of(analysis.jacobian_sensitivity), "gradient"),
        "jacobian_norms of half precision": (in_half_precision, "gradient"),
        "logits_model": (analysis.logits_model, "a model"),
        "occlusion_sensitivity": (of(analysis.occlusion_sensitivity, patch_size=8), "predict"),
        "output_sensitivity": (of(analysis.output_sensitivity, noise=0.1, draws=2), "predict"),
        "smooth_full_grad": (of(analysis.smooth_full_grad, samples=2), "gradient"),
        "smooth_grad": (of(analysis.smooth_grad, num_samples=2), "gradient"),
        "feature_model": (lambda model: models.feature_model(model, ["eca"]), "a model"),
        "upgrade": (lambda model: models.upgrade(model, attention="eca"), "a model"),
        "keras file": (keras_file, "keras file"),
        "SavedModel": (saved_model, "SavedModel"),
        **{
            f"TFLite {quantization or 'float32'}": (
                functools.partial(tflite, quantization=quantization),
                "TFLite",
            )
            for quantization in export.QUANTIZATIONS
        },
    }
    if keras.backend.backend() != "tensorflow":
        there = plain_jobs(folder)
        del found["GradCAMCallback"]
        found = {name: job for name, job in found.items() if job[1] in there}
    return found


INTRODUCTION = """# What a process keeps of each call

By how many MB the memory of one process grows with each call on a new model of every attention
layer, and with what plain Keras and the backend do of the kind on a plain model. Written by
`make report` from `recipes/results/`.
"""

COLUMNS = """
- "kept" is what the allocator has lent out, the median over the calls. What else runs on the
  machine does not change it; on 2026-11-27 much did.
- "resident" is what the process holds of the machine's memory, with more noise.
- "kept by the plain one" is of a plain model and what is nearest to the job in Keras: a prediction,
  a gradient, an export.
- What trains is compared with a plain model whose training step has as many operators. Keras' step
  has a gradient registered that holds its graph as long as the process lives, of any model; the
  larger the graph, the more. `training.Run` makes one graph instead of two. Give each of many
  models to train a process of its own.
"""

JAX = """## On JAX

Exports and what else needs TensorFlow are left out.
"""


def page(folder):
    """Returns docs/results/memory.md, a str, or None where nothing was measured.

    Args:
        folder: `pathlib.Path`, of results.
    """
    parts = [
        timing.page(
            folder / f"{name}.json",
            "memory",
            Settings,
            "",
            introduction,
            markdown,
            remarks,
        )
        for name, introduction, remarks in (
            ("benchmark_memory", INTRODUCTION, COLUMNS),
            ("benchmark_memory_jax", JAX, ""),
        )
    ]
    return "\n".join(part for part in parts if part is not None) or None


if __name__ == "__main__":
    start(main, Settings, __doc__)
