import pytest

from mobilevision.weights.download import download

BODY = bytes(range(256)) * 4000


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder/file.tgz"


def test_a_file_is_fetched_into_a_folder_that_is_made(server, target):
    server.files["file.tgz"] = BODY

    download(f"{server.url}/file.tgz", target)

    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["file.tgz"]


def test_an_interrupted_download_goes_on_where_it_was(server, target):
    server.files["file.tgz"], server.breaks["file.tgz"] = BODY, 300_000

    with pytest.raises(OSError, match=r"file.tgz cannot be fetched: 300000 of 1024000 bytes came, try again"):
        download(f"{server.url}/file.tgz", target)
    assert not target.exists()
    download(f"{server.url}/file.tgz", target)

    assert target.read_bytes() == BODY
    assert server.asked == [("file.tgz", 0), ("file.tgz", 300_000)]


def test_a_server_that_does_not_know_ranges_sends_everything_once_more(server, target, monkeypatch):
    server.files["file.tgz"], server.breaks["file.tgz"] = BODY, 300_000
    with pytest.raises(OSError, match="came, try again"):
        download(f"{server.url}/file.tgz", target)
    server.files["file.tgz"] = BODY[::-1]
    # What it is not told it does not know.
    monkeypatch.setattr("mobilevision.weights.download.Request", lambda url, headers: url)

    download(f"{server.url}/file.tgz", target)

    assert target.read_bytes() == BODY[::-1]
    assert server.asked == [("file.tgz", 0), ("file.tgz", 0)]


def test_a_file_that_has_become_shorter_is_begun_anew_the_next_time(server, target):
    server.files["file.tgz"], server.breaks["file.tgz"] = BODY, 300_000
    with pytest.raises(OSError, match="came, try again"):
        download(f"{server.url}/file.tgz", target)
    server.files["file.tgz"] = BODY[:1000]

    with pytest.raises(OSError, match="has become shorter"):
        download(f"{server.url}/file.tgz", target)
    download(f"{server.url}/file.tgz", target)

    assert target.read_bytes() == BODY[:1000]


def test_a_file_that_had_come_whole_is_not_fetched_again(server, target):
    server.files["file.tgz"] = BODY
    target.parent.mkdir()
    target.with_name("file.tgz.part").write_bytes(BODY)

    download(f"{server.url}/file.tgz", target)

    assert target.read_bytes() == BODY
    assert server.asked == [("file.tgz", len(BODY))]


def test_what_is_not_there_is_named_with_the_servers_answer(server, target):
    with pytest.raises(OSError, match=r"gone.tgz cannot be fetched: 404 Not Found"):
        download(f"{server.url}/gone.tgz", target)


def test_a_server_that_does_not_answer_is_named(target):
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9/file\.tgz cannot be fetched: .*refused"):
        download("http://127.0.0.1:9/file.tgz", target)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/file", "/etc/passwd"])
def test_nothing_but_http_is_fetched(url, target):
    with pytest.raises(ValueError, match="url must begin with http:// or https://, got"):
        download(url, target)
