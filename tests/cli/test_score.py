import json

import pytest


@pytest.fixture
def files(tmp_path):
    """An annotation file of one object and a result file that finds it but calls it another."""
    truth = {
        "images": [{"id": 3, "height": 50, "width": 50}],
        "categories": [{"id": 1, "name": "boat"}, {"id": 2, "name": "kite"}],
        "annotations": [{"id": 1, "image_id": 3, "category_id": 1, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 0}],
    }
    found = [{"image_id": 3, "category_id": 2, "bbox": [0, 0, 20, 20], "score": 0.9}]
    for name, data in (("truth.json", truth), ("found.json", found)):
        (tmp_path / name).write_text(json.dumps(data))
    return ["coco", "--annotations", tmp_path / "truth.json", "--predictions", tmp_path / "found.json"]


def test_the_figures_go_to_one_file_and_the_details_to_another(files, run, tmp_path):
    outcome = run("score", *files, "--json", tmp_path / "figures.json", "--details", tmp_path / "details.json")
    assert (outcome.code, outcome.err) == (0, "")
    assert "map_50" in outcome.out
    figures, details = (json.loads((tmp_path / name).read_text()) for name in ("figures.json", "details.json"))
    assert len(figures) == 12
    assert figures["map"] == 0.0
    assert details["confusion"]["counts"] == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert details["errors"]["kinds"]["classification"] == {"count": 1, "lost_map_50": 1.0}


def test_without_being_asked_for_no_file_is_written(files, run, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert run("score", *files).code == 0
    assert sorted(tmp_path.iterdir()) == before
