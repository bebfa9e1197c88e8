"""TeX: the text of a LaTeX document, with its headings, lists and tables; formulas as their source with signs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import BinaryIO

from .base import Draft, Kind, Outline, ParseLimits, Unreadable
from .encoding import read_text
from .tables import table

__all__ = ["parse", "plain_text"]

# ruff: noqa: RUF001, SIM905 - signs that look alike; names in a row read better than a list of a line each
_LEVELS = {"part": 0, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5, "frametitle": 5}
_VERBATIM = "verbatim|Verbatim|lstlisting|minted|alltt|comment"
_TABLES = "tabular|tabularx|tabulary|longtable|array|tabu"
_STRUCTURE = re.compile(
    rf"(?P<blank>\n[^\S\n]*\n\s*)"
    rf"|\\(?P<heading>{'|'.join(_LEVELS)}|title|author|date)\*?\s{{0,9}}(?:\[[^\]]{{0,500}}\]\s{{0,9}})?(?={{)"
    rf"|\\begin{{(?P<verbatim>{_VERBATIM})\*?}}"
    rf"|\\begin{{(?P<table>{_TABLES})\*?}}"
    rf"|\\(?P<step>begin|end){{(?P<environment>[A-Za-z]{{1,40}})\*?}}(?:\[[^\]\n]{{0,200}}\])?"
    rf"|\\(?P<item>item|bibitem)\b\s{{0,9}}(?:\[(?P<term>[^\]\n]{{0,200}})\])?"
)
_COMMENT = re.compile(
    rf"(\\begin{{({_VERBATIM})\*?}}.*?\\end{{\2\*?}})|(?<!\\)((?:\\\\)*)%[^\n]*(?:\n[^\S\n]*)?", re.DOTALL
)
"""A comment, or a text in which "%" begins none."""

_CODE_OPTIONS = re.compile(r"(?:\[[^\]\n]*\]|{[^}\n]*})+")
_BODY = re.compile(r"\\begin\s{0,9}{document}")
_LISTS = frozenset("itemize enumerate description compactitem compactenum".split())
_WITH_ARGUMENT = frozenset("minipage multicols thebibliography adjustbox wrapfigure subfigure column frame".split())

_DROPPED: dict[str, int] = {
    **dict.fromkeys(
        "label cite citep citet nocite ref eqref pageref autoref cref Cref vspace hspace includegraphics input include "
        "bibliography bibliographystyle addbibresource usepackage RequirePackage documentclass documentstyle pagestyle "
        "thispagestyle pagenumbering index hypersetup graphicspath color captionsetup cline cmidrule usetheme".split(),
        1,
    ),
    **dict.fromkeys(
        "newcommand renewcommand providecommand setlength addtolength setcounter addtocounter newtheorem rule "
        "DeclareMathOperator".split(),
        2,
    ),
    **dict.fromkeys("newenvironment renewenvironment definecolor".split(), 3),
}
"""Commands that show nothing, with the number of their arguments; citations and references show only numbers."""

_ACCENTS = dict(zip("'`^\"~=.uvHcdbkr", map(chr, (
    0x301, 0x300, 0x302, 0x308, 0x303, 0x304, 0x307, 0x306, 0x30C, 0x30B, 0x327, 0x323, 0x331, 0x328, 0x30A,
)), strict=True))  # fmt: skip
_SIGNS = {
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "aa": "å",
    "AA": "Å", "i": "i", "j": "j", "dh": "ð", "th": "þ", "LaTeX": "LaTeX", "TeX": "TeX", "ldots": "…", "dots": "…",
    "cdots": "⋯", "textellipsis": "…", "S": "§", "P": "¶", "copyright": "©", "pounds": "£", "euro": "€",
    "texteuro": "€", "textdegree": "°", "degree": "°", "textendash": "–", "textemdash": "—", "textbackslash": "\\",
    "textasciitilde": "~", "textasciicircum": "^", "textbar": "|", "quad": " ", "qquad": " ", "newline": "\n",
    "par": "\n\n", "times": "×", "cdot": "·", "div": "÷", "pm": "±", "mp": "∓", "leq": "≤", "le": "≤", "geq": "≥",
    "ge": "≥", "neq": "≠", "ne": "≠", "approx": "≈", "equiv": "≡", "sim": "∼", "infty": "∞", "partial": "∂",
    "nabla": "∇", "sum": "∑", "prod": "∏", "int": "∫", "in": "∈", "notin": "∉", "subset": "⊂", "subseteq": "⊆",
    "cup": "∪", "cap": "∩", "forall": "∀", "exists": "∃", "to": "→", "rightarrow": "→", "leftarrow": "←",
    "Rightarrow": "⇒", "Leftrightarrow": "⇔", "mapsto": "↦", "emptyset": "∅", "sqrt": "√", "propto": "∝",
    "langle": "⟨", "rangle": "⟩", "ell": "ℓ", "hbar": "ℏ", "circ": "∘", "wedge": "∧", "vee": "∨", "neg": "¬",
    "oplus": "⊕", "otimes": "⊗", "ll": "≪", "gg": "≫", "varepsilon": "ε", "varphi": "φ", "vartheta": "ϑ",
    "lambda": "λ", "Lambda": "Λ",
}  # fmt: skip
_LETTERS = frozenset("ss ae AE oe OE o O l L aa AA i j dh th".split())
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa mu nu xi pi rho sigma tau phi chi psi omega"
for _name in _GREEK.split():
    _SIGNS[_name] = unicodedata.lookup(f"GREEK SMALL LETTER {_name}")
    _SIGNS[_name.title()] = unicodedata.lookup(f"GREEK CAPITAL LETTER {_name}")

_TOKEN = re.compile(r"\\(?P<name>[A-Za-z@]+)\*?(?P<gap>[^\S\n]*)|\\(?P<sign>.)|-{2,3}|``|''|[{}$~]", re.DOTALL)
_OPTION = re.compile(r"\[[^\[\]\n]{0,300}\]")
_TYPED = {"--": "–", "---": "—", "``": "“", "''": "”", "~": " ", "{": "", "}": "", "$": ""}
_FORMS = {"href": "{1} ({0})", "footnote": " ({0})", "thanks": " ({0})", "frac": "({0})/({1})", "dfrac": "({0})/({1})"}
_ARGUMENTS = {"href": 2, "footnote": 1, "thanks": 1, "frac": 2, "dfrac": 2}
"""Commands whose arguments are put together, and how many they have."""


def parse(file: BinaryIO, _limits: ParseLimits, progress: Callable[[float], None]) -> Iterator[Draft]:
    """Yield the blocks of a document, which is held whole."""
    source = _COMMENT.sub(lambda found: found[1] or found[3] or "", read_text(file, progress))
    body = _BODY.search(source)
    if body is None:
        yield from _blocks(source)
        return
    ended = source.find(r"\end{document}", body.end())
    for name in ("title", "author", "date"):  # stated before the text
        match = re.search(rf"\\{name}\s{{0,9}}(?={{)", source[: body.start()])
        if match is not None:
            text = " ".join(plain_text(_group(source, match.end())[0]).split())
            yield Draft(
                text, "heading" if name == "title" else "paragraph", None, (text[:300],) if name == "title" else ()
            )
    yield from _blocks(source[body.end() : ended if ended >= 0 else len(source)])


def _blocks(source: str) -> Iterator[Draft]:
    return _Reader(source).blocks()


class _Reader:
    """A walk through a document from one mark of its structure to the next."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._outline = Outline()
        self._pending: list[str] = []
        self._lists = 0

    def blocks(self) -> Iterator[Draft]:
        """Yield the document's blocks."""
        while mark := _STRUCTURE.search(self._source, self._at):
            self._pending.append(self._source[self._at : mark.start()].replace("\n", " "))
            self._at = mark.end()
            if mark["item"] or mark["blank"]:
                yield from self._line(mark)
            elif mark["step"]:
                yield from self._environment(mark["step"], mark["environment"])
            else:
                yield from self._flush()
                yield from self._whole(mark)
        self._pending.append(self._source[self._at :].replace("\n", " "))
        yield from self._flush()

    def _flush(self) -> Iterator[Draft]:
        """Yield the text that has come together."""
        text = plain_text("".join(self._pending))
        self._pending.clear()
        lines = [" ".join(line.split()) for line in (text.split("\n") if self._lists else [text])]
        kind: Kind = "list" if self._lists else "paragraph"
        yield Draft("\n".join(line for line in lines if line not in {"", "-"}), kind, None, self._outline.path)

    def _line(self, mark: re.Match[str]) -> Iterator[Draft]:
        """Begin an item of a list, or a paragraph."""
        if self._lists:
            term = f"{mark['term']}: " if mark["term"] else ""
            self._pending.append(f"\n- {term}" if mark["item"] else " ")
            return
        yield from self._flush()
        if mark["item"] == "bibitem":
            self._at = _group(self._source, self._at)[1]

    def _environment(self, step: str, name: str) -> Iterator[Draft]:
        """Begin or end an environment; lists within lists are one list."""
        is_list = name in _LISTS
        if not (is_list and self._lists > (step == "end")):
            yield from self._flush()
        if is_list:
            self._lists = max(0, self._lists + (1 if step == "begin" else -1))
        elif step == "begin" and name in _WITH_ARGUMENT:
            self._at = _group(self._source, self._at)[1]

    def _whole(self, mark: re.Match[str]) -> Iterator[Draft]:
        """Yield a heading, a table or a text that is kept as it is."""
        if mark["verbatim"]:
            inner, self._at = _until_end(self._source, self._at, mark["verbatim"])
            if mark["verbatim"] != "comment":
                options = _CODE_OPTIONS.match(inner)
                yield Draft(inner[options.end() if options else 0 :].strip("\n"), "code", None, self._outline.path)
            return
        if mark["table"]:
            inner, self._at = _until_end(self._source, self._at, mark["table"])
            yield from table(_rows(inner, mark["table"]), None, self._outline.path)
            return
        text, self._at = _group(self._source, self._at)
        text = " ".join(plain_text(text).split())
        level = _LEVELS.get(mark["heading"])
        if level is not None and text:
            yield Draft(text, "heading", None, self._outline.enter(level, text))
        else:
            yield Draft(text, "paragraph", None, self._outline.path)


def _group(source: str, at: int) -> tuple[str, int]:
    """Return the content of the braces that begin at ``at``, and the place after them; "" and ``at`` without any."""
    begin = at
    while begin < len(source) and source[begin].isspace():
        begin += 1
    if source[begin : begin + 1] != "{":
        return "", at
    depth, place = 0, begin
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(source, begin, begin + 100_000):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            place = match.end()
            break
    else:
        return source[begin + 1 : begin + 1], begin + 1
    return source[begin + 1 : place - 1], place


def _until_end(source: str, at: int, environment: str) -> tuple[str, int]:
    """Return what an environment holds, and the place after its end."""
    depth = 1
    for match in re.compile(rf"\\(begin|end){{{environment}\*?}}").finditer(source, at):
        depth += 1 if match[1] == "begin" else -1
        if depth == 0:
            return source[at : match.start()], match.end()
    return source[at:], len(source)


def _rows(inner: str, environment: str) -> Iterator[list[str]]:
    at = len(_OPTION.match(inner)[0]) if _OPTION.match(inner) else 0  # type: ignore[index]
    for _ in range(2 if environment in {"tabularx", "tabulary"} else 1):
        at = _group(inner, at)[1]
    inner = re.sub(r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfirsthead|endfoot|endlastfoot)\b", "", inner[at:])
    inner = re.sub(r"\\multi(?:column|row)\s*{[^{}]*}\s*{[^{}]*}", "", inner)
    for row in re.split(r"\\\\(?:\[[^\]\n]{0,40}\])?|\\tabularnewline\b", inner):
        yield [" ".join(plain_text(cell).split()) for cell in re.split(r"(?<!\\)&", row)]


def plain_text(source: str) -> str:
    """Return a piece of TeX as text: accents and signs as characters, arguments of other commands as they are.

    Raises:
        Unreadable: commands are nested too deeply.
    """
    try:
        return _plain_text(source)
    except RecursionError as error:
        raise Unreadable("too_deep") from error


def _plain_text(source: str) -> str:
    parts: list[str] = []
    at = 0
    while match := _TOKEN.search(source, at):
        parts.append(source[at : match.start()])
        at = match.end()
        if match["name"]:
            text, at = _command(source, match["name"], at)
            if match["name"] in _SIGNS and match["name"] not in _LETTERS:
                text += match["gap"]
        elif match["sign"]:
            text, at = _sign(source, match["sign"], at)
        else:
            text = _TYPED[match[0]]
        parts.append(text)
    parts.append(source[at:])
    return "".join(parts)


def _command(source: str, name: str, at: int) -> tuple[str, int]:
    """Return the text of a command, and the place after it and after those of its arguments that are dealt with."""
    if name in _SIGNS:
        return _SIGNS[name], at
    if name in _ACCENTS and (accented := _accented(source, name, at)):
        return accented
    texts, at = _arguments(source, at, _DROPPED.get(name, _ARGUMENTS.get(name, 0)))
    if name in _DROPPED:
        return "", at
    return _FORMS.get(name, "").format(*(_plain_text(text) for text in texts)), at


def _arguments(source: str, at: int, count: int) -> tuple[list[str], int]:
    """Return a command's arguments, without the optional ones, and the place after them."""
    option = _OPTION.match(source, at)
    at = option.end() if option else at
    texts = []
    for _ in range(count):
        option = _OPTION.match(source, at)
        text, at = _group(source, option.end() if option else at)
        texts.append(text)
    return texts, at


def _sign(source: str, sign: str, at: int) -> tuple[str, int]:
    if sign in _ACCENTS and (accented := _accented(source, sign, at)):
        return accented
    if sign == "\\":
        option = _OPTION.match(source, at)
        return "\n", option.end() if option else at
    return (" " if sign in ",;:" else "" if sign in "!-/@()[]" else sign), at


def _accented(source: str, accent: str, at: int) -> tuple[str, int] | None:
    match = re.compile(r"\s{0,9}(?:{\\?([^\W\d_])}|\\([ij])\b\s?|([^\W\d_]))").match(source, at)
    if match is None:
        return None
    letter = match[1] or match[2] or match[3]
    return unicodedata.normalize("NFC", letter + _ACCENTS[accent]), match.end()
