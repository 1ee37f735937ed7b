"""Build the documentation site: `python docs/build.py [sphinx|quarto]`. Sphinx, unless Quarto is asked for, on the same notebooks."""
import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.chdir(HERE.parent)
sys.path[:0] = [str(HERE), str(HERE.parent)]  # document the package of this checkout, whichever one is installed


def digest(files): return hashlib.sha256(b"".join(f.read_bytes() for f in sorted(files) if f.is_file())).hexdigest()


def process(engine):
    """Run nbdev's steps on the notebooks that have changed since this engine's last build; None where nothing has."""
    from nbdev.doclinks import _build_modidx
    from nbdev.quarto import refresh_quarto_yml

    import pages

    sidebar, _ = pages.site_map()
    refresh_quarto_yml()
    _build_modidx()
    code = digest([*HERE.glob("*.py"), *HERE.rglob("*.md"), *pages.cfg.lib_path.rglob("*.py"), pages.cfg.config_file])
    now = {nb.as_posix(): code + digest([pages.NBS / nb]) for nb in pages.notebooks()}
    now["look"] = engine + digest([*HERE.glob("static/*"), *HERE.glob("templates/*"), Path("_quarto.yml")])
    state = pages.PROC / "digests.json"
    done = json.loads(state.read_text()) if state.exists() else {}
    if done == now and (pages.OUT / "index.html").exists(): return None
    if done.keys() != now.keys() or not next(iter(done.values())).startswith(code) or not done["look"].startswith(engine):
        for folder in (pages.PROC, pages.OUT): shutil.rmtree(folder, ignore_errors=True)  # no stale page, code or engine
        done = {}
    pages.PROC.mkdir(exist_ok=True)
    state.unlink(missing_ok=True)
    changed = [nb for nb in now if nb != "look" and done.get(nb) != now[nb]]
    faults = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(pages.process, nb): nb for nb in changed}
        for i, job in enumerate(as_completed(jobs), 1):
            print(f"[{i}/{len(jobs)}] nbdev: {jobs[job]}", flush=True)
            if fault := job.exception(): faults.append(f"nbs/{jobs[job]}: {fault}")
    if faults: raise SystemExit("\n\n".join(faults))
    return sidebar, lambda: state.write_text(json.dumps(now))


def sphinx(sidebar):
    """Sphinx over the processed notebooks; a warning is an error."""
    import pages
    pages.write_pages(sidebar)
    from sphinx.cmd.build import build_main
    if build_main(["-qWn", "-b", "html", "-c", "docs", "-d", str(pages.PROC / "doctrees"), str(pages.SITE), str(pages.OUT)]):
        raise SystemExit("The site was not built: see the warnings above.")
    for nb in pages.notebooks():
        (pages.OUT / "notebooks" / nb).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pages.NBS / nb, pages.OUT / "notebooks" / nb)


def quarto(sidebar):
    import quarto
    quarto.build(sidebar)


if __name__ == "__main__":
    name = (sys.argv[1:] or ["sphinx"])[0]
    if name not in ("sphinx", "quarto"): raise SystemExit(f"ENGINE is sphinx or quarto, not {name}")
    if name == "quarto" and not shutil.which("quarto"): raise SystemExit("ENGINE=quarto needs Quarto, and there is no quarto on PATH")
    print(f"Building the site with {name.title()}", flush=True)
    if prepared := process(name):
        {"sphinx": sphinx, "quarto": quarto}[name](prepared[0])
        prepared[1]()
    else: print("Nothing has changed since the last build.")
    print(f"Open {Path('_docs/index.html').resolve()}")
