"""Downloads that resume after an interruption, and are complete only if their digest matches."""

from __future__ import annotations

import hashlib
from pathlib import Path

import requests
from tqdm import tqdm

from dyga.data.catalog import RemoteFile

CHUNK = 1 << 20


def find_or_fetch(file: RemoteFile, data_dir: Path) -> Path:
    """Returns the path of `file`, in `data_dir` or in its `downloads`, after checking size and digest. Downloads it to
    `downloads` if it is in neither.

    ValueError if the file is not the expected one. A wrong download is deleted; a file that the user put there is kept.
    ConnectionError if the network fails. The next call resumes the download.
    """
    target = data_dir / "downloads" / file.name
    for path in (data_dir / file.name, target):
        if path.exists():
            check(file, path)
            return path
    if not file.url:
        raise ValueError(f"{target}: there is no such file: download it manually from {file.page} to this path")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    try:
        _download(file, partial)
        check(file, partial)
    except ValueError:
        partial.unlink()
        raise
    return partial.replace(target)


def check(file: RemoteFile, path: Path) -> None:
    """ValueError if the size or the digest of the file at `path` differs from the expected one."""
    size, algorithm = path.stat().st_size, "md5" if len(file.digest) == 32 else "sha256"
    wrong = "the file is damaged or a different one"
    if file.size is not None and size != file.size:
        raise ValueError(f"{path}: expected {file.size:,} bytes, found {size:,}; {wrong}")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    if found != file.digest:
        raise ValueError(f"{path}: expected {algorithm} {file.digest}, found {found}; {wrong}")


def _download(file: RemoteFile, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    limit = file.size or 1 << 36
    try:
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(file.url, headers=headers, stream=True, timeout=30) as response:
            if response.status_code == 416:  # the partial file is complete; the digest is checked afterwards
                return
            response.raise_for_status()
            if response.status_code != 206:
                have = 0
            total = have + int(response.headers.get("Content-Length") or 0)
            bar = tqdm(total=total, initial=have, desc=file.name, unit="B", unit_scale=True, mininterval=5, ascii=True)
            with bar, partial.open("ab" if have else "wb") as stream:
                for chunk in response.iter_content(CHUNK):
                    have += len(chunk)
                    if have > limit:
                        raise ValueError(f"{file.url}: sent more than the expected {limit:,} bytes; stopped")
                    stream.write(chunk)
                    bar.update(len(chunk))
            if have < total:
                raise requests.ConnectionError("the connection ended early")
    except requests.RequestException as error:
        reason = str(error).split("(Caused")[0][:120]
        raise ConnectionError(
            f"{file.url}: stopped after {have:,} bytes ({reason}); the same command tries again, from there if the server allows"
        ) from None
