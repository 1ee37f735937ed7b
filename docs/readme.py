"""Write README.md from nbs/index.ipynb: `python docs/readme.py`. Its pictures go to docs/images."""
import re
import shutil
from pathlib import Path

import nbformat
import yaml
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
IMAGES = Path("docs/images")


def render():
    """The text of the README and its pictures by name."""
    nb = nbformat.read(ROOT / "nbs/index.ipynb", 4)
    nb.metadata.language_info = {"name": "python"}
    nb.cells = [c for c in nb.cells if not re.match(r"#\|\s*(hide|default_exp)\b(?!-)", c.source)]
    alts = []
    for cell in nb.cells:
        silent = cell.cell_type == "code" and re.search(r"^#\|\s*(echo: false|code-fold: true)", cell.source, re.M)
        alt = re.search(r"^#\|\s*fig-alt:\s*(.+)$", cell.source, re.M)
        alts += [yaml.safe_load(alt[1]) if alt else "figure" for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
        cell.source = "" if silent else re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
    text, resources = MarkdownExporter().from_notebook_node(nb, {"output_files_dir": IMAGES.as_posix()})
    text = re.sub(r"(\]\()(?![a-z]+:|#|docs/images)([^)]+)", lambda m: m[1] + (Path("nbs") / m[2]).as_posix(), text)
    text = text.replace("](nbs/../", "](").replace("```python\n\n```", "")
    text = re.sub(r"!\[png\]", lambda m: f"![{alts.pop(0)}]", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", resources.get("outputs", {})


if __name__ == "__main__":
    text, images = render()
    shutil.rmtree(ROOT / IMAGES, ignore_errors=True)
    for name, data in images.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_bytes(data)
    (ROOT / "README.md").write_text(text, encoding="utf-8")
    print("Wrote README.md" + "".join(f", {name}" for name in images))
