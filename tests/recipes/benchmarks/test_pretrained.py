import json

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports", allow_module_level=True)

import numpy as np
from PIL import Image

from recipes.benchmarks import pretrained as recipe


def trial(right, same, total=150):
    return {
        "images": total,
        "right": right,
        "right_of_keras": 77,
        "same": same,
        "seconds": [3.0, 1.0, 2.0],
        "bytes": 600000,
        "date": "2026-01-02",
        "environment": {
            "device": {"kind": "cpu", "names": ["A CPU"]},
            "versions": {"keras": "3.1", "backend": "tensorflow"},
        },
    }


def test_the_section_says_what_is_as_required(tmp_path):
    assert recipe.section(tmp_path) is None
    trials = {"plain": {"int8": trial(76, 138), "dynamic": trial(75, 149)}}
    content = {recipe.PART: {"fixed": {}, "trials": trials}}
    (tmp_path / "pretrained.json").write_text(json.dumps(content))
    text = recipe.section(tmp_path)
    assert "Measured on 2026-01-02: Keras 3.1 on tensorflow, A CPU.\n" in text
    # The interval is Wilson's.
    assert "| plain | int8 | 150 | 77 | 76 | 138 (92.0%) | 86.5 to 95.4 | yes | 600 | 2 |" in text
    assert "| plain | dynamic | 150 | 77 | 75 | 149 (99.3%)" in text
    assert "| no | 600 | 2 |" in text  # 2 of 150 are more than a point.


def test_photographs_are_cut_from_the_middle(tmp_path):
    folder = tmp_path / "n02102040"
    folder.mkdir()
    pixels = np.zeros((256, 512, 3), "uint8")
    pixels[:, 256 - 112 : 256 + 112] = 255
    Image.fromarray(pixels).save(folder / "one.png")
    images, labels = recipe.photographs(tmp_path)
    assert images.shape == (1, 224, 224, 3)
    assert images.min() == 1
    assert labels.tolist() == [217]
    with pytest.raises(ValueError, match="must hold folders named n01440764"):
        recipe.photographs(folder)


@pytest.mark.slow
def test_each_fold_is_scored_on_once(tmp_path, capsys):
    output = tmp_path / "results.json"
    settings = recipe.Settings(smoke=True, output=str(output), verbose="0")
    found = recipe.main(settings)[recipe.PART]["trials"]["plain"]["int8"]
    assert found["images"] == 9
    assert len(found["seconds"]) == 3
    assert "| plain | int8 | 9 |" in capsys.readouterr().out
