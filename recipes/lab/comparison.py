"""What was measured of several candidates with several seeds: kept in a file, and tested.

The file is rewritten after each trial; what it holds already is not measured again. It has a part
for each dataset and schedule, so that a longer schedule stands beside the shorter one.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shlex
import time

import keras
import numpy as np
from scipy import stats

from keras_fmm import files, locks, training
from recipes.lab import datasets, trials, verdicts
from recipes.lab.settings import WRITTEN, changed, flags, output_path, setting, verbosity

# Without it, "highest", JAX rounds to TF32 on a GPU, and curves are rough by that alone.
PRECISION = "JAX_DEFAULT_MATMUL_PRECISION"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every comparison can be asked for."""

    dataset: str = datasets.named("mnist")
    data_dir: str | None = setting(None, "folder of prepared datasets; none: TFDS_DATA_DIR")
    train_images: int | None = setting(
        None, "how many of train, and of validation at most as many; none: all", minimum=1
    )
    seeds: int = setting(3, "how many seeds, from 0 on; more that are there stay", minimum=1)
    epochs: int = setting(10, "passes over train", minimum=1)
    learning_rate: float = setting(trials.Schedule.learning_rate, "of SGD", minimum=0.0)
    verbose: str = verbosity()
    smoke: bool = setting(False, "one seed and epoch of three steps on digits")


def begun(settings, batch_size=trials.Schedule.batch_size):
    """Returns what a comparison begins with: its settings, dataset and schedule of training.

    A smoke run has settings of its own, with small batches, and begins without what an earlier one
    left.

    Args:
        settings: `Settings`.
        batch_size: int.

    Returns:
        The `Settings`, the `data.ImageDataset` and the `trials.Schedule`.
    """
    if settings.smoke:
        trials.forget_smoke()
        settings = dataclasses.replace(
            settings, dataset="digits", train_images=None, seeds=1, epochs=1
        )
        batch_size = 32
    size = getattr(settings, "image_size", None)
    dataset = datasets.load(settings, size and (size, size))
    if settings.dataset.endswith(datasets.ARRAYS):
        # The same part of the results, wherever the dataset came from.
        settings = dataclasses.replace(settings, dataset=dataset.name)
    if settings.train_images is not None:
        if settings.train_images >= dataset.sizes["train"]:
            raise ValueError(
                f"`train_images` must be fewer than the {dataset.sizes['train']} of train. "
                f"Received: train_images={settings.train_images}. Leave it out to take all."
            )
        dataset = dataset.subset(train=settings.train_images, validation=settings.train_images)
    # A folder may have few images.
    batch_size = min(batch_size, dataset.sizes["train"])
    schedule = trials.Schedule(
        settings.epochs, batch_size, settings.learning_rate, smoke=settings.smoke
    )
    return settings, dataset, schedule


def measured(settings, fixed, candidates, measure, variant=None, seeds=None):
    """Measures each candidate with each seed that the file does not have yet.

    Args:
        settings: `Settings`, with `output`.
        fixed: dict that JSON can hold: what was decided before and holds for all trials. A part
            of the file that was measured under another is refused.
        candidates: sequence of str.
        measure: function of a candidate and a seed to a dict that JSON can hold.
        variant: str, what a recipe measures of several, such as the network; or None.
        seeds: int, how many; None for `settings.seeds`.

    Returns:
        The part's content, a dict: "fixed"; "environments" (distinct ones); "trials" by candidate
        and by seed (a str), each what `measure` returned, the index of its environment, the
        command and the date (UTC). Where `measure` returned "trained_in", the environment that a
        network was trained in, its index stands there instead.
    """
    path = output_path(settings)
    name = part_name(settings, variant)
    if settings.smoke:
        with alone(path):
            write(path, {key: part for key, part in read(path).items() if key != name})
    for seed in range(settings.seeds if seeds is None else seeds):
        for candidate in candidates:
            part = _part(path, name, fixed)[1]
            if str(seed) in part["trials"].get(candidate, {}):
                continue
            found = measure(candidate, seed)
            here = training.environment(ignored=(*WRITTEN, path.parent))
            # Read anew: another process may have measured something else meanwhile.
            with alone(path):
                content, part = _part(path, name, fixed)
                found["environment"] = _index(part["environments"], here)
                if "trained_in" in found:
                    found["trained_in"] = _index(part["environments"], found["trained_in"])
                found["command"] = command(settings)
                found["date"] = time.strftime("%Y-%m-%d", time.gmtime())
                part["trials"].setdefault(candidate, {})[str(seed)] = found
                write(path, content)
    return read(path)[name]


@contextlib.contextmanager
def alone(path):
    """Waits until no other process writes the results, and keeps others out meanwhile."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = None
    while lock is None:
        try:
            lock = locks.Lock(path.with_name(f".{path.name}.lock"))
        except BlockingIOError:
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.release()


def command(settings):
    """Returns the command that measures what these settings say, a str."""
    default = next(f.default for f in dataclasses.fields(settings) if f.name == "output")
    values = changed(type(settings), vars(settings))
    for name in ("output", "verbose", "data_dir", "smoke"):
        values.pop(name, None)
    words = [word for value in values.values() if isinstance(value, tuple) for word in value]
    words += flags({k: value for k, value in values.items() if not isinstance(value, tuple)})
    recipe = f"recipes.papers.{pathlib.Path(default).stem}"
    backend = keras.backend.backend()
    given = [f"KERAS_BACKEND={backend}"]
    if backend == "jax" and PRECISION in os.environ:
        given.append(f"{PRECISION}={os.environ[PRECISION]}")
    return shlex.join([*given, "python", "-m", recipe, *words])


def _index(environments, one):
    """Returns the place of an environment among distinct ones, which it joins if it is new."""
    if one not in environments:
        environments.append(one)
    return environments.index(one)


def _part(path, name, fixed):
    """Returns the file's content and one part of it, a new one where it is not there."""
    content = read(path)
    fixed = json.loads(json.dumps(fixed))
    part = content.setdefault(name, {"fixed": fixed, "environments": [], "trials": {}})
    if part["fixed"] != fixed:
        raise ValueError(
            f"{path} must have been measured under the same settings to be continued. "
            f"Received: {fixed}, where its part {name!r} has {part['fixed']}. "
            "Give another `output`."
        )
    return content, part


def part_name(settings, variant=None):
    """Returns the name of a part, a str.

    It is made of the dataset, the variant, how many images if not all, a rate other than the
    default, and the epochs.
    """
    images = settings.train_images and f"{settings.train_images} images"
    rate = None
    if settings.learning_rate != trials.Schedule.learning_rate:
        rate = f"rate {settings.learning_rate}"
    epochs = f"{settings.epochs} {'epoch' if settings.epochs == 1 else 'epochs'}"
    return ", ".join(filter(None, (settings.dataset, variant, images, rate, epochs)))


def picture(settings, *names, variant=None):
    """Returns the path of a picture beside the results, named for the part."""
    path = output_path(settings)
    name = "_".join([path.stem, part_name(settings, variant), *names])
    return path.with_name(f"{as_file_name(name)}.png")


def as_file_name(name):
    """Returns the name of a part as it stands in those of its pictures, without spaces."""
    return re.sub("[^A-Za-z0-9.]+", "_", name)


def read(path):
    """Returns the file's content by part, a dict; empty where there is no file."""
    path = pathlib.Path(path)
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} must hold results. Received: a file that cannot be read as them ({error}). "
            "Move it away to measure anew."
        ) from error


def write(path, content):
    with files.replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def conclude(settings, conclusions, variant=None):
    """Puts what follows from a part's trials beside them: summaries, tests, the paper's figures."""
    return concluded(settings, lambda part: conclusions, variant)


def concluded(settings, conclude, variant=None):
    """Does the same with what a function of the part returns, and returns the part.

    For recipes of which several processes measure one part: it is as it is in the file.
    """
    path = output_path(settings)
    with alone(path):
        content = read(path)
        part = content[part_name(settings, variant)]
        part.update(conclude(part))
        write(path, content)
    return part


def values(part, candidate, metric, seeds=None):
    """Returns one metric of a candidate's trials, a float64 array in the order of the seeds.

    Args:
        part: dict, of `measured`.
        candidate: str.
        metric: str, a key of each trial.
        seeds: sequence of str, which; None for all there are.
    """
    found = part["trials"][candidate]
    seeds = sorted(found, key=int) if seeds is None else seeds
    return np.array([found[seed][metric] for seed in seeds], "float64")


def paired(part, candidate, other, metric):
    """Returns the metric of two candidates over the seeds that both have, two arrays."""
    found = part["trials"]
    seeds = sorted(set(found[candidate]) & set(found[other]), key=int)
    return values(part, candidate, metric, seeds), values(part, other, metric, seeds)


def summary(numbers, scale=None):
    """Returns mean, standard deviation, n and the 95 % interval of the mean, a dict.

    The interval is Student's t on a `scale` as of `verdicts.interval`, so that it holds nothing
    that the numbers cannot be. One number has neither a deviation nor an interval, and equal ones
    have no interval: None.
    """
    numbers = np.asarray(numbers, "float64")
    found = {"mean": float(numbers.mean()), "standard_deviation": None, "n": len(numbers)}
    if len(numbers) > 1:
        found["standard_deviation"] = float(numbers.std(ddof=1))
    confidence = verdicts.interval(numbers, scale)[1]
    return {**found, "confidence_95": confidence and list(confidence)}


def paired_test(ours, theirs):
    """Returns the mean difference of pairs, its 95 % interval and the t-test's two-sided p, a dict.

    "differences" are those of the pairs. Fewer than two pairs, or differences that are all the same
    but for rounding, have neither interval nor test: None.
    """
    differences = np.asarray(ours, "float64") - np.asarray(theirs, "float64")
    p_value = None
    if _differ(differences):
        p_value = float(stats.ttest_1samp(differences, 0).pvalue)
    return {
        "difference": float(differences.mean()),
        "confidence_95": _interval(differences),
        "p_value": p_value,
        "n": len(differences),
        "differences": differences.tolist(),
    }


def equivalence_test(ours, theirs, margin):
    """Returns the same for the claim that the difference is less than a margin either way.

    Two one-sided t-tests of the pairs' differences against -margin and +margin (TOST): "p_value"
    is the larger of the two, and a small one says that they are equivalent.
    """
    differences = np.asarray(ours, "float64") - np.asarray(theirs, "float64")
    found = {**paired_test(ours, theirs), "margin": margin, "p_value": None}
    if _differ(differences):
        above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
        found["p_value"] = float(max(above, below))
    return found


def not_worse_test(ours, theirs, margin):
    """Returns the same for the claim that ours are not lower by as much as a margin.

    A one-sided t-test of the pairs' differences against -margin; "lower_95" is the bound that the
    mean difference is above with 95 % confidence, None where there is no test.
    """
    differences = np.asarray(ours, "float64") - np.asarray(theirs, "float64")
    found = {**paired_test(ours, theirs), "margin": margin, "p_value": None, "lower_95": None}
    if _differ(differences):
        n = len(differences)
        above = stats.ttest_1samp(differences, -margin, alternative="greater")
        found["p_value"] = float(above.pvalue)
        below = stats.sem(differences) * stats.t.ppf(0.95, n - 1)
        found["lower_95"] = float(differences.mean() - below)
    return found


def _differ(numbers):
    """Whether there are several numbers that differ by more than float64 rounds."""
    return len(numbers) > 1 and np.ptp(numbers) > 1e-9 * np.abs(numbers).max()


def _interval(numbers):
    if not _differ(numbers):
        return None
    half = stats.sem(numbers) * stats.t.ppf(0.975, len(numbers) - 1)
    return [float(numbers.mean() - half), float(numbers.mean() + half)]
