"""Does a process that lives for days keep what it is done with?

Question: by how much the memory of one process grows with each call of what makes, trains, exports
and explains a model of every attention layer, a new model for each call; and by how much with what
plain Keras and TensorFlow do of the kind. Wanted: at most 0.2 MB a call more than the plain one.
Data: random images.
Command (on Linux, with the machine to itself):

    python -m recipes.benchmarks.memory

Each job runs a few times for what is made once a process. Then its calls are in blocks, after each
of which Python collects its garbage and the allocator gives free memory back; the growth is the
median over the blocks. "Kept" is what the allocator has lent out, "resident" what the process holds
of the machine's memory, which tells of the same with more noise.
Cost: not known; beside other work it was not done after 25 minutes on 2 cores, and has no results
yet. `--jobs "grad_cam,TFLite int8"` measures a part.
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

from keras_fmm import analysis, export, layers, models, plots, progress, training
from recipes.benchmarks import timing
from recipes.lab.settings import output_path, setting, shown, start, verbosity

MOST = 0.2
SHAPE = (16, 16, 3)
CLASSES = 4
IMAGES = np.random.default_rng(0).random((8, *SHAPE)).astype("float32")
LABELS = np.arange(len(IMAGES)) % CLASSES
QUIET = {"verbose": 0}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured and how often."""

    jobs: str | None = setting(None, "which, with commas between; without it all")
    blocks: int = setting(5, "how many blocks of calls", minimum=1)
    calls: int = setting(4, "calls in a block", minimum=1)
    output: str = setting("recipes/results/benchmark_memory.json", "where the results go")
    verbose: str = verbosity()
    smoke: bool = setting(False, "two jobs, one block of one call")


def main(settings):
    """Measures, prints and saves; returns the results, a dict."""
    chosen = settings.jobs.split(",") if settings.jobs else []
    if settings.smoke:
        settings = dataclasses.replace(settings, blocks=1, calls=1)
        chosen = chosen or ["a model", "attention_maps"]
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = jobs(pathlib.Path(folder)), plain_jobs(pathlib.Path(folder))
        if unknown := [name for name in chosen if name not in ours]:
            raise ValueError(
                f"`jobs` must be among {', '.join(ours)}. Received: {', '.join(unknown)}."
            )
        chosen = chosen or list(ours)
        compared = dict.fromkeys(ours[name][1] for name in chosen)
        bar = progress.Progress(len(chosen) + len(compared), shown(settings), unit_name="job")
        found = {"plain": {}, "ours": {}}
        for name in compared:
            found["plain"][name] = growth(plain[name], lambda: network(False), settings)
            bar.add(1)
        for name in chosen:
            job, counterpart = ours[name]
            found["ours"][name] = {
                **growth(job, network, settings),
                "plain": found["plain"][counterpart]["kept"],
            }
            bar.add(1)
    results = timing.write(output_path(settings), settings, found)
    print(markdown(found))
    return results


def growth(job, make, settings):
    """Returns by how many MB the process grows with each call of a job on a new model, a dict."""
    for _ in range(3):
        job(make())
    readings = [memory()]
    for _ in range(settings.blocks):
        for _ in range(settings.calls):
            job(make())
        readings.append(memory())
    steps = [
        [(b - a) / settings.calls for a, b in zip(before, after, strict=True)]
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


def markdown(found):
    """Returns the table: a row a job, in MB a call."""
    lines = ["| MB a call | kept | resident | kept by the plain one |", "|---|---|---|---|"]
    for name, row in found["ours"].items():
        lines.append(f"| {name} | {row['kept']} | {row['resident']} | {row['plain']} |")
    missed = [n for n, row in found["ours"].items() if row["kept"] - row["plain"] > MOST]
    return "\n".join(
        [*lines, "", f"More than {MOST} MB beyond the plain one: {', '.join(missed) or 'none'}."]
    )


def network(has_attention=True):
    """Returns an untrained model of every attention layer, or the plain one of its shape.

    Its layers have names: TensorFlow keeps 35 kB for each name that a variable ever had, and those
    that Keras finds by itself are new in each model.
    """
    inputs = keras.Input(SHAPE, name="images")
    x = keras.layers.Conv2D(8, 3, name="first", activation="relu")(inputs)
    if has_attention:
        for name in layers.GATES:
            x = layers.get_gate(name, name=name)(x)
        convolution = layers.AWConv2D(8, 3, reduction=2, padding="same", name="second")
        x = layers.MultiplicativeResidual(name="residual")([convolution(x), x])
    else:
        x = keras.layers.Conv2D(8, 3, padding="same", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, "softmax", name="scores")(x))


def plain_jobs(folder):
    """Returns functions of a model by name: what Keras and TensorFlow do by themselves."""
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

    def keras_file(model):
        model.save(folder / "plain.keras")
        keras.saving.load_model(folder / "plain.keras")

    def saved_model(model):
        model.export(folder / "plain", **QUIET)
        tf.saved_model.load(folder / "plain")

    return {
        "a model": lambda model: None,
        "predict": lambda model: model.predict(IMAGES, **QUIET),
        "gradient": gradient,
        "fit": lambda model: fit(compiled(model)),
        "keras file": keras_file,
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

    return {
        "a model": (lambda model: None, "a model"),
        "predict": (lambda model: model.predict(IMAGES, **QUIET), "predict"),
        "a call, eagerly": (eagerly, "a model"),
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


if __name__ == "__main__":
    start(main, Settings, __doc__)
