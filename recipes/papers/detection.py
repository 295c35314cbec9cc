"""Does attention in the feature pyramid find more objects, in small RetinaNets?

Question: "An Attention Module for Convolutional Neural Networks" (AW) puts AW-convolutions,
squeeze-and-excite or CBAM into the feature pyramid of Faster R-CNN with ResNet-101 and reports
COCO's AP (Table 3). What do they change in RetinaNets of half a million to a million parameters?
Data: digits on canvases; or a folder, as of `recipes.detect`.
Command:

    python -m recipes.papers.detection --dataset digits_on_canvas --seeds 5

Each trial is a run of `recipes.detect` at its defaults, in a folder of its own under
runs/detection, which goes on or is taken as it is when it is there; one whose scores are in the
results already is not trained again. Scores are of the detector of
the last epoch, on the split that `--split` names; differences from the plain pyramid are paired by
seed, which gives weights, order and augmentation. The papers' figures are COCO's, of far larger
networks: they stand beside ours to say what was claimed, and are not compared.
The highest learning rate was chosen on validation (canvases, seed 0, 2026-11-28). AP50 in percent
at 0.002, 0.004 and 0.008: plain 93.0, 93.6 and not run; CBAM 81.0, 86.1 and 8.4. Larger images, in
smaller batches, keep 0.002: on BCCD's val.txt the plain one had 86.7 with it and 57.7 at 0.004.
Cost: canvases six to twelve CPU minutes a trial, BCCD some ten.
Measured: recipes/results/detection.json and docs/results/detection.md, where they are there.
"""

import dataclasses
import json
import pathlib
import shlex

import keras

from recipes import detect
from recipes.lab import accuracies, comparison, sections, verdicts
from recipes.lab.settings import flags, output_path, setting, start, verbosity

# What stands in the pyramid: attention, convolution.
CANDIDATES = {
    "plain": (None, None),
    "squeeze_excite": ("squeeze_excite", None),
    "cbam": ("cbam", None),
    "aw": (None, "aw"),
}
# COCO's AP of Faster R-CNN with ResNet-101-FPN, Table 3 of the paper.
PAPER = {"plain": 37.13, "squeeze_excite": 38.11, "cbam": 37.74, "aw": 37.76}
METRICS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained and how often."""

    dataset: str = setting("digits_on_canvas", "as of recipes.detect")
    format: str | None = setting(None, "of a folder", choices=("voc", "coco", "yolo"))
    split: str = setting("test", "what is scored", choices=("validation", "test"))
    seeds: int = setting(5, "how many seeds, from 0 on", minimum=1)
    runs: str = setting("runs/detection", "folder of the runs")
    remark: str | None = setting(None, "what the page should say of these runs")
    output: str = setting("recipes/results/detection.json", "where results go")
    verbose: str = verbosity()
    smoke: bool = setting(False, "two candidates, one seed, two steps")


def main(settings):
    """Trains what is missing, tests, prints; returns the part of the results, a dict."""
    path = output_path(settings)
    name = pathlib.Path(settings.dataset).name
    if settings.smoke:
        with comparison.alone(path):
            others = {key: part for key, part in comparison.read(path).items() if key != name}
            comparison.write(path, others)
    found = dict(list(CANDIDATES.items())[: 2 if settings.smoke else None])
    for seed in range(1 if settings.smoke else settings.seeds):
        for candidate in found:
            part = part_of(settings, comparison.read(path), name)
            # What the file has is not trained again.
            if str(seed) not in part["trials"].get(candidate, {}):
                run = trial(settings, candidate, seed, part)
                # Read anew: another process may have trained something else meanwhile.
                with comparison.alone(path):
                    content = comparison.read(path)
                    part = part_of(settings, content, name)
                    record(part, candidate, seed, run)
                    comparison.write(path, content)
    with comparison.alone(path):
        content = comparison.read(path)
        part = part_of(settings, content, name)
        part.update(conclusions(part), paper_ap_coco=PAPER)
        if settings.remark:
            part["remark"] = settings.remark
        comparison.write(path, content)
    print(table(part))
    return part


def part_of(settings, content, name):
    """Returns a part of the results, which is put there if it is new; refuses another's."""
    if name not in content:
        part = {"split": settings.split, "fixed": None, "environments": [], "trials": {}}
        content[name] = part
    part = content[name]
    if part["split"] != settings.split:
        raise ValueError(
            "`split` must be the one that the results are of. Received: "
            f"{settings.split!r}, where those of {name!r} are of {part['split']!r}. "
            "Give another `output`."
        )
    if part["fixed"]:
        # Before anything trains for minutes. None follows from the dataset, which is seen later.
        wanted = fixed_of(detect.identity(run_of(settings, "plain", 0)))
        given = {k: v for k, v in wanted.items() if v is not None or k == "format"}
        refuse_other(f"dataset={settings.dataset!r}", {**part["fixed"], **given}, part["fixed"])
    return part


def run_of(settings, candidate, seed):
    """Returns the settings of a run, `detect.Settings`."""
    attention, convolution = CANDIDATES[candidate]
    name = f"{pathlib.Path(settings.dataset).name}_{candidate}_{seed}"
    workdir = pathlib.Path(settings.runs) / (f"smoke_{name}" if settings.smoke else name)
    return detect.Settings(
        settings.dataset,
        settings.format,
        attention=attention,
        convolution=convolution,
        seed=seed,
        workdir=str(workdir),
        smoke=settings.smoke,
        verbose=settings.verbose,
    )


def trial(settings, candidate, seed, part):
    """Returns the record of a run; trains it where it has not finished."""
    given = run_of(settings, candidate, seed)
    file = pathlib.Path(given.workdir) / "run.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if found.get("status") != "finished":
        found = detect.main(given)
        keras.backend.clear_session()
    if part["fixed"]:
        refuse_other(given.workdir, fixed_of(found["config"]), part["fixed"])
    return found


def record(part, candidate, seed, found):
    """Puts what a run scored into a part of the results."""
    environment = found["environment"]
    part["fixed"] = part["fixed"] or fixed_of(found["config"])
    if environment not in part["environments"]:
        part["environments"].append(environment)
    metrics = found["metrics"]
    scores = metrics["validation"] if part["split"] == "validation" else metrics
    part["trials"].setdefault(candidate, {})[str(seed)] = {
        **{key: scores[key] for key in (*METRICS, "by_class", "images")},
        "parameters": metrics["parameters"],
        "seconds": round(sum(found["seconds_per_epoch"])),
        "environment": part["environments"].index(environment),
        "date": found["end"][:10],
    }


def fixed_of(config):
    """Returns what of a run's settings all runs share, a dict."""
    own = ("attention", "convolution", "seed", "dataset", "root")
    return {key: value for key, value in config.items() if key not in own}


def refuse_other(what, given, fixed):
    """Raises ValueError where a run has other settings than the ones that all share."""
    if given != fixed:
        names = [key for key in {**fixed, **given} if given.get(key) != fixed.get(key)]
        ours, theirs = ({key: x.get(key) for key in names} for x in (given, fixed))
        raise ValueError(
            "All runs must have the same settings but for seed, attention and convolution. "
            f"Received: {what} with {ours}, where the results so far have {theirs}. "
            "Name another folder of `runs`, or another `output`."
        )


def conclusions(part):
    """Returns summaries by candidate, and differences from the plain one, by metric."""
    found = {"summaries": {}, "tests": {}}
    for metric in METRICS:
        found["summaries"][metric] = {
            name: accuracies.summary(part, name, metric) for name in part["trials"]
        }
        found["tests"][metric] = {
            name: comparison.paired_test(
                *(100 * x for x in comparison.paired(part, name, "plain", metric))
            )
            for name in part["trials"]
            if name != "plain"
        }
    return found


def table(part):
    """Returns Markdown: of each candidate the scores, and the difference in AP from the plain."""
    lines = [
        "| in the pyramid | parameters | AP50, % | AP, % | AP minus plain (95 %) | p | Holm | n | "
        "COCO, the paper |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    tests = part["tests"]["ap"]
    # One that could not be tested counts as a test.
    raw = [1.0 if test["p_value"] is None else test["p_value"] for test in tests.values()]
    corrected = dict(zip(tests, verdicts.holm(raw), strict=True))
    for name, found in part["trials"].items():
        ap50, ap = (part["summaries"][metric][name] for metric in ("ap50", "ap"))
        test = tests.get(name)
        difference, p_value, holm = "", "", ""
        if test is not None:
            difference = f"{test['difference']:+.2f} ({accuracies.interval(test)})"
            p_value = accuracies.p_value(test)
            holm = verdicts.shown_p(corrected[name])
        cells = [
            name,
            f"{next(iter(found.values()))['parameters']:,}",
            f"{ap50['mean']:.1f} ({accuracies.interval(ap50, '.1f')})",
            f"{ap['mean']:.1f} ({accuracies.interval(ap, '.1f')})",
            difference,
            p_value,
            holm,
            str(ap["n"]),
            f"{PAPER[name]:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(results):
    """Returns the page of a folder of results, a str, or None where nothing was measured."""
    content = comparison.read(results / "detection.json")
    if not content:
        return None
    lines = [
        "# Attention in the feature pyramid",
        "",
        "RetinaNets of half a million to a million parameters, trained by `recipes.detect` at its "
        "defaults, with something in each lateral and output convolution of the pyramid. Means "
        "over the seeds, and their 95 % intervals; differences are paired by seed, and their p is "
        "corrected by Holm for the three of a table. The last column "
        'quotes Table 3 of "An Attention Module for Convolutional Neural Networks": AP on COCO of '
        "Faster R-CNN with ResNet-101. Those are the paper's figures, of other networks and "
        "images, and nothing here was trained on COCO.",
        "",
    ]
    for name, part in content.items():
        # Anew from the trials: the file may have been written under older rules.
        part = {**part, **conclusions(part)}
        first = next(iter(part["trials"]["plain"].values()))
        lines += [
            f"## {name}",
            "",
            table(part),
            "",
            f"{first['images']} images of {part['split']}. {machines(part)}",
            *([part["remark"]] if "remark" in part else []),
            "",
        ]
    lines += ["What trains those that are missing; with another `--output` and `--runs`, all:", ""]
    lines += ["```", *(command(name, part) for name, part in content.items()), "```", ""]
    return "\n".join(lines)


def command(name, part):
    """Returns the command of a part, a str; a folder is one beside the checkout, of that name."""
    of_folder = part["fixed"].get("format")
    values = {"dataset": f"../{name}", "format": of_folder} if of_folder else {}
    if part["split"] != "test":
        values["split"] = part["split"]
    values["seeds"] = 1 + max(int(seed) for seeds in part["trials"].values() for seed in seeds)
    return shlex.join(["python", "-m", "recipes.papers.detection", *flags(values)])


def machines(part):
    """Returns on what and when it was trained, a sentence."""
    trials = [trial for of_name in part["trials"].values() for trial in of_name.values()]
    # They differ by their commits too.
    where = " and ".join(
        dict.fromkeys(
            f"{sections.machine(each)} ({each['device']['kind']})" for each in part["environments"]
        )
    )
    days = sorted({trial["date"] for trial in trials})
    text = f"Trained on {where}, {' to '.join(dict.fromkeys((days[0], days[-1])))}"
    seconds = [trial["seconds"] for trial in trials if "seconds" in trial]
    if len(seconds) < len(trials):
        return f"{text}."
    return f"{text}, {min(seconds)} to {max(seconds)} seconds a trial."


if __name__ == "__main__":
    start(main, Settings, __doc__)
