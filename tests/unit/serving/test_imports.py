"""What a process of the serving side holds in memory."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("paluku.serving.ingress", ("torch", "mlflow")),
        ("paluku.serving.replica", ("torch", "mlflow", "ray")),
        ("serve_apps.speech", ("torch", "mlflow")),
        ("paluku.client.__main__", ("torch", "mlflow", "ray", "fastapi")),
    ],
)
def test_importing_it_loads_no(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; sys.exit(' '.join(set({absent!r}) & set(sys.modules)) or 0)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{module} loads {done.stderr}"
