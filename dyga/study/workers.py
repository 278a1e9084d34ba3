"""Commands in several processes, with their progress."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from dyga.processes import end_processes


def worker_slots() -> list[dict[str, str]]:
    """The environment of each worker that runs at the same time: one worker per GPU, which sees that GPU only, else one per core,
    with one thread. More workers than cores would compete for the caches."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and shutil.which("nvidia-smi"):
        ask = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        answer = subprocess.run(ask, capture_output=True, text=True)
        # A failing driver prints its error where the numbers are expected.
        numbers = [line.strip() for line in answer.stdout.splitlines() if answer.returncode == 0 and line.strip().isdigit()]
        visible = ",".join(numbers)
    if visible and visible != "-1":
        return [{"CUDA_VISIBLE_DEVICES": number} for number in visible.split(",")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [{name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}] * cores


def run_workers(commands: list[list[str]]) -> None:
    """Runs the commands in the worker slots, all of them even if some fail. RuntimeError with the last line of the first failed
    one and the names of the others."""
    # glibc then keeps freed memory instead of returning it to the system at every step: 6% faster.
    memory = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "2000000000"}
    environment = os.environ | memory | {"DYGA_PARENT": str(os.getpid())}
    waiting, running, free, failed = list(commands), [], worker_slots(), {}
    last_report = time.monotonic()
    try:
        while waiting or running:
            while waiting and free:
                slot = free.pop(0)
                folder = Path(waiting[0][-1])
                folder.mkdir(parents=True, exist_ok=True)
                with (folder / "output.txt").open("a") as output:
                    start = output.tell()
                    process = subprocess.Popen(waiting.pop(0), stdout=output, stderr=output, env=environment | slot)
                running.append((folder, process, slot, start))
                _say(f"started {folder.name} ({len(waiting)} waiting)")
            time.sleep(0.5)
            for folder, process, slot, start in [r for r in running if r[1].poll() is not None]:
                running.remove((folder, process, slot, start))
                free.append(slot)
                if process.returncode:
                    failed[folder] = _reason(folder, process.returncode, start)
                _say(failed.get(folder, f"finished {folder.name}"))
            if running and time.monotonic() - last_report > 15:
                last_report = time.monotonic()
                _say("  ".join(_progress(folder) for folder, *_ in running))
    finally:
        end_processes(process.pid for _, process, *_ in running)
    if failed:
        first, *others = failed
        raise RuntimeError(failed[first] + (f"; also failed: {', '.join(map(_name, others))}" if others else ""))


def _name(folder: Path) -> str:
    """A run's name with its study's, since several studies have runs of the same name."""
    return f"{folder.parent.name}/{folder.name}"


def _reason(folder: Path, code: int, start: int) -> str:
    """Why the worker of this folder failed, in one line; its output begins at `start` of output.txt."""
    if code < 0:
        return f"{_name(folder)} was killed by signal {-code} (9: often too little memory)"
    words = (folder / "output.txt").read_bytes()[start:].decode(errors="replace").strip().splitlines() or ["no output"]
    return f"{_name(folder)} failed: {words[-1]} (see {folder / 'output.txt'})"


def _say(words: str) -> None:
    """Prints progress to stderr, which executed notebooks pass to the terminal and the report omits."""
    print(words, file=sys.stderr, flush=True)


def _progress(folder: Path) -> str:
    """'full-seed0 620/1300 loss 0.21', from the log's last line."""
    try:
        record = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
        steps = json.loads((folder / "config.json").read_text())["steps"]
        return f"{folder.name} {record['step']}/{steps} loss {record['loss']:.3f}"
    except (OSError, ValueError, IndexError):
        return f"{folder.name} under way"
