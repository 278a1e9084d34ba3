"""Downloads from a server on this machine that can be cut, swapped or switched off."""

import hashlib
import http.server
import threading

import pytest

from dyga.data.catalog import RemoteFile
from dyga.data.download import find_or_fetch

CONTENT = bytes(range(256)) * 20_000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; `server.cut_after` bytes it hangs up, once."""

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.server.asked.append(start)
        if self.path == "/absent":
            return self.send_error(404)
        start = 0 if self.path == "/no-ranges" else start
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        if self.server.cut_after:
            body, self.server.cut_after = body[: self.server.cut_after], 0
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.cut_after = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.address = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def remote(server, path="/data.bin", content=CONTENT, size: int | None = len(CONTENT), algorithm="sha256") -> RemoteFile:
    return RemoteFile("data.bin", server.address + path, hashlib.new(algorithm, content).hexdigest(), size)


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_fetched_once_and_checked(server, tmp_path, algorithm):
    file = remote(server, algorithm=algorithm)
    path = find_or_fetch(file, tmp_path / "downloads")
    assert path.read_bytes() == CONTENT
    assert find_or_fetch(file, tmp_path / "downloads") == path and server.asked == [0]


@pytest.mark.parametrize("path", ["/data.bin", "/no-ranges"])
def test_a_cut_download_says_so_and_goes_on_from_there(server, tmp_path, path):
    server.cut_after = 3_000_000
    file = remote(server, path)
    with pytest.raises(
        ConnectionError, match=r"(data\.bin|no-ranges): stopped after [\d,]+ bytes .* the same command tries again"
    ):
        find_or_fetch(file, tmp_path)
    (part,) = tmp_path.rglob("*.*")
    assert part == tmp_path / "downloads" / "data.bin.part"
    kept = part.stat().st_size
    assert 0 < kept <= 3_000_000
    assert find_or_fetch(file, tmp_path).read_bytes() == CONTENT
    assert server.asked == [0, kept]


def test_all_there_but_not_yet_checked(server, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "data.bin.part").write_bytes(CONTENT)
    assert find_or_fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert not (tmp_path / "downloads" / "data.bin.part").exists()


@pytest.mark.parametrize(("content", "size", "message"), [
    (CONTENT + b"x", None, "expected sha256 .*, found"),
    (CONTENT, len(CONTENT) + 5, "expected 5,120,005 bytes, found 5,120,000"),
    (CONTENT, 1_000, "sent more than the expected 1,000 bytes"),
])  # fmt: skip
def test_another_file_than_expected_leaves_nothing_whole(server, tmp_path, content, size, message):
    with pytest.raises(ValueError, match=message):
        find_or_fetch(remote(server, content=content, size=size), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_that_was_put_there_is_checked_and_left(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"something else")
    file = RemoteFile("data.bin", "", hashlib.md5(CONTENT).hexdigest(), None)
    with pytest.raises(ValueError, match=r"data.bin: expected md5 .*, found .*; the file is damaged or a different one"):
        find_or_fetch(file, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"something else"


def test_no_network_and_no_such_file(server, tmp_path):
    with pytest.raises(ConnectionError, match="absent: stopped after 0 bytes"):
        find_or_fetch(remote(server, "/absent"), tmp_path)
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match="stopped after 0 bytes"):
        find_or_fetch(remote(server), tmp_path)


def test_a_file_that_has_no_address_must_be_put_there(tmp_path):
    with pytest.raises(ValueError, match=r"data.bin: there is no such file: download it manually from"):
        find_or_fetch(RemoteFile("data.bin", "", "0" * 32), tmp_path)
