import importlib
import json
import math
import pathlib
import re
import shlex

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the benchmarks export", allow_module_level=True)

from recipes.lab import comparison, figures, report, sections, settings, verdicts
from recipes.papers import rate_search

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder into which the command wrote all pages, laid out as docs/."""
    docs = tmp_path_factory.mktemp("docs")
    given = report.Settings(
        results=str(ROOT / "recipes/results"),
        output=str(docs / "reproduction.md"),
        pages=str(docs / "results"),
        pictures=False,
    )
    page = report.main(given)
    assert (docs / "reproduction.md").read_text(encoding="utf-8") == page
    return docs


@pytest.mark.slow_on_tensorflow
def test_the_committed_pages_are_what_the_command_writes(written):
    pages = [path.relative_to(written) for path in sorted(written.rglob("*.md"))]
    assert [page.stem for page in pages] == [
        "reproduction",
        "accelerator",
        "aw_conv",
        "detection",
        "detection_cost",
        "first_step",
        "memory",
        "mobile",
        "models",
        "quantization",
        "residuals",
        "self_attention",
    ]
    for page in pages:
        committed = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert committed == (written / page).read_text(encoding="utf-8"), (
            f"Write docs/{page} anew: make report"
        )


def test_pictures_and_pages_that_are_named_are_there(written):
    for path in written.rglob("*.md"):
        beside = ROOT / "docs" / path.relative_to(written).parent
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (beside / target).exists(), f"{path.name} names {target}"


def test_the_first_table_has_the_verdicts_of_the_sections_and_leads_to_them(written):
    page = (written / "reproduction.md").read_text(encoding="utf-8")
    table, _, rest = page.partition("\n## ")
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    head, *rows = [re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in lines]
    assert head[4] == "verdict"
    sections = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", "## " + rest, flags=re.M | re.S))
    found = []
    for row in rows:
        title, address = re.fullmatch(r"\[(.*)\]\(#(.*)\)", row[-1]).groups()
        heading = f"{title}: {row[1]}"
        slug = "".join(c for c in heading.lower() if c.isalnum() or c in " _-").replace(" ", "-")
        assert address == slug
        assert row[4] in (*verdicts.OUTCOMES, "not finished")
        if row[4] != "not finished":
            claim = row[0].replace("\\|", "|")
            (line,) = [x for x in sections[heading].splitlines() if x.startswith(f"- {claim}")]
            assert f": {row[4]}" in line
            found.append((heading, line))
    # Every primary endpoint of a section is among them, and every section of a paper's claims.
    for heading, text in sections.items():
        primary = [x for x in text.splitlines() if x.endswith("[primary]")]
        assert {(heading, x) for x in primary} <= set(found)
    ours = [x for x in sections if x.startswith("Deep products") and "[primary]" not in sections[x]]
    listed = {f"{x[-1][1:].partition(']')[0]}: {x[1]}" for x in rows}
    assert listed == set(list(sections)[2:]) - set(ours)


def test_the_commands_parse(written):
    page = (written / "reproduction.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", page, flags=re.M | re.S)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) > 20
    for command in commands:
        words = [word for word in shlex.split(command) if not re.match("[A-Z_]+=", word)]
        assert words[:2] == ["python", "-m"]
        recipe = importlib.import_module(words[2])
        given = settings.parse(recipe.Settings, "", words[3:])[0]
        assert given.seeds > 0


def test_a_claim_of_some_blocks_names_the_commands_of_those(written):
    page = (written / "reproduction.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) blocks of (\w+) are .*?\| `(.*?)`", page, flags=re.M)
    assert rows
    for blocks, form, command in rows:
        words = shlex.split(command)
        # 54 is the default.
        told = words[words.index("--blocks") + 1] if "--blocks" in words else "54"
        assert told == blocks
        assert form in words


def test_commands_are_those_of_the_trials_and_of_older_ones_what_follows_from_the_name():
    older = {"environment": 0}
    trials = {"a at 1": {"0": {"command": "first"}}, "b at 1": {"0": older, "1": older}}
    trials["c at 1"] = {"0": older, "1": {"command": "second"}}
    section = sections.Section("x", "X", "y", None, None, flags=lambda name, part: list_of(part))

    def list_of(part):
        return {"networks": tuple(part["trials"])}

    part = {"trials": trials, "environments": [{"versions": {"backend": "torch 2.13"}}]}
    derived = "KERAS_BACKEND=torch python -m recipes.papers.x 'b at 1' 'c at 1'"
    derived += " --dataset digits --epochs 3 --seeds 2"
    assert section.commands("digits, 3 epochs", part) == ["first", "second", derived]
    assert section.commands("digits, 3 epochs", part, ("a at 1",)) == ["first"]
    only = derived.replace("'c at 1' ", "")
    assert section.commands("digits, 3 epochs", part, ("b at 1",)) == [only]


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        ([("2026-11-27", "a")], "before the rules"),
        ([("2026-11-28", "b")], "before the rules"),
        ([("2026-11-28", verdicts.WITH_RULES[0] + "3")], "after the rules"),
        ([("2026-11-29", "b"), ("2026-11-28", verdicts.WITH_RULES[0])], "after the rules"),
        ([("2026-11-29", "b"), ("2026-11-28", "b")], "in part before the rules"),
    ],
)
def test_what_was_measured_before_the_rules_is_told(measured, told):
    environments = [{"git": {"commit": commit, "dirty": False}} for _, commit in measured]
    trials = [{"date": day, "environment": index} for index, (day, _) in enumerate(measured)]
    assert sections.beside_rules(environments, trials) == told
    assert sections.beside_rules([{"git": None}], [{"date": "2026-11-28", "environment": 0}]) == (
        "before the rules"
    )


def test_a_score_on_validation_tells_how_many_diverged():
    runs = {
        "0": {"val_accuracy": [0.1, 0.2, 0.3, 0.4, 0.8]},
        "1": {"val_accuracy": [], "finite": False},
    }
    part = {"search_seeds": 2, "trials": {"AM at 0.1": runs, "AM at 1": {"0": runs["1"]}}}
    assert rate_search.score_of(part, "AM at 0.1") == "40.00 (1 of 2 diverged)"
    assert rate_search.score_of({**part, "search_seeds": 1}, "AM at 1") == "diverged"


def test_a_section_by_another_route(written):
    content = json.loads((ROOT / "recipes/results/sensitivity.json").read_text())
    trials = content["cifar10, 20 epochs"]["trials"]
    page = (written / "reproduction.md").read_text(encoding="utf-8")
    section = page.partition("\n## FMM, Table II: cifar10, 20 epochs\n")[2].partition("\n## ")[0]
    for measure, words in (
        ("jacobian", "the Jacobian's norm J"),
        ("output_sensitivity", "the logits' variance S"),
    ):
        logs = [math.log(trials["CNN"][s][measure] / trials["AM"][s][measure]) for s in "012"]
        mean = sum(logs) / 3
        error = math.sqrt(sum((x - mean) ** 2 for x in logs) / 2 / 3)
        # Student's t of 2 degrees of freedom has a closed form.
        t = mean / error
        p_value = 1 - t / math.sqrt(2 + t**2)
        low, high = mean - 4.302653 * error, mean + 4.302653 * error
        numbers = f"{mean:+.3g} ({low:+.3g} to {high:+.3g}), p {p_value:.2g}"
        (line,) = [x for x in section.splitlines() if x.startswith(f"- {words}")]
        assert numbers in line


@pytest.mark.slow_on_tensorflow
def test_pictures_of_trials_say_data_epochs_and_seeds(tmp_path, monkeypatch):
    titles = {}

    def save_figure(figure, path):
        titles[path.name] = figure.get_suptitle()

    monkeypatch.setattr("keras_fmm.plots.save_figure", save_figure)
    for section, name, part, _ in report.measured(ROOT / "recipes/results"):
        if section.draw is not None:
            before = set(titles)
            of_part = comparison.as_file_name(f"{section.recipe}_{name}")
            section.draw(name, part, tmp_path / f"{of_part}.png")
            for new in set(titles) - before:
                assert titles[new].startswith(f"{name}: ")
                assert titles[new].count("(n = ") == (2 if section.recipe == "deep_products" else 1)
    results = {path.name for path in (ROOT / "recipes/results").glob("*.png")}
    # Curves along ellipses are not kept.
    others = {x for x in results if x.startswith(("deep", "fmmnet", "importance"))}
    assert set(titles) == others


def test_a_picture_is_the_same_bytes_again(tmp_path):
    rows = {"A is better": ((0.1, 0.2, 0.4), (0.0, 0.5), (0,)), "B is": ((1.0, 1.0), None, (-1, 1))}
    paths = [tmp_path / name for name in ("first.png", "second.png")]
    for path in paths:
        figures.differences(rows, "digits, 2 epochs", "points", path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_benchmarks_without_results_have_no_page(tmp_path):
    for name in ("aw_conv", "models", "mobile", "quantization"):
        assert report.PAGES[name](tmp_path) is None


def test_what_is_not_finished_is_said(tmp_path):
    environment = {
        "device": {"kind": "cpu"},
        "versions": {"keras": "3.15.1", "backend": "jax"},
        "git": None,
    }
    trial = {"environment": 0, "date": "2026-11-28"}
    part = {"fixed": {}, "environments": [environment], "trials": {"AM": {"0": trial}}}
    comparison.write(tmp_path / "multiplication_is_the_key.json", {"mnist, 10 epochs": part})
    page = report.main(report.Settings(results=str(tmp_path), output=str(tmp_path / "page.md")))
    assert "\nNot finished: the same command goes on.\n" in page
    assert "measured with unknown" in page
    with pytest.raises(ValueError, match="`results` must be a folder"):
        report.main(report.Settings(results="typo", output=str(tmp_path / "page.md")))
