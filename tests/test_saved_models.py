import pathlib

from keras_fmm import export

FOLDER = pathlib.Path(__file__).parents[1] / "saved_models"


def test_every_artefact_is_what_its_manifest_says():
    entries = export.check_manifest(FOLDER)
    assert entries
    for entry in entries:
        assert sum((FOLDER / file).stat().st_size for file in entry["files"]) < 2_000_000
