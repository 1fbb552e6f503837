"""A copy of the working tree in which breaches are planted, and where the tests run against what was planted.

The copy comes first on PYTHONPATH, before the editable packages of the virtual environment, in the tests and in every process that they start.
`check` proves it: a syntax error in the copy has to be met.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from planted.breach import Breach

ROOT = Path(__file__).parents[2]
PACKAGES = {"aiki": "sdk", "aiki_server": "server", "aiki_operator": "operator"}
PATIENCE_SECONDS = 300.0
"""A breach may let a test hang; pytest's own limit ends that much earlier."""
TESTS_FAILED = 1


class Tree:
    """The copy, in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        for name in filter(None, os.fsdecode(listed).split("\0")):
            if (ROOT / name).is_file():  # what was deleted and not committed is still listed
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, home / name)

    def check(self) -> None:
        """Raise unless Python takes all three packages from the copy."""
        for package, folder in PACKAGES.items():
            file = self.home / folder / package / "__init__.py"
            before = file.read_text()
            file.write_text("def broken(:\n")
            try:
                command = [sys.executable, "-c", f"import {package}"]
                told = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
            finally:
                file.write_text(before)
            if told.returncode == 0 or "SyntaxError" not in told.stderr or str(file) not in told.stderr:
                raise RuntimeError(
                    f"{package} is not imported from the copy {self.home}: what is planted there would not be tested.\n{told.stderr}"
                )

    def noticed(self, breach: Breach, *, log: Path) -> str | None:
        """The test of the breach that fails while it is planted, and does not fail without it; None where all pass. `log` is pytest's."""
        file = self.home / breach.file
        before = file.read_text()
        file.write_text(breach.planted(before))
        try:
            failed = self._failing(breach.tests, log)
        finally:
            file.write_text(before)
        if failed and (still := self._failing(failed, log)):
            raise RuntimeError(f"it fails without the breach, too: {', '.join(still)}")
        return failed[0] if failed else None

    def _failing(self, tests: tuple[str, ...], log: Path) -> tuple[str, ...]:
        """The first of these tests that fails."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "60", *tests],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                code = process.wait(PATIENCE_SECONDS)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        text = log.read_text()
        failed = tuple(re.findall(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", text, re.MULTILINE))
        if code not in (0, TESTS_FAILED) or (code == TESTS_FAILED) != bool(failed):
            raise RuntimeError(f"pytest ended with code {code} instead of running the tests:\n{text[-2000:]}")
        return failed

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(str(self.home / folder) for folder in PACKAGES.values())
        # A compiled file is taken for that of a source of the same second and length, which a planted one may be.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PYTEST_"))}
        return {**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
