"""Downloads that resume after an interruption, and are complete only if their digest matches."""

from __future__ import annotations

import hashlib
from pathlib import Path

import requests
from tqdm import tqdm

from dyga.data.catalog import RemoteFile

CHUNK = 1 << 20


def find_or_fetch(file: RemoteFile, folder: Path) -> Path:
    """`folder`/`file.name`, downloaded if it is not there, with its size and digest checked.

    ValueError if the file is not the expected one: a download is deleted then, a file that was put there is left. ConnectionError
    when the network fails: what has arrived is kept, and the next call goes on from there.
    """
    path = folder / file.name
    if not path.exists():
        if not file.url:
            raise ValueError(
                f"{path}: there is no such file, and it has no download address: download it manually and put it there"
            )
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.part")
        _download(file, partial)
        try:
            check(file, partial)
        except ValueError:
            partial.unlink()
            raise
        partial.replace(path)
        return path
    check(file, path)
    return path


def check(file: RemoteFile, path: Path) -> None:
    """ValueError unless the file at `path` has the size and the digest that it should have."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise ValueError(f"{path}: expected {file.size:,} bytes, found {size:,}; the file is damaged or another one")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, file.algorithm).hexdigest()
    if found != file.digest:
        raise ValueError(f"{path}: expected {file.algorithm} {file.digest}, found {found}; the file is damaged or another one")


def _download(file: RemoteFile, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    limit = file.size or 1 << 36
    try:
        ask = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(file.url, headers=ask, stream=True, timeout=30) as answer:
            if answer.status_code == 416:  # nothing is left to send: the digest decides
                return
            answer.raise_for_status()
            if answer.status_code != 206:
                have = 0
            left = int(answer.headers.get("Content-Length") or 0)
            bar = tqdm(
                total=have + left or None, initial=have, desc=file.name, unit="B", unit_scale=True, mininterval=5, ascii=True
            )
            with bar, partial.open("ab" if have else "wb") as stream:
                for chunk in answer.iter_content(CHUNK):
                    have += len(chunk)
                    if have > limit:
                        raise ValueError(f"{file.url}: more than the expected {limit:,} bytes; stopped")
                    stream.write(chunk)
                    bar.update(len(chunk))
            if left and have < bar.total:
                raise requests.ConnectionError("the connection ended early")
    except requests.RequestException as error:
        reason = str(error).split("(Caused")[0][:120]
        raise ConnectionError(
            f"{file.url}: stopped after {have:,} bytes ({reason}); the same command goes on from there"
        ) from None
