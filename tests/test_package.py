"""What is exported and built: modules equal to their notebooks, a wheel, a source distribution, clean notebooks."""
import os, re, shutil, subprocess, sys, tarfile, zipfile
from configparser import ConfigParser
from email.parser import Parser
from importlib.util import find_spec
import pytest
import optim_nb
from conftest import ROOT, python

config = ConfigParser(delimiters=["="])
config.read(ROOT / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
nbdev = pytest.mark.skipif(not find_spec("nbdev"), reason="nbdev is not installed")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    "A copy of the sources, to build and export in."
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("nbs", "optim_nb", "tests", "docs"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "_quarto.yml"): shutil.copy(ROOT / name, folder)
    return folder


def run(*args, cwd):
    "A command with this interpreter."
    done = subprocess.run([sys.executable, *args], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env=os.environ | dict(PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONPATH=""))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- what is built

@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "pip", "wheel", ".", "--no-deps", "-q", "-w", str(folder), "--no-build-isolation", cwd=checkout)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    run("-c", "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])", str(folder), cwd=checkout)
    [path] = folder.glob("*.tar.gz")
    return path


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    assert wheel.name == f"optim_nb-{settings['version']}-py3-none-any.whl"
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    assert names == {p.relative_to(ROOT).as_posix() for p in (ROOT / "optim_nb").rglob("*.py")} | {"optim_nb/py.typed"}
    assert any(n.endswith("LICENSE") for n in zipfile.ZipFile(wheel).namelist())


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as z:
        [name] = [n for n in z.namelist() if n.endswith("METADATA")]
        meta = Parser().parsestr(z.read(name).decode())
    assert meta["Name"] in ("optim_nb", "optim-nb") and meta["Version"] == settings["version"] == optim_nb.__version__
    assert meta["Summary"] == settings["description"] and meta["Requires-Python"] == f">={settings['min_python']}"
    needs = meta.get_all("Requires-Dist")
    assert {re.match(r"[\w-]+", n)[0] for n in needs if "extra ==" not in n} == {"numpy", "numba"}
    assert [re.match(r"[\w-]+", n)[0] for n in needs if re.search(r"extra == .plot", n)] == ["matplotlib"]
    assert {"plot", "dev"} <= set(meta.get_all("Provides-Extra"))
    assert not any(re.match("torch", n) for n in needs)
    assert (meta["License-Expression"] or meta["License"]) == "Apache-2.0"
    assert meta.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip() != ""


@pytest.mark.parametrize("made", ["wheel", "sdist"])
def test_what_is_built_installs_and_works(made, request, tmp_path):
    "Each into an empty folder, which with the dependencies is all that the interpreter sees."
    run("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site"),
        str(request.getfixturevalue(made)), cwd=tmp_path)
    code = ("import optim_nb, numpy as np; p = optim_nb.Parameter(np.ones(2)); p.grad = np.ones(2); "
            "optim_nb.SGD([p], lr=1.0).step(); print(optim_nb.__file__, p.data)")
    assert python(code, tmp_path / "site") == f"{tmp_path / 'site' / 'optim_nb' / '__init__.py'} [0. 0.]\n"
    assert (tmp_path / "site/optim_nb/py.typed").exists()


def test_the_source_distribution_is_all_that_building_needs(sdist):
    with tarfile.open(sdist) as t: names = {n.partition("/")[2] for n in t.getnames()}
    assert {"setup.py", "pyproject.toml", "settings.ini", "README.md", "LICENSE", "optim_nb/tensor.py", "optim_nb/py.typed"} <= names


# ---- export

@nbdev
def test_the_modules_are_what_the_notebooks_export(checkout):
    for path in (checkout / "optim_nb").rglob("*.py"):
        if path.name not in ("__init__.py", "_modidx.py"): path.unlink()
    run("-c", "from nbdev.doclinks import nbdev_export; nbdev_export()", cwd=checkout)
    run("docs/docstrings.py", cwd=checkout)
    exported, here = ({p.relative_to(r).as_posix(): p.read_text(encoding="utf-8") for p in (r / "optim_nb").rglob("*.py")} for r in (checkout, ROOT))
    assert set(exported) == set(here)
    assert [name for name in here if exported[name] != here[name]] == []


@nbdev
def test_cleaning_changes_no_notebook(checkout):
    before = {p: (ROOT / p.relative_to(checkout)).read_bytes() for p in (checkout / "nbs").rglob("*.ipynb")}
    for path, raw in before.items(): path.write_bytes(raw)
    run("-c", "from nbdev.clean import nbdev_clean; nbdev_clean()", cwd=checkout)
    assert [p.name for p, raw in before.items() if p.read_bytes() != raw] == []
