"""How processes end: on signals, with the process that started them, and while a library computes."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT

START = "from dyga import processes; processes.PATIENCE = 0.3; processes.end_on_signals(); processes.end_with_parent(); "
SAID = "dyga: interrupted: run the same command again to continue\n"


def child(code: str, **options) -> subprocess.Popen:
    """A Python process that runs the code, which prints 'ready' when signals may come."""
    code = f"import hashlib, os, signal, time\n{START}\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_interrupts_once(name):
    """A second one cannot disturb what the first one ends."""
    code = f"""
try:
    print('ready', flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.{name})
    print('ended in order', flush=True)
    processes.end_interrupted()
"""

    def default() -> None:  # whatever the tests were started with: nohup ignores SIGHUP
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    process = child(code, preexec_fn=default)
    process.send_signal(getattr(signal, name))
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said == SAID and printed == "ended in order\n"


def test_a_long_call_of_a_library_is_ended():
    """Python itself handles no signal while such a call runs."""
    code = """
def call():
    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)
try:
    print('ready', flush=True)
    call()
except KeyboardInterrupt:  # the signal came before the call
    call()
"""
    process = child(code)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said == SAID


def test_unfinished_files_are_deleted(tmp_path):
    path = tmp_path / "half"
    code = (
        "from pathlib import Path; path = Path('half'); path.touch(); processes.UNFINISHED.add(path); print('ready', flush=True)"
    )
    process = child(f"{code}; processes.end_interrupted()", cwd=tmp_path)
    assert process.wait(60) == 130 and not path.exists()


def test_signals_that_are_ignored_stay_ignored():
    process = child("print('ready', flush=True); time.sleep(1)", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0


def test_a_worker_ends_with_its_parent(tmp_path):
    code = f"import os, time; {START}open('ready', 'w').write(str(os.getpid())); time.sleep(600)"
    worker = f'DYGA_PARENT=$$ PYTHONPATH={ROOT} "{sys.executable}" -c "{code}" & wait'
    parent = subprocess.Popen(["sh", "-c", worker], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (tmp_path / "ready").exists() or not (tmp_path / "ready").read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    number = int((tmp_path / "ready").read_text())
    assert psutil.Process(number).ppid() == parent.pid
    parent.kill()
    parent.wait()
    gone, _ = psutil.wait_procs([psutil.Process(number)] if psutil.pid_exists(number) else [], timeout=60)
    assert gone or not psutil.pid_exists(number)


def test_a_command_ends_with_all_that_it_has_started(tmp_path):
    """As `run_all.sh lab` starts JupyterLab."""
    command = ["-m", "dyga.processes", "sh", "-c", "sleep 600 & echo $! > started; wait"]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "started").exists() or not (tmp_path / "started").read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said == SAID
    assert not psutil.pid_exists(int((tmp_path / "started").read_text()))
    done = subprocess.run([sys.executable, "-m", "dyga.processes", "sh", "-c", "exit 3"], cwd=ROOT)
    assert done.returncode == 3
