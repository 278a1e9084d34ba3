"""How processes end: on Ctrl-C or another signal, and with the process that started them.

`python -m dyga.processes COMMAND ...` runs a command; a signal ends the command and all that it has started.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

UNFINISHED: set[Path] = set()  # files that an interruption deletes
PATIENCE = 4.0  # seconds from a signal to the end of this process
GRACE = 2.0  # seconds from the termination of another process to its being killed


def end_on_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, once. If that has no effect, as in a long call of a library, the
    process ends after `PATIENCE` seconds. Signals that are ignored stay ignored (nohup)."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    caught = [number for number in numbers if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)]

    def interrupt(*_) -> NoReturn:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in caught:
        signal.signal(number, interrupt)
    # Python calls a handler between two of its own instructions only; it writes the signal's number to this socket at once.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(reader, writer, caught), daemon=True).start()


def _end_in_time(reader: socket.socket, writer: socket.socket, caught: list[int]) -> None:
    while reader.recv(1)[0] not in caught:
        pass
    time.sleep(PATIENCE)
    end_interrupted()


def end_interrupted() -> NoReturn:
    """Says how to continue, deletes `UNFINISHED` files, and exits with code 130 without waiting for threads."""
    print("dyga: interrupted: run the same command again to continue", file=sys.stderr, flush=True)
    for path in list(UNFINISHED):
        with suppress(OSError):
            path.unlink(missing_ok=True)
    os._exit(130)


def end_with_parent() -> None:
    """Interrupts this process, if it is a worker, soon after the process that started it has ended."""
    parent = os.environ.get("DYGA_PARENT")

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.5)
        signal.raise_signal(signal.SIGTERM)

    if parent:
        threading.Thread(target=watch, daemon=True).start()


def end_processes(numbers: Iterable[int]) -> None:
    """Terminates processes, given by their numbers, and all that they have started; kills those that run on for `GRACE`
    seconds."""
    import psutil  # of the extra `notebooks`, like everything that starts processes

    family = []
    for number in numbers:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(number)
            family += [process, *process.children(recursive=True)]
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in family:
            with suppress(psutil.NoSuchProcess):
                end(process)
        family = psutil.wait_procs(family, GRACE)[1]


def run(command: list[str]) -> NoReturn:
    """Runs a command in a session of its own, so that a terminal's Ctrl-C reaches this process alone; exits with its code."""
    end_on_signals()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        raise SystemExit(process.wait())
    except KeyboardInterrupt:
        end_processes([process.pid])
        end_interrupted()


if __name__ == "__main__":
    run(sys.argv[1:])
