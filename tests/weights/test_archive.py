import gzip
import io
import tarfile
from pathlib import Path

import pytest

from mobilevision.weights.archive import read_archived_graph


@pytest.fixture
def pack(tmp_path):
    def write(members: dict[str, bytes]) -> Path:
        path = tmp_path / "model.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    return write


def test_the_frozen_graph_is_taken_of_all_that_a_zoo_packs(pack):
    path = pack(
        {"m/model.ckpt.data": b"1", "m/saved_model/saved_model.pb": b"2", "m/frozen.pb": b"3", "m/m.tflite": b"4"}
    )

    assert read_archived_graph(path) == b"3"


def test_a_tflite_file_is_taken_where_there_is_no_graph(pack):
    assert read_archived_graph(pack({"model.ckpt": b"1", "model.tflite": b"2"})) == b"2"


def test_an_archive_of_something_else_is_refused(pack):
    with pytest.raises(ValueError, match="holds neither a frozen graph"):
        read_archived_graph(pack({"readme.txt": b"1"}))


@pytest.mark.parametrize("name", ["../frozen.pb", "/etc/frozen.pb", "a/../../frozen.pb"])
def test_a_path_that_leads_out_is_refused(pack, name):
    with pytest.raises(ValueError, match=f"a path that leads out of it: {name}"):
        read_archived_graph(pack({name: b"1"}))


@pytest.mark.parametrize(("name", "times"), [("frozen.pb", 2), ("model.tflite", 2), ("model.ckpt.data", 20)])
def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(name, times, pack):
    path = pack({name: bytes(10_000_000)})
    assert path.stat().st_size < 20_000

    with pytest.raises(ValueError, match=f"unpacks to more than {times} times its size"):
        read_archived_graph(path)


def test_a_link_is_not_followed(tmp_path):
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("frozen.pb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)

    with pytest.raises(ValueError, match="holds neither"):
        read_archived_graph(path)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_an_archive_that_was_cut_off_is_refused(pack, share):
    path = pack({"frozen.pb": bytes(range(256)) * 100, "model.ckpt": b"1"})
    path.write_bytes(path.read_bytes()[: max(2, int(path.stat().st_size * share))])

    with pytest.raises(ValueError, match=r"the archive is damaged|holds neither"):
        read_archived_graph(path)


def test_gzip_of_no_archive_is_refused(tmp_path):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(gzip.compress(b"not an archive" * 100))

    with pytest.raises(ValueError, match=r"the archive is damaged|unpacks to more"):
        read_archived_graph(path)
