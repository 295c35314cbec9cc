import pathlib
import re

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the benchmarks export", allow_module_level=True)

from recipes.lab import comparison, report

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder into which the command wrote all pages, laid out as docs/."""
    docs = tmp_path_factory.mktemp("docs")
    settings = report.Settings(
        results=str(ROOT / "recipes/results"),
        output=str(docs / "reproduction.md"),
        pages=str(docs / "results"),
    )
    page = report.main(settings)
    assert (docs / "reproduction.md").read_text(encoding="utf-8") == page
    return docs


def test_the_committed_pages_are_what_the_command_writes(written):
    pages = [path.relative_to(written) for path in sorted(written.rglob("*.md"))]
    assert [page.stem for page in pages] == [
        "reproduction",
        "accelerator",
        "aw_conv",
        "first_step",
        "memory",
        "mobile",
        "models",
        "quantization",
        "residuals",
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


def test_the_first_table_has_every_claim_and_leads_to_it(written):
    page = (written / "reproduction.md").read_text(encoding="utf-8")
    table, _, rest = page.partition("\n## ")
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    # Every statement that a section judges has its row, in the same order, with its verdict.
    judged = re.findall(r"^- .*?: (?=\*\*|cannot tell|no verdict|of 1, 2)(.*)$", rest, flags=re.M)
    unfinished = page.count("Not finished: the same command goes on.")
    judged = [each for each in judged if "interval" not in each]
    assert len(rows) == len(judged) + unfinished
    known = ("**holds**", "**does not hold**", "cannot tell", "no verdict")
    verdicts = [re.split(r" (?<!\\)\| ", row)[2] for row in rows]
    for verdict, words in zip([v for v in verdicts if v != "not finished"], judged, strict=True):
        assert verdict in known
        assert words.startswith(verdict) or (verdict == "no verdict" and words.startswith("of 1"))
    headings = {
        "".join(c for c in line[3:].lower() if c.isalnum() or c in " _-").replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("## ")
    }
    assert set(re.findall(r"\(#(.*?)\) \|$", table, flags=re.M)) <= headings


def test_benchmarks_without_results_have_no_page(tmp_path):
    for name in ("aw_conv", "models", "mobile", "quantization"):
        assert report.PAGES[name](tmp_path) is None


def test_what_is_not_finished_is_said(tmp_path):
    part = {"fixed": {}, "environments": [], "trials": {"AM": {"0": {}}}}
    comparison.write(tmp_path / "multiplication_is_the_key.json", {"mnist, 10 epochs": part})
    page = report.main(report.Settings(results=str(tmp_path), output=str(tmp_path / "page.md")))
    assert page.rstrip().endswith("Not finished: the same command goes on.")
    with pytest.raises(ValueError, match="`results` must be a folder"):
        report.main(report.Settings(results="typo", output=str(tmp_path / "page.md")))
