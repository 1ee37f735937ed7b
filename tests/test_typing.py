"""mypy --strict and pyright on the code of users, against the wheel in an environment of its own: what an editor sees."""
import functools, json, re, subprocess, sys, sysconfig
from importlib.util import find_spec
from pathlib import Path
import pytest
from conftest import ROOT, python
from test_package import checkout, run, wheel  # fixtures

USERS = sorted((ROOT / "tests/typed").glob("*.py"))
TODO: set[tuple[str, str]] = set()  # not accepted yet; a pair that is accepted must be taken out


def readme():
    "The README's examples, as one module; a variable that a loop sets may be used after it."
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return "# pyright: reportPossiblyUnboundVariable=false\n" + "\n\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):  # noqa: F811
    "An interpreter that has the wheel installed, and the dependencies of this one; the users' files beside it."
    folder = tmp_path_factory.mktemp("environment")
    run("-m", "venv", "--without-pip", "env", cwd=folder)
    interpreter = next(p for p in (folder / "env/bin/python", folder / "env/Scripts/python.exe") if p.exists())
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    run("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site), str(wheel), cwd=folder)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (folder / "users").mkdir()
    for path in USERS: (folder / "users" / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "users/README.py").write_text(readme(), encoding="utf-8")
    return folder, interpreter


@functools.cache
def mypy(folder, interpreter):
    # the README's own functions are not annotated, as in a script; the rest of --strict holds for it too
    (folder / "mypy.ini").write_text("[mypy]\nstrict = True\n[mypy-README]\ndisallow_untyped_defs = False\n"
                                     "disallow_incomplete_defs = False\ndisallow_untyped_calls = False\n")
    return subprocess.run([sys.executable, "-m", "mypy", "--config-file", "../mypy.ini", "--python-executable", interpreter,
                           "--cache-dir", ROOT / ".mypy_cache", "."], cwd=folder / "users", capture_output=True, text=True)


@functools.cache
def pyright(folder, interpreter):
    done = subprocess.run([sys.executable, "-m", "pyright", "--pythonpath", interpreter, "--outputjson", "."],
                          cwd=folder / "users", capture_output=True, text=True)
    return [(Path(d["file"]).name, d["range"]["start"]["line"] + 1, d["message"])
            for d in json.loads(done.stdout)["generalDiagnostics"] if d["severity"] == "error"]


def faults(checker, environment):
    "What a type checker objects to, by the name of the file."
    if checker == "pyright": found = pyright(*environment)
    else:
        done = mypy(*environment)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        found = [(m[1], m[2], m[3]) for m in re.finditer(r"^([\w.]+):(\d+): error: (.*)", done.stdout, re.M)]
        assert bool(found) == done.returncode, done.stdout
    return found


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("name", [*(p.name for p in USERS), "README.py"])
def test_users_code_is_accepted(name, checker, environment):
    if not find_spec(checker): pytest.skip(f"{checker} is not installed")
    found = [f"{name}:{line}: {message}" for file, line, message in faults(checker, environment) if file == name]
    if (name, checker) in TODO:
        assert found, f"{checker} accepts {name} now: take the pair out of the list at the top of this file"
        pytest.xfail("\n".join(found))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_mistake_is_found(checker, environment):
    "The checkers do read the package: without py.typed, or with everything Any, they would accept this."
    if not find_spec(checker): pytest.skip(f"{checker} is not installed")
    folder, interpreter = environment
    (folder / "wrong").mkdir(exist_ok=True)
    (folder / "wrong/wrong.py").write_text("from optim_nb import Parameter\nt: int = (Parameter([1.0]) * 2).sum()\n")
    command = {"mypy": ["--python-executable", interpreter, "--cache-dir", ROOT / ".mypy_cache"],
               "pyright": ["--pythonpath", interpreter]}[checker]
    done = subprocess.run([sys.executable, "-m", checker, *command, "."], cwd=folder / "wrong", capture_output=True, text=True)
    assert re.search(r'wrong\.py:2\b.*"?Tensor"?', done.stdout), done.stdout


@pytest.mark.parametrize("path", USERS, ids=lambda p: p.name)
def test_users_code_runs(path): python(path.read_text(encoding="utf-8"))
