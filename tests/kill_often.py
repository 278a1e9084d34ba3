"""Kills a smoke run 20 times at random moments, and compares what it measures in the end with a run that was left alone.

Not one of the tests, since it takes some minutes:  .venv/bin/python tests/kill_often.py [kills]
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "dyga", "train", "--profile", "smoke", "--folder"]


def run(folder: Path, seconds: float | None = None) -> bool:
    """Runs the command, or kills it and all that it started after some seconds; whether it came to its end."""
    process = subprocess.Popen([*COMMAND, str(folder)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return False


def main(kills: int) -> None:
    """Prints how it went; exit code 1 if any finished run measured something else."""
    with tempfile.TemporaryDirectory() as place:
        start, alone = time.monotonic(), Path(place, "alone")
        assert run(alone)
        expected, whole = (alone / "metrics.json").read_bytes(), time.monotonic() - start
        killed, finished, wrong, moments = 0, 0, 0, random.Random(0)
        while killed < kills or not finished:
            folder = Path(place, str(finished))
            if not run(folder, moments.uniform(0.3, 1.0) * whole if killed < kills else None):
                killed += 1
                continue
            finished += 1
            wrong += (folder / "metrics.json").read_bytes() != expected
        print(f"{killed} kills, {finished} finished runs, {wrong} with another metrics.json")
        raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
