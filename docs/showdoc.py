"""nbdev's `show_doc` with the comments of a signature set as a table, where mathematics and links work."""
import re
from inspect import Parameter, formatannotation, isclass
from textwrap import dedent, fill

from fastcore.docments import DocmentTbl, docments
from nbdev.doclinks import NbdevLookup
from nbdev.showdoc import BasicMarkdownRenderer

STARS = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


class _Text(str):
    """Text that a signature prints as it is."""
    __repr__ = str.__str__


def _default(value):
    """A default as one would type it: the name of a function or class, else its repr."""
    return value if value is Parameter.empty else _Text(getattr(value, "__name__", None) or repr(value).replace(" ", "\xa0"))


def _annotation(value):
    """An annotation without module names: `numpy.ndarray` → `ndarray`."""
    if value is Parameter.empty: return value
    return _Text(re.sub(r"\b(?:\w+\.)+(?=\w)", "", formatannotation(value).strip("'")))


def _signature(sig):
    """`sig` with readable defaults and annotations, and without `self`."""
    params = [p.replace(default=_default(p.default), annotation=_annotation(p.annotation))
              for p in sig.parameters.values() if p.name != "self"]
    return sig.replace(parameters=params, return_annotation=_annotation(sig.return_annotation))


class _Table(DocmentTbl):
    def __init__(self, obj, sig):
        super().__init__(obj, returns=not isclass(obj))
        self.sig, comments = sig, docments(obj, full=True, args_kwargs=True)
        for name, p in sig.parameters.items():  # no guessed types; comments on *args and **kwargs, which DocmentTbl drops
            comment = (comments.get(name) or {}).get("docment")  # a NamedTuple's fields have none
            self.dm.setdefault(name, {}).update(anno=p.annotation, default=p.default, docment=comment or p.empty)
        self.dm["return"]["anno"] = sig.return_annotation

    def _row(self, name, props):
        star = STARS.get(self.sig.parameters[name].kind, "") if name in self.sig.parameters else ""
        cells = [f"`{star}{name}`" if name in self.sig.parameters else "**returns**"]
        for key in self._columns:
            value = props.get(key, Parameter.empty)
            cells.append("" if value in (None, Parameter.empty) else " ".join(value.split()) if key == "docment" else f"`{value}`".replace("\xa0", " "))
        return [re.sub(r"(?<!\\)\|", r"\|", cell) for cell in cells]

    @property
    def return_str(self): return "| " + " | ".join(self._row("return", self.dm["return"])) + " |"


def numpydoc(text):
    """A docstring without its numpydoc sections, which say what the table says, and its errors `[(type, when)]`."""
    head, *sections = re.split(r"^[ \t]*(\w[\w ]*)\n[ \t]*-{3,}[ \t]*$", text or "", flags=re.M)
    raises = dedent(dict(zip(sections[::2], sections[1::2])).get("Raises", ""))
    return head.strip(), [(kind, " ".join(when.split())) for kind, when in re.findall(r"^(\w+)\n((?:[ \t]+.+\n?)*)", raises, re.M)]


def describe(obj, name):
    """The call `name(…)` with readable defaults, the docstring, and the table of parameters of a class or function."""
    return _describe(BasicMarkdownRenderer(obj, name))


def _describe(shown):
    call = table = ""
    if shown.sig:
        sig = _signature(shown.sig)
        table = str(_Table(shown.sym, sig))
        if table or isclass(shown.sym):  # the table gives the types
            sig = sig.replace(parameters=[p.replace(annotation=p.empty) for p in sig.parameters.values()],
                              return_annotation=sig.empty)
        call = shown.nm + re.sub(r"(?<!,) ", "\xa0", str(sig))
        call = fill(call, 80, subsequent_indent=" " * (len(shown.nm) + 1), break_long_words=False, break_on_hyphens=False)
    docs = "" if shown.docs == "Call self as a function." else shown.docs  # what a callable object without docstring has
    return call.replace("\xa0", " "), docs, table


class ParameterTable(BasicMarkdownRenderer):
    """Heading, link to the source, signature, docstring, table of parameters."""
    def _repr_markdown_(self):
        parts = [f"{'#' * self.title_level} {self.nm.replace('_', chr(92) + '_')}"]
        if src := NbdevLookup().code(self.fn): parts.append(f"[source]({src})")
        call, docs, table = _describe(self)
        if call: parts.append(f"```python\n{call}\n```")
        return "\n\n".join([*parts, *filter(None, [numpydoc(docs)[0], table])])
