"""What is built: the wheel, which works where nothing else of this project is; the source; the documentation."""

import importlib.util
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.project

ROOT = Path(__file__).parents[2]


def test_the_built_wheel_installed_in_a_clean_environment_runs_the_demo(tmp_path: Path) -> None:
    """The environment has the wheel and this one's libraries, but not this project's folder."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    clean = tmp_path / "clean"
    venv.create(clean, with_pip=False)
    packages = next(clean.glob("lib/python*/site-packages"))
    packages.joinpath("libraries.pth").write_text(sysconfig.get_path("purelib"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)  # noqa: S202 - it was built here

    python = str(clean / "bin" / "python")
    demo = [python, "-m", "meter_sync", "demo"]
    done = subprocess.run(demo, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "All 36 invoices say exactly what was used." in done.stdout
    where = [python, "-c", "import meter_sync; print(meter_sync.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert str(clean) in found


def test_the_wheel_has_the_migrations_the_templates_and_the_types(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")

    names = zipfile.ZipFile(wheel).namelist()

    assert "meter_sync/py.typed" in names
    assert "meter_sync/ledger/migrations/versions/0001_first.py" in names
    assert {"meter_sync/statement/templates/page.html.jinja", "meter_sync/statement/templates/style.css"} <= {*names}
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]


def test_the_source_distribution_has_what_a_reader_needs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (source,) = tmp_path.glob("*.tar.gz")

    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"SECURITY.md", "README.md", "pyproject.toml", "mkdocs.yml", "docs/run.md"} <= names


@pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="the extra `docs` is not installed")
def test_the_documentation_is_built_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]

    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "run" / "index.html").is_file()
