"""Run a command and print what it took as JSON: wall-clock, CPU, peak memory, memory over time.

``python -I -S stopwatch.py SECONDS COMMAND...``: after so many seconds the command is killed. Imports little: a child
starts with its parent's memory, and its peak would be ours (getrusage(2), ru_maxrss, is kept over execve).
"""

import json
import os
import signal
import sys
import threading
import time

INTERVAL = 0.05  # seconds between looks at the memory
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 1024**2


def main() -> None:
    """Run the command of the command line."""
    patience, *command = sys.argv[1:]
    hung = threading.Event()
    ended = threading.Event()
    memory: list[tuple[float, float]] = []
    start = time.perf_counter()
    pid = _start(command)

    def watch() -> None:
        while not ended.wait(INTERVAL):
            seconds = time.perf_counter() - start
            memory.append((round(seconds, 3), round(max(map(_resident, _family(pid)), default=0.0), 2)))
            if seconds > float(patience):
                hung.set()
                os.killpg(pid, signal.SIGKILL)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - start
    except KeyboardInterrupt:
        os.killpg(pid, signal.SIGKILL)
        raise
    finally:
        ended.set()
        watcher.join()
    result = {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss / 1024,
        "memory": memory,
        "status": os.waitstatus_to_exitcode(status),
        "hung": hung.is_set(),
    }
    json.dump(result, sys.stdout)


def _start(command: list[str]) -> int:
    """Start the command in a process group of its own, its output dropped but for what it says of errors."""
    nowhere = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    return os.posix_spawnp(command[0], command, os.environ, file_actions=nowhere, setpgroup=0)


def _family(pid: int) -> list[int]:
    """A process and all its descendants; proc_pid_task(5)."""
    found = [pid]
    for member in found:
        try:
            for thread in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{thread}/children") as children:
                    found.extend(map(int, children.read().split()))
        except OSError:
            continue  # it has just ended
    return found


def _resident(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE_MIB
    except (OSError, IndexError):
        return 0.0


main()
