"""Files, folders and patterns stand for images."""

from pathlib import Path

import pytest

from mobilevision.inference.sources import distinct_names, find_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "deep/c.webp", "deep/notes.txt", "out/drawings/a.jpg", "empty/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def found(folder: Path, *sources: str) -> list[str]:
    paths = find_sources([str(folder / source) for source in sources], exclude=folder / "out")
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_stands_for_the_images_below_it_but_not_for_the_output(folder):
    assert found(folder, "") == ["a.PNG", "b.jpg", "deep/c.webp"]


def test_a_file_stands_for_itself_whatever_its_suffix_and_every_image_comes_once(folder):
    assert found(folder, "deep/notes.txt", "b.jpg", "") == ["deep/notes.txt", "b.jpg", "a.PNG", "deep/c.webp"]


@pytest.mark.parametrize(
    ("pattern", "images"), [("*.jpg", ["b.jpg"]), ("**/*.webp", ["deep/c.webp"]), ("de*", ["deep/c.webp"])]
)
def test_a_pattern_stands_for_what_it_matches(folder, pattern, images):
    assert found(folder, pattern) == images


def test_a_file_of_a_name_with_brackets_is_no_pattern(folder):
    (folder / "c[1].jpg").touch()
    assert found(folder, "c[1].jpg") == ["c[1].jpg"]


@pytest.mark.parametrize("source", ["empty", "*.tif"])
def test_a_source_without_images_is_refused(folder, source):
    with pytest.raises(ValueError, match="no images in .*" + source.strip("*")):
        found(folder, source)


def test_a_missing_file_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg not found"):
        found(folder, "nowhere.jpg")


def test_names_are_distinct_whatever_their_case():
    names = distinct_names([Path("a/cat.jpg"), Path("b/cat.jpg"), Path("cat_2.png"), Path("CAT.png"), Path("dog.png")])
    assert names == ["cat", "cat_2", "cat_2_2", "CAT_3", "dog"]
