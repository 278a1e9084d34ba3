"""Executes a study's notebooks and gathers their report."""

import hashlib
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import nbformat
import psutil

from dyga.config import check_images
from dyga.data import prepare_dataset
from dyga.kept import CLASSIFIER, FIRST_STAGE, GENERATED
from dyga.processes import UNFINISHED, end_processes
from dyga.provenance import notebooks_folder, write_atomically
from dyga.study import report
from dyga.study.study import Study


def notebook_paths(numbers: tuple[int, ...] | None = None) -> list[Path]:
    """The notebooks in their order, or those numbered so. ValueError lists the numbers that exist."""
    paths = {int(path.name[:2]): path for path in sorted(notebooks_folder().glob("[0-9][0-9]_*.ipynb"))}
    unknown = [n for n in numbers or () if n not in paths]
    if unknown:
        raise ValueError(f"unknown notebook {unknown[0]:02d}: valid are {', '.join(f'{n:02d}' for n in paths)}")
    return [paths[n] for n in numbers or paths]


def reproduce(study: Study, numbers: tuple[int, ...] | None = None) -> Path:
    """Executes the notebooks with papermill and gathers runs/.../report.html; returns its path.

    An executed copy whose source, parameters, package, data and runs are unchanged is kept. ValueError if the study's folder
    holds anything that was made of other data or settings. RuntimeError if a cell fails: the copy
    with the error is kept as <name>.failed.ipynb.
    """
    # 09 is about models of the reader's own, so a study does not need it.
    paths = notebook_paths(numbers) if numbers else [path for path in notebook_paths() if path.name[1] != "9"]
    target = study.runs / "notebooks"

    def paths_of(digits: str) -> list[Path]:
        return sorted((path for path in paths if path.name[1] in digits), key=lambda path: digits.index(path.name[1]))

    start = time.monotonic()
    # Once, before the workers need it. One thread per kernel: two kernels with two threads each would wait for each other.
    config = study.configs()[0]
    data = prepare_dataset(study.dataset, study.data_dir or None, config.image_size)
    check_images(config, len(data.images), labelled=data.factors is not None)
    study.check()
    for folder in (target, Path(study.data_dir)):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Two at a time. 01 and 09 need no training; 03 to 06 and 08 need 02, the longest first; 07 needs the others.
    for stage in (paths_of("129"), paths_of("64358"), paths_of("7")):
        _execute_all(stage, target, study)
    executed = [target / path.name for path in notebook_paths() if _is_of(target / path.name, study)]
    page = study.runs / "report.html"
    newest = max(path.stat().st_mtime for path in executed)
    if not page.exists() or page.stat().st_mtime < newest:
        seconds = round(time.monotonic() - start, 1)
        executed.sort(key=lambda path: not path.name.startswith("07"))  # the answer comes first
        origin = study.origin(seconds=seconds)
        report.gather(executed, page, title=f"dyga: {study.name}", provenance=origin, note=study.first_stage_note())
    return page


def _execute_all(paths: list[Path], target: Path, study: Study) -> None:
    """Executes notebooks, two at a time. An interruption ends their kernels and what those have started."""
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(_execute, path, target / path.name, study) for path in paths]
        try:
            for future in futures:
                future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            # Again and again, since a kernel may be starting only now.
            while isinstance(error, KeyboardInterrupt) and any(future.running() for future in futures):
                end_processes(child.pid for child in psutil.Process().children())
                time.sleep(0.1)
            raise


def _execute(source: Path, executed: Path, study: Study) -> None:
    import papermill

    parameters = _parameters(study)
    valid = papermill.inspect_notebook(str(source))
    if set(valid) != set(parameters):
        raise ValueError(f"{source.name}: its parameters are {sorted(valid)}: valid are {sorted(parameters)}")
    stamp = executed.with_suffix(".stamp")
    if executed.exists() and stamp.exists() and stamp.read_text() == _fingerprint(source, parameters, study):
        print(f"{source.stem}: up to date", flush=True)
        return
    start = time.monotonic()
    print(f"{source.stem}: running", flush=True)
    failed, partial = executed.with_suffix(".failed.ipynb"), executed.with_name(f".{executed.name}")
    loud = source.stem.endswith("training")
    UNFINISHED.add(partial)  # this thread may still wait for its kernel when an interruption ends the process
    try:
        papermill.execute_notebook(
            str(source),
            str(partial),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(source.parent),
            progress_bar=False,
            stderr_file=sys.stderr if loud else None,
            # Silences tornado's messages about kernels that are shut down while they answer.
            extra_arguments=[
                "--IPKernelApp.log_level=50",
                "--IPKernelApp.exec_lines=import logging; logging.getLogger('tornado').setLevel(50)",
            ],
        )
        os.replace(partial, executed)
        failed.unlink(missing_ok=True)
    except RuntimeError as error:  # nbclient's: the kernel ended, often because memory is too small
        raise RuntimeError(f"{source.stem}: {error}") from None
    except papermill.PapermillExecutionError as error:
        os.replace(partial, failed)
        words = f"{error.ename}: {error.evalue}"
        raise RuntimeError(f"{source.stem}, cell {error.exec_count}: {words} (see {failed})") from None
    finally:
        partial.unlink(missing_ok=True)
        UNFINISHED.discard(partial)
    report.notebook_html(executed, executed.with_suffix(".html"))
    write_atomically(stamp, _fingerprint(source, parameters, study))
    print(f"{source.stem}: done in {time.monotonic() - start:.0f} s", flush=True)


def _parameters(study: Study) -> dict[str, str]:
    """The parameters of a study's notebooks."""
    return asdict(study) | {"root": str(Path(study.root).resolve())}


def _is_of(executed: Path, study: Study) -> bool:
    """Whether an executed notebook is there and has the study's parameters. Others may be left from other variants or seeds."""
    return executed.exists() and nbformat.read(executed, as_version=4).metadata["papermill"]["parameters"] == _parameters(study)


def _fingerprint(source: Path, parameters: dict, study: Study) -> str:
    """A hash of what an executed notebook depends on: its source, parameters, the package, the data and the study's results; for
    07 and 08 the published tables too."""
    files = sorted(Path(__file__).parent.parent.rglob("*.*"))
    package = [path for path in files if path.suffix in (".py", ".toml", ".json", ".css")]
    package += (
        sorted((notebooks_folder().parent / "figures" / "reference").glob("*.csv*")) if source.stem[:2] in ("07", "08") else []
    )
    measured = [*(study.folder(config) for config in study.configs()), *study.baseline_folders().values()]
    results = [folder / "metrics.json" for folder in measured]
    results += [study.runs / name / "provenance.json" for name in (FIRST_STAGE, CLASSIFIER)]
    results = [] if source.stem[:2] in ("01", "09") else results
    digest = hashlib.sha256(json.dumps([parameters, study.data.identity], sort_keys=True).encode())
    cells = [cell.source for cell in nbformat.read(source, as_version=4).cells]
    digest.update(json.dumps(cells).encode())
    if source.stem[:2] in ("04", "07") and any((folder / GENERATED).exists() for folder in measured):
        from dyga.metrics import missing_inception

        digest.update(missing_inception().encode())  # FID is computed as soon as its weights are there
    for path in [*package, *results]:
        digest.update(path.read_bytes() if path.exists() else b"absent")
    return digest.hexdigest()
