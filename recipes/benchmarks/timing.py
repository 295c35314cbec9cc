"""Times of several steps as ratios, on machines whose speed drifts: what the benchmarks share."""

import dataclasses
import json
import math
import pathlib
import shlex
import statistics
import time

import numpy as np

from keras_fmm import checks, files, progress, training
from recipes.lab import sections
from recipes.lab.settings import WRITTEN, changed, flags


def seconds(steps, rounds, verbose="auto", clock=time.perf_counter):
    """Returns how long each step took in each round, lists of seconds by name.

    Each round runs every step once, in random order.

    Args:
        steps: dict by name of functions without arguments that return when they are done.
        rounds: int, at least 1.
        verbose: as of `progress.Progress`.
        clock: function, default `time.perf_counter`. `time.process_time` counts the seconds of all
            cores, and none of other processes.
    """
    for run in steps.values():
        run()
        run()
    found = {name: [] for name in steps}
    shown = progress.Progress(rounds, verbose, unit_name="round")
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        # In a new order each time: what ran just before leaves its traces in the caches.
        for name in rng.permutation(list(steps)):
            begin = clock()
            steps[name]()
            found[name].append(clock() - begin)
        shown.add(1)
    return found


def lite_step(path, draw, threads=1):
    """Returns a function that runs a TFLite file on one image.

    Args:
        path: path of the file, which is not needed afterwards.
        draw: function of a `numpy.random.Generator` and a shape to the image.
        threads: int.
    """
    interpreters = checks.package("ai_edge_litert.interpreter", "Timing LiteRT", "mobile")
    content = pathlib.Path(path).read_bytes()
    interpreter = interpreters.Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]
    values = draw(np.random.default_rng(0), image["shape"])
    interpreter.set_tensor(image["index"], values.astype(image["dtype"]))
    return interpreter.invoke


def interval(values, digits=2):
    """Returns the median and the two values between which it lies with 95 % confidence."""
    values = sorted(values)
    skipped = max(0, math.floor(len(values) / 2 - 0.98 * math.sqrt(len(values))))
    ends = (statistics.median(values), values[skipped], values[-1 - skipped])
    return [round(value, digits) for value in ends]


def ratios(found, plain):
    """Returns of each step's time to the plain one's the median over the rounds and its interval.

    Args:
        found, plain: as of `median_ratios`.
    """
    return {
        name: interval([a / b for a, b in zip(times, found[plain], strict=True)], 3)
        for name, times in found.items()
        if name != plain
    }


def median(ratio):
    """Returns the median of a stored ratio, which is of `ratios`, or was one number once."""
    return ratio if isinstance(ratio, float | int) else ratio[0]


def cell(ratio):
    """Returns a stored ratio as a table shows it, a str."""
    if isinstance(ratio, float | int):
        return f"{ratio:.2f}"
    return "{:.2f} ({:.2f} to {:.2f})".format(*ratio)


def median_ratios(found, plain):
    """Returns the median over the rounds of each step's time to the plain one's, by name.

    Args:
        found: dict, of `seconds`.
        plain: str, the name of the step that the others are compared with.
    """
    return {
        name: statistics.median(a / b for a, b in zip(times, found[plain], strict=True))
        for name, times in found.items()
        if name != plain
    }


def fastest_ratios(found, plain):
    """Returns each step's shortest time to the plain one's shortest, as `median_ratios` does.

    What else a shared machine does can only add to a time, and adds more to what waits for memory.
    """
    return {name: min(times) / min(found[plain]) for name, times in found.items() if name != plain}


def write(path, settings, found):
    """Writes a benchmark's results with its settings and what it ran on; returns them, a dict.

    Args:
        path: `pathlib.Path`, a JSON file, which is replaced.
        settings: dataclass instance.
        found: dict, what was measured, by what it is.
    """
    results = {
        "settings": dataclasses.asdict(settings),
        "environment": training.environment(ignored=WRITTEN),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **found,
    }
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    return results


def measured(path, settings, environment):
    """Returns what a run that was stopped has written, as of `read`, or an empty dict.

    That is where it was of the same code, machine, versions and settings, but for `verbose`.

    Args:
        path, settings: as of `write`.
        environment: dict, of `training.environment`.
    """
    results = read(path.parent, path.stem)
    if results is None:
        return {}

    def told(settings, environment):
        git = environment["git"] and environment["git"]["commit"]
        return {**settings, "verbose": None}, environment["versions"], environment["device"], git

    before = told(results["settings"], results["environment"])
    return results if before == told(dataclasses.asdict(settings), environment) else {}


def read(folder, name):
    """Returns what `write` left in a folder of results, a dict, or None where it is not there."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def page(path, module, settings, date, introduction, table, remarks=""):
    """Returns the page of a benchmark of one table, a str, or None where nothing was measured.

    Args:
        path: `pathlib.Path`, of the results.
        module, settings, date: as of `source`.
        introduction: str, what comes before the table.
        table: function of the results to the table.
        remarks: str, what comes after it.
    """
    results = read(path.parent, path.stem)
    if results is None:
        return None
    from_where = source(module, settings, results, date)
    return "\n".join([introduction, from_where, "", table(results), remarks])


def on_another_cpu(folder, name, module, settings, table, date, remark=""):
    """Returns Markdown of what was measured before on another CPU, or "" where it was not.

    Args:
        folder: `pathlib.Path`, of results.
        name: str, of the results beside which they stand; these are called `NAME_intel`.
        module, settings, date: as of `source`.
        table: function of the results to the table.
        remark: str, what is to be said of them.
    """
    results = read(folder, f"{name}_intel")
    if results is None:
        return ""
    from_where = source(module, settings, results, date).removesuffix(".")
    return f"\nOn another CPU{remark}:\n\n{from_where}:\n\n{table(results)}\n"


def source(module, settings, results, date):
    """Returns Markdown that says with which command, on what and when something was measured.

    Args:
        module: str, the benchmark's name.
        settings: its frozen dataclass, a class.
        results: dict, of `read`.
        date: str, for results from before dates were written into them.
    """
    backend = results["environment"]["versions"]["backend"]
    words = [] if backend == "tensorflow" else [f"KERAS_BACKEND={backend}"]
    words += ["python", "-m", f"recipes.benchmarks.{module}"]
    # How progress was shown changes nothing.
    given = {name: x for name, x in results["settings"].items() if name != "verbose"}
    words += flags(changed(settings, given))
    return f"```\n{shlex.join(words)}\n```\n\n{machine(results, date)}."


def machine(results, date):
    """Returns versions, processor and date of results, a str."""
    environment = results["environment"]
    cores = environment["device"]["cores"]
    return f"{sections.machine(environment)}, {cores} cores, {results.get('date', date)}"
