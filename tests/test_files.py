import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mobilevision.files import replacing, replacing_files, write_json, write_text


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_appears_when_it_is_complete_and_the_old_one_stays_until_then(tmp_path: Path) -> None:
    for old in ({}, {"a.png": "old"}):
        for name, text in old.items():
            (tmp_path / name).write_text(text)
        with replacing(tmp_path / "a.png") as temporary:
            temporary.write_text("new")
            others = contents(tmp_path)
            assert others.pop(temporary.name) == "new"
            assert others == old
            # Beside the file, hidden and with its suffix.
            assert (temporary.parent, temporary.name[0], temporary.suffix) == (tmp_path, ".", ".png")
        assert contents(tmp_path) == {"a.png": "new"}
        (tmp_path / "a.png").unlink()


def write_half_a_file(folder: Path, error: BaseException) -> None:
    with replacing(folder / "a.txt") as temporary:
        temporary.write_text("half")
        raise error


def write_half_of_several_files(folder: Path, error: BaseException) -> None:
    with replacing_files(folder) as temporary:
        (temporary / "a.txt").write_text("new")
        (temporary / "b.txt").write_text("new")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("write", [write_half_a_file, write_half_of_several_files])
def test_an_error_leaves_the_old_file_and_nothing_else(
    write: Callable[[Path, BaseException], None], error: type[BaseException], tmp_path: Path
) -> None:
    write_text(tmp_path / "out" / "a.txt", "old")
    with pytest.raises(error):
        write(tmp_path / "out", error())
    assert contents(tmp_path) == {"out/a.txt": "old"}


def test_missing_folders_are_created(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert contents(tmp_path) == {"a/b/c.txt": "x"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_others_may_read_as_the_umask_allows(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


def test_a_folder_of_the_same_name_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match=r"a\.txt"):
        write_text(tmp_path / "a.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Käfer 犬\n")
    assert (tmp_path / "a.txt").read_bytes() == "Käfer 犬\n".encode()


def test_json_is_read_back_and_ends_with_a_newline(tmp_path: Path) -> None:
    data = {"map": 0.25, "names": ["a", "Käfer"], "nothing": None}
    write_json(tmp_path / "a.json", data)
    assert json.loads((tmp_path / "a.json").read_text()) == data
    assert (tmp_path / "a.json").read_text().endswith("}\n")


def test_a_value_unknown_to_json_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert contents(tmp_path) == {}


def test_several_files_appear_together_replace_those_of_their_names_and_leave_the_others(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with replacing_files(target) as temporary:
        write_text(temporary / "a.txt", "old")
        write_text(temporary / "deep" / "b.txt", "b")
        assert not target.exists()
    assert contents(tmp_path) == {"out/a.txt": "old", "out/deep/b.txt": "b"}
    with replacing_files(target) as temporary:
        write_text(temporary / "a.txt", "new")
    assert contents(tmp_path) == {"out/a.txt": "new", "out/deep/b.txt": "b"}
