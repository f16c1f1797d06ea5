import json
import os
import stat
from pathlib import Path

import pytest

from mobilevision.files import replacing, replacing_files, write_json, write_text


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        assert not (tmp_path / "a.txt").exists()
        temporary.write_text("whole")
    assert contents(tmp_path) == {"a.txt": "whole"}


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert contents(tmp_path) == {"a.txt": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def write_half() -> None:
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert contents(tmp_path) == {"a.txt": "old"}


def test_the_temporary_name_is_hidden_beside_the_file_with_its_suffix(tmp_path: Path) -> None:
    with replacing(tmp_path / "picture.png") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".png"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert contents(tmp_path) == {"a/b/c.txt": "x"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_others_may_read_as_the_umask_says(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_a_folder_in_the_way_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match=r"a\.txt"):
        write_text(tmp_path / "a.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Käfer 犬\n")
    assert (tmp_path / "a.txt").read_bytes() == "Käfer 犬\n".encode()


def test_json_comes_back_and_ends_with_a_line(tmp_path: Path) -> None:
    data = {"map": 0.25, "names": ["a", "Käfer"], "nothing": None}
    write_json(tmp_path / "a.json", data)
    assert json.loads((tmp_path / "a.json").read_text()) == data
    assert (tmp_path / "a.json").read_text().endswith("}\n")


def test_what_json_does_not_know_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert contents(tmp_path) == {}


def test_several_files_appear_together(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with replacing_files(target) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "a.txt").write_text("a")
        (temporary / "deep" / "b.txt").write_text("b")
        assert not target.exists()
    assert contents(tmp_path) == {"out/a.txt": "a", "out/deep/b.txt": "b"}


def test_several_files_replace_their_namesakes_and_leave_the_others(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_text(target / "a.txt", "old")
    write_text(target / "other.txt", "other")
    with replacing_files(target) as temporary:
        (temporary / "a.txt").write_text("new")
    assert contents(target) == {"a.txt": "new", "other.txt": "other"}


def test_an_error_leaves_none_of_several_files(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_text(target / "a.txt", "old")

    def write_some() -> None:
        with replacing_files(target) as temporary:
            (temporary / "a.txt").write_text("new")
            (temporary / "b.txt").write_text("new")
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        write_some()
    assert contents(tmp_path) == {"out/a.txt": "old"}
