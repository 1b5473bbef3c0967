"""Start the servers of the bench on a separate core, with and without TLS, and build the C programs."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import payloads
from contender import CA

HERE = Path(__file__).resolve().parent
_CERTIFICATE = """
import sys, trustme
authority = trustme.CA()
authority.cert_pem.write_to_path(sys.argv[1])
authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(sys.argv[2])
"""


class Place(NamedTuple):
    """The addresses of the servers."""

    base: str
    tls: str | None  # the same over TLS, if a certificate could be made
    folder: Path  # of the prepared answers
    limit: Path | None  # the client in C, if there is a compiler
    server: int  # the process that serves `base`


def cores(of_server: bool) -> set[int]:
    """Return the cores for the server (the last), or for clients (the others); all if they cannot be divided."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    every = sorted(os.sched_getaffinity(0))
    return set(every) if len(every) < 2 else set(every[-1:] if of_server else every[:-1])


def pin(pid: int, chosen: set[int]) -> None:
    """Restrict a process to these cores."""
    if chosen:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, chosen)


def built(folder: Path, name: str, *words: str) -> Path | None:
    """Return the program compiled from a C file, or None."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler or platform.system() != "Linux":
        return None
    program = folder / "-".join([name, *words])
    command = [compiler, "-O2", "-o", str(program), str(HERE / f"{name}.c"), *words]
    return program if subprocess.run(command, capture_output=True).returncode == 0 else None


def _certificate(folder: Path, python: str) -> Path | None:
    """Make a certificate for 127.0.0.1 and name its authority in the environment. None: the reason was printed."""
    authority, own = folder / "authority.pem", folder / "own.pem"
    command = [python, "-c", _CERTIFICATE, str(authority), str(own)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"    without TLS: {(done.stderr.strip().splitlines() or ['no certificate'])[-1]}", file=sys.stderr)
        return None
    os.environ[CA] = str(authority)
    return own


@contextlib.contextmanager
def _running(program: Path | None, *words: str) -> Iterator[tuple[int, int]]:
    """Run a server, the program in C or the one in Python, and yield its port and its process."""
    command = [str(program)] if program else [sys.executable, str(HERE / "server.py")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, *words], **pipes) as process:
        pin(process.pid, cores(of_server=True))
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def servers(python: str, tls: bool = True) -> Iterator[Place]:
    """Run the bench's servers; `python` is an interpreter with trustme, for a certificate."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        payloads.write(folder)
        plain, pid = stack.enter_context(_running(built(folder, "server"), str(folder)))
        secure = None
        certificate = _certificate(folder, python) if tls else None
        if certificate:
            program = built(folder, "server", "-DTLS", "-lssl", "-lcrypto")
            secure, _ = stack.enter_context(_running(program, str(folder), str(certificate)))
        yield Place(
            f"http://127.0.0.1:{plain}",
            f"https://127.0.0.1:{secure}" if secure else None,
            folder,
            built(folder, "limit"),
            pid,
        )
