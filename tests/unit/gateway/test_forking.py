"""A forked process is as alone as a program that was started."""

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")

#: Runs in an interpreter of its own: pytest's has threads, and streams that are none.
_BEGIN = """
    import json, os, signal, sys, time
    from gateway.forking import Program, fork, load
    from gateway.settings import environment_with, get_settings

    def run(name, code, **more):
        with open(f"{name}_module.py", "w") as file:
            file.write(code)
        environment = environment_with(FOLDER=os.getcwd())
        return fork(Program(name, (f"{name}_module", "one"), environment, **more), lambda: None)
"""


def in_its_own(folder: Path, code: str) -> Any:
    """Run code after `_BEGIN`; give what it prints, as JSON."""
    whole = textwrap.dedent(_BEGIN) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", whole],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "NADI_PORT": "1111"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_fork_has_nothing_that_a_started_program_would_not_have(tmp_path):
    told = in_its_own(
        tmp_path,
        """
        code = '''if True:
            import json, os, signal, sys
            from gateway.settings import get_settings
            handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGCHLD)]
            files = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
            print(json.dumps({
                "name": open("/proc/self/comm").read().strip(),
                "arguments": sys.argv[1:],
                "main": __name__,
                "port": get_settings().port,
                "variables": sorted(os.environ),
                "standard handlers": all(handler == signal.SIG_DFL for handler in handlers),
                "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
                "leads its session": os.getsid(0) == os.getpid(),
                "files": sorted({f for f in files if "/proc/" not in f and "pipe" not in f}),
            }))
        '''
        get_settings()
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        lock = open("lock", "w")
        output = open("output", "w")
        with open("report_module.py", "w") as file:
            file.write(code)
        given = {"NADI_PORT": "2222", "PYTHONPATH": os.environ["PYTHONPATH"]}
        fork(Program("nadi-report", ("report_module", "one"), given, output.fileno()), list).wait()
        print(open("output").read())
        """,
    )

    assert told == {
        "name": "nadi-report",
        "arguments": ["one"],
        "main": "__main__",
        "port": 2222,
        "variables": ["NADI_PORT", "PYTHONPATH"],
        "standard handlers": True,
        "blocked": 0,
        "leads its session": True,
        "files": sorted(["/dev/null", str(tmp_path / "output")]),
    }


def test_a_fork_ends_as_a_program_does(tmp_path):
    codes = in_its_own(
        tmp_path,
        """
        endings = {
            "plain": "",
            "exit": "raise SystemExit",
            "code": "raise SystemExit(3)",
            "words": "raise SystemExit('no')",
            "error": "raise ValueError",
            "crash": "import ctypes; ctypes.string_at(0)",
        }
        quiet = os.open(os.devnull, os.O_WRONLY)
        forks = [run(name, code, output=quiet) for name, code in endings.items()]
        print(json.dumps([each.wait() for each in forks]))
        """,
    )

    assert codes == [0, 0, 3, 1, 1, -signal.SIGSEGV]


def test_a_fork_waits_for_its_threads_and_does_what_was_left_for_the_end(tmp_path):
    said = in_its_own(
        tmp_path,
        """
        code = '''if True:
            import atexit, threading, time
            from concurrent.futures import ThreadPoolExecutor
            atexit.register(lambda: print("end", flush=True))
            ThreadPoolExecutor().submit(lambda: (time.sleep(0.05), print("pool")))
            threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
        '''
        output = open("output", "w")
        run("threads", code, output=output.fileno()).wait()
        print(json.dumps(open("output").read().split()))
        """,
    )

    assert said == ["pool", "thread", "end"]


def test_a_signal_that_comes_at_once_is_not_met_by_a_handler_of_the_parent(tmp_path):
    codes = in_its_own(
        tmp_path,
        """
        signal.signal(signal.SIGTERM, lambda *_: None)
        codes = []
        for _ in range(30):
            each = run("sleeper", "import time; time.sleep(60)")
            each.send_signal(signal.SIGTERM)
            codes.append(each.wait())
        print(json.dumps(codes))
        """,
    )

    assert codes == [-signal.SIGTERM] * 30


def test_nothing_is_sent_to_a_fork_that_ended(tmp_path):
    told = in_its_own(
        tmp_path,
        """
        each = run("short", "")
        each.wait()
        each.send_signal(signal.SIGKILL)
        print(json.dumps([each.poll(), each.returncode]))
        """,
    )

    assert told == [0, 0]


def test_a_fork_that_crashes_takes_no_other_with_it_and_is_forked_again(tmp_path):
    told = in_its_own(
        tmp_path,
        """
        from pathlib import Path
        from gateway.supervisor import Child, Supervisor

        Path("beating.py").write_text('''if True:
            import os, time
            while True:
                os.write(int(os.environ["NADI_HEARTBEAT_FD"]), b".")
                time.sleep(0.05)
        ''')
        load(["decimal"])
        command = (sys.executable, "-m", "beating")
        names, lines, seen = ("api", "infer"), [], {"api": set(), "infer": set()}
        children = [
            Child(name, command, environment_with(), hung_after_s=2.0, is_forked=True)
            for name in names
        ]
        supervisor = Supervisor(children, Path(), say=lines.append)
        began = time.monotonic()

        def tick():
            for name, pid in supervisor.pids().items():
                seen[name].add(pid)
            if len(seen["infer"]) == 1 and not lines:
                os.kill(supervisor.pids()["infer"], signal.SIGSEGV)
            if len(seen["infer"]) == 2 or time.monotonic() - began > 20:
                os.kill(os.getpid(), signal.SIGTERM)
            return 0.02

        supervisor.start()
        supervisor.run(tick)
        print(json.dumps([len(seen["api"]), len(seen["infer"]), lines]))
        """,
    )

    api, infer, (line,) = told
    assert (api, infer) == (1, 2)
    assert line.startswith("infer was ended by SIGSEGV and is started again in 0.2 s.")


def test_no_fork_outlives_a_killed_supervisor(tmp_path):
    code = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from gateway.settings import environment_with
        from gateway.supervisor import Child, Supervisor
        Path("sleeper.py").write_text("import time; time.sleep(60)")
        command = (sys.executable, "-m", "sleeper")
        child = Child("c", command, environment_with(), is_forked=True)
        supervisor = Supervisor([child], Path(), say=print)
        supervisor.start()
        print(supervisor.pids()["c"], flush=True)
        time.sleep(60)
        """
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, env=environment
    )
    with parent:
        ending = os.pidfd_open(int(parent.stdout.readline()))

        parent.kill()

        # It can be read once its process has ended.
        assert select.select([ending], [], [], 10)[0]
    os.close(ending)
