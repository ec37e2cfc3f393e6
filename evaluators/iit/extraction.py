"""Which choice a generated reply means, by rule and never by guess (docs/spec/iit.md#reading-a-reply).

A *naming* is a place of the reply that names a choice: its text or, where letters were shown, its letter. Of three rules, tried in order,
the first one that finds something decides:

1. declared: "Answer: B", "the answer is Paris", "B is correct", 答案：B, \\boxed{B}. Of several declarations the last one counts, because a
   reply that corrects itself ends with its conclusion.
2. by line: the first or the last line is a letter or a choice, or the first one begins with it ("B. The left atrium", "Yes, it is …").
3. mentioned: exactly one choice is named, in the first or the last sentence.

A naming that is denied ("not B", "B is wrong") or only supposed ("if it is B") never counts. Words match as words, numbers as numbers.

`iit-bench export` copies this file to the tasks it writes for lm-eval: it must run where iit-bench is not installed.
"""

from __future__ import annotations

import re
import string
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from iit_bench.types import Style

Evidence = Literal["declared_letter", "declared_text", "letter", "text", "mention", "several", "refusal", "nothing"]


class Reading(NamedTuple):
    """What a reply means, and by which rule."""

    choice: int  # index of the choice; -1 = none
    evidence: Evidence  # declared_*: rule 1; letter, text: rule 2; mention: rule 3; several, refusal, nothing: why there is no choice


class _Naming(NamedTuple):
    start: int  # in the plain reply
    end: int
    choice: int
    kind: Literal["text", "letter"]
    sure: bool  # False: counts only where a declaration or a line leaves no doubt: "b", "A cat", the choice "it"
    strong: bool = False  # a letter in brackets or after "option"
    denied: bool = False  # "not B", "B is wrong", "if it is B"


class _Reply:
    """A plain reply and its namings, in order."""

    def __init__(self, text: str, namings: Sequence[_Naming]) -> None:
        self.text = text
        self.namings = [naming._replace(denied=_denied(text, naming)) for naming in namings]
        self._starts = [naming.start for naming in namings]

    def between(self, start: int, end: int) -> list[_Naming]:
        """The namings that begin in text[start:end]."""
        return self.namings[bisect_left(self._starts, start) : bisect_left(self._starts, end)]


def extract_choice(reply: str, choices: Sequence[str], style: Style) -> int:
    """Index of the choice that `reply` means, or -1 where it means none or more than one."""
    return read_reply(reply, choices, style).choice


def read_reply(reply: str, choices: Sequence[str], style: Style) -> Reading:
    """The choice that `reply` means, and the rule that found it. Letters are read in style `letters` only: elsewhere none were shown."""
    text, folded, keys = _comparable(reply, choices)
    if any(refusal in folded and not any(refusal in key for key in keys) for refusal in _REFUSALS):
        return Reading(-1, "refusal")
    plain = _Reply(text, _namings(text, folded, keys, style))
    return _declared(plain) or _by_line(plain) or _mentioned(plain) or Reading(-1, "nothing")


# ---------------------------------------------------------------- plain text

_REFUSALS = (  # VLMEvalKit's
    "sorry, i can't help with images of people yet",
    "i can't process this file",
    "i'm sorry, but without the image provided",
    "cannot determine the answer",
)
_WIDTHS = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0xFE0F: None}  # full-width forms
_WIDTHS |= dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF), None)  # of no width
_SIGNS = dict(zip(map(ord, "‘’“”′−【】「」『』｡"), ("'", "'", '"', '"', "'", "-", "[", "]", '"', '"', '"', '"', "。"), strict=True))
_CIRCLES = {first + i: letter for first in (0x24B6, 0x1F130, 0x1F150, 0x1F170) for i, letter in enumerate(string.ascii_uppercase)}
_CIRCLES |= {first + i: form.format(c) for first, form in ((0x24D0, "{}"), (0x249C, "({})")) for i, c in enumerate(string.ascii_lowercase)}
_CHARACTERS = str.maketrans({**_WIDTHS, **_SIGNS, **_CIRCLES})
_MARKUP = tuple(  # what only formats: Markdown, HTML, LaTeX
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), kept)
    for pattern, kept in (
        (r"<(b|strong|i|em|u|p|span|code)>(.{0,300}?)</\1>", r"\2"),
        (r"<answer>\s*", "\nAnswer: "),
        (r"</answer>", "\n"),
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|bm)\s*\{([^{}]*)\}", r"\1"),
        (r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", r"\nAnswer: \1\n"),
        (r"\\[()\[\],;! ]|\\(?=[%$])|\$", ""),
        (r"^[ \t]*(?:#+|>|[-*•])[ \t]+", ""),
        (r"(?<![A-Za-z0-9*])\*\*(?=\S)(.{1,300}?)(?<=\S)\*\*(?![A-Za-z0-9*])", r"\1"),
        (r"(?<![A-Za-z0-9_])__(?=\S)(.{1,300}?)(?<=\S)__(?![A-Za-z0-9_])", r"\1"),
        (r"(?<![A-Za-z0-9*])\*(?=\S)([^*\n]{1,300}?)(?<=\S)\*(?![A-Za-z0-9*])", r"\1"),
        (r"(?<![A-Za-z0-9_])_(?=\S)([^_\n]{1,300}?)(?<=\S)_(?![A-Za-z0-9_])", r"\1"),
        (r"^\*\*(?=\S)|`+", ""),
    )
)
_THOUSANDS = re.compile(r"(?<![\d.,])(?<!\d\s)\d{1,3}(?:(?:,\d{3})+|(?:[ \u00a0\u2009\u202f]\d{3})+)(?![\d,])(?!\s\d)")
_NEXT_QUESTION = re.compile(r"(?<=\S)\n\W{0,8}(?:question|user|human|问题|用户)[ \t]*\d*[ \t]*:", re.IGNORECASE)


def _comparable(reply: str, choices: Sequence[str]) -> tuple[str, str, list[str]]:
    """The plain reply, the same as it is searched (same length), and what is searched for per choice, told apart as little as possible.

    Case, an article and markup are ignored unless choices differ by nothing else ("Aa" and "AA", "$5" and "5").
    """
    text = _plain(reply)
    next_question = _NEXT_QUESTION.search(text)
    if next_question:  # a model that was not stopped writes the next question and answers it too
        text = text[: next_question.start()]
    keys = [_without_article(_lower(_plain(choice))) for choice in choices]
    if len(set(keys)) == len(keys):
        return text, _lower(text), keys
    keys = [_without_full_stop(_plain(choice)) for choice in choices]
    if len(set(keys)) == len(keys):
        return text, text, keys
    return reply, reply, [choice.strip() for choice in choices]


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFC", text).translate(_CHARACTERS)
    for pattern, kept in _MARKUP:
        text = pattern.sub(kept, text)
    text = _THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), text)
    return "\n".join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line)


def _lower(text: str) -> str:
    return "".join(lower if len(lower := character.lower()) == 1 else character for character in text)


def _without_full_stop(text: str) -> str:
    return text.rstrip(".!。 ") or text


def _without_article(text: str) -> str:
    return re.sub(r"^(?:an?|the)\s+(?=\S)", "", _without_full_stop(text))


# ---------------------------------------------------------------- namings

_FUNCTION_WORDS = frozenset(("a", "an", "the", "i", "it", "is", "and", "or", "是", "有", "对", "会", "能", "在", "不", "一", "无"))
_NO_BUT_NOT_NO = re.compile(r"\s(?:one|doubt|idea|way|longer|more|matter|clue|information|need)\b|\.\s?\d", re.IGNORECASE)
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_OPENING = r"[\s(\[{<\"'*`_~]*"
_CLOSING = r"[)\]}>\"'*`_~]*"
_BRACKETED = re.compile(r"[(\[{<]\w[)\]}>]")
_OPTION = re.compile(rf"(?:\b(?:option|choice|letter)|选项|选择?){_OPENING}$", re.IGNORECASE)
_AFTER_A_LETTER = re.compile(r"\s+(?:is|isn't|was|seems|would|must|should|can|cannot|because|since|as|and|or|but|which|for)\b", re.I)


def _namings(text: str, folded: str, keys: Sequence[str], style: Style) -> list[_Naming]:
    """All namings in order. A choice inside another one ("red" in "dark red") and a letter inside a choice are left out."""
    found = [naming for choice, key in enumerate(keys) for naming in _texts(folded, choice, key)]
    if style == "letters":  # a choice that looks like one of the letters shown ("B" for boron) is read as the letter
        shown = string.ascii_letters[: len(keys)] + string.ascii_uppercase[: len(keys)]
        found = [naming for naming in found if naming.end - naming.start > 1 or text[naming.start] not in shown]
        found += _letters(text, len(keys))
    longest = max((naming.end - naming.start for naming in found), default=0)
    ends: dict[int, int] = {}  # start of a naming -> the furthest end
    kept = []
    for naming in sorted(found, key=lambda naming: (naming.start - naming.end, naming)):
        around = [ends[start] - start for start in range(naming.end - longest, naming.start + 1) if ends.get(start, 0) >= naming.end]
        if max(around, default=0) <= naming.end - naming.start:
            kept.append(naming)
            ends[naming.start] = max(naming.end, ends.get(naming.start, 0))
    return sorted(kept)


def _texts(folded: str, choice: int, key: str) -> Iterator[_Naming]:
    sure = key.lower() not in _FUNCTION_WORDS and any(map(_word_character, key))
    start = folded.find(key) if key else -1
    while start >= 0:
        end = start + len(key)
        if _whole(folded, start, end) and not (key.lower() == "no" and _NO_BUT_NOT_NO.match(folded, end)):
            yield _Naming(start, end, choice, "text", sure)
        start = folded.find(key, start + 1)


def _letters(text: str, count: int) -> Iterator[_Naming]:
    for start, character in enumerate(text):
        choice = string.ascii_uppercase.find(character.upper()) if character.isascii() and character.isalpha() else -1
        end = start + 1
        if not 0 <= choice < count or not _whole(text, start, end) or _part_of_a_name(text, start, end):
            continue
        strong = bool(_BRACKETED.match(text, start - 1) or _OPTION.search(text, max(0, start - 20), start))
        word = character in "AIai" and re.match(r"\s+[^\W\d_]", text[end : end + 2]) and not _AFTER_A_LETTER.match(text, end)
        yield _Naming(start, end, choice, "letter", strong or (character.isupper() and not word), strong)


def _part_of_a_name(text: str, start: int, end: int) -> bool:
    """Whether a letter belongs to more: initials, D'accord, C++, f(A), A = 5, °C."""
    before, after = text[max(0, start - 2) : start], text[end : end + 4]
    preceded = re.search(r"\w[.(']$|[°\\]$|(?<![A-Z])/$", before, re.ASCII)
    return preceded is not None or re.match(r"\.[a-z]\.|'\w|[+#]|\((?!\w{2})|\s?=", after, re.ASCII | re.IGNORECASE) is not None


def _word_character(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LNM"


def _joins(left: str, right: str) -> bool:
    """Whether two neighbouring characters belong to one word. Scripts without spaces have no borders that could be seen."""
    return all(_word_character(character) and not _UNSPACED.match(character) for character in (left, right))


def _whole(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is whole words and numbers: not the 12 of 2012, the 5 of 5.5 or -5, the left of left-handed."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    first, last = text[start], text[end - 1]
    if (before and _joins(before[-1], first)) or (after and _joins(last, after[0])):
        return False
    if (first.isdigit() and re.search(r"\d[.,:/*×^-]$|[-+.^/]$", before)) or (first in "-+" and before and _word_character(before[-1])):
        return False
    if last.isdigit() and re.match(r"[.,:/*×^-]\d|\^", after):
        return False
    hyphened = len(before) == 2 and before[1] == "-" and _joins(before[0], first)
    hyphened = hyphened or (len(after) == 2 and after[0] == "-" and _joins(last, after[1]))
    return not hyphened and not re.match(r"'t", after)


# ---------------------------------------------------------------- denied and supposed

_CLAUSE = r"[^.,;:!?\n。，；！？、]"
_DENIED_BEFORE = re.compile(
    rf"(?:\b(?:not(?!\s+only)|no(?!\s+(?:doubt|other\s+than)\b)|never|neither|nor|without(?!\s+(?:a\s+)?doubt)|cannot|except|exclud\w+|eliminat\w+|rul\w+\s+out|rather\s+than|instead\s+of"
    rf"|(?<!\bno\s)(?<!\bnone\s)(?<!\bnothing\s)other\s+than|apart\s+from|aside\s+from|besides)|n't)(?:\s+(?!but\b)[\w']+){{0,3}}?[\s(\[\"'*]*$"
    rf"|(?:\b(?:any|every|each|all)(?:(?:thing|body|one|where)|(?:\s+(?:of|the|these|those|them|other))*(?:\s+(?!is|are|was|were|wrong)[a-z]+)?)\s+(?:but|save|bar)(?:\s+(?:an?|the|for|option|choice|letter|answer))*|(?<!无)非)[\s(\[\"'*]*$"
    rf"|(?:不是|并非|而非|不选|不能选|不应选|没有|不属于|不包括|不会是|不可能是|排除|除(?![此法以])[了去开]?)\x20?(?!.*而是)[^\s.,;:!?。，；！？、]{{0,4}}\x20?$"
    rf"|(?:\bnot|n't|\bnever)\s+(?:think|believe|say){_CLAUSE}*$|\b(?:if|whether|unless|suppose|assuming){_CLAUSE}*$|(?:如果|假如|是否){_CLAUSE}*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    rf"{_CLOSING}\s*(?:(?:is|was|are|were|would\s+be)\s+(?:\w+ly\s+)?(?:not(?!\s+(?:wrong|incorrect|false))|never|wrong|incorrect|false|excluded|ruled\s+out|impossible)\b"
    rf"|(?:isn|wasn|aren|can)'t\b(?!\s+(?:wrong|incorrect))|cannot\s+be\b|项?(?:是)?(?:错误|错的|不对|不正确|不是|不符合)|项? ?[之以]外)",
    re.IGNORECASE,
)


def _denied(text: str, naming: _Naming) -> bool:
    return bool(_DENIED_BEFORE.search(text, max(0, naming.start - 120), naming.start) or _DENIED_AFTER.match(text, naming.end))


# ---------------------------------------------------------------- rule 1: declared

_ANSWER = r"(?:answer|ans|antwort|réponse|respuesta|resposta|risposta|ответ|答案|回答|答え|答|정답|답)"
_LABEL = rf"(?:{_ANSWER}(?:\s+(?:to|for|of)\s[^.:;!?\n]{{1,80}}?)?|(?:correct|right|best)\s+(?:option|choice|one)|(?:正确|最佳)的?选项)"
_DECLARATION = re.compile(  # group 1: an answer may stand anywhere in the clause; without it, it must follow at once
    rf"(?<![A-Za-z])(?:{_LABEL}{_CLOSING}\s*((?:[:=]|(?:is|was|would\s+be|must\s+be|should\s+be|has\s+to\s+be|lautet|est|es|é|è)\b:?|(?:应该|应当|应)?[是为选]:?))"
    rf"|{_LABEL}{_CLOSING}(?=\s*[A-Za-z](?![A-Za-z])|\n)"
    rf"|(?:choose|pick|select|opt\s+for|go\s+with|(?:option|choice)\s*:)"
    rf"|(?<![不未可能])选择?(?![项题]):?)",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?:[\s(\[{<\"'*`_~:]|\b(?:an?|the|option|choice|letter|answer|that|it|is|it's|clearly|definitely|probably|likely|most|therefore|indeed|simply)\b|选项|选择?|应该)*$",
    re.IGNORECASE,
)
_CORRECT = re.compile(
    rf"{_CLOSING}[.:]?\s*(?:(?:is|was|would\s+be|must\s+be|should\s+be|seems)\s+(?:clearly\s+)?(?:the\s+answer\b|(?:the\s+)?(?:most\s+)?"
    rf"(?:correct|right|best|appropriate)(?:\s+(?:answer|option|choice|one))?(?=\s*(?:[.,;:!?)\n]|$|(?:because|since|as|for|here)\b)))"
    rf"|(?:选?项)?[是为]?(?:最佳|正确)(?:的|答案|选项)*(?![^\W\d_]))",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?]+(?=[\s\"')\]*]|$)|[。！？]+|\n")
_ENDS_A_LETTER = re.compile(rf"{_CLOSING}(?:\s*$|\s*[\n.,;:!?)\]\-–—/&(。，、；]|\s+(?![^\W\d_])|[^\x00-\x7f])")


def _declared(reply: _Reply) -> Reading | None:
    """The last declaration that names a choice."""
    found: list[tuple[int, re.Match[str] | _Naming]] = [(match.start(), match) for match in _DECLARATION.finditer(reply.text)]
    found += [(n.start, n) for n in reply.namings if n.sure and not n.denied and _CORRECT.match(reply.text, n.end)]
    for _, declaration in sorted(found, key=lambda pair: pair[0], reverse=True):
        reading = _decided(reply, declaration, True) if isinstance(declaration, _Naming) else _after_declaration(reply, declaration)
        if reading is not None:
            return reading
    return None


def _after_declaration(reply: _Reply, declaration: re.Match[str]) -> Reading | None:
    text, start = reply.text, declaration.end()
    if _DENIED_BEFORE.search(text, max(0, declaration.start() - 120), declaration.start()):  # "I do not think the answer is …"
        return None
    for naming in reply.between(start, start + 80):
        if not _FILLER.match(text, start, naming.start):
            break
        if not naming.denied and (naming.sure or naming.kind == "text" or _ends_a_letter(reply, naming)):
            return _decided(reply, naming, declared=True)
    end = _SENTENCE_END.search(text, start, start + 400)
    clause = [n for n in reply.between(start, end.start() if end else start + 400) if n.sure and not n.denied]
    if declaration[1] is None or not clause:
        return None
    return _decided(reply, clause[0], declared=True) if len({n.choice for n in clause}) == 1 else Reading(-1, "several")


def _ends_a_letter(reply: _Reply, letter: _Naming) -> bool:
    """Whether nothing after a letter makes it a word ("a cat"): an end, punctuation, or the choice's own text."""
    return bool(_ENDS_A_LETTER.match(reply.text, letter.end) or _AFTER_A_LETTER.match(reply.text, letter.end) or _own_text(reply, letter))


def _own_text(reply: _Reply, letter: _Naming) -> _Naming | None:
    """The choice's text beside its letter, as in "B. Paris" or "B (Paris)"."""
    near = (n for n in reply.between(letter.end, letter.end + 12) if n.choice == letter.choice and n.kind == "text")
    return next((n for n in near if _BESIDE.fullmatch(reply.text, letter.end, n.start)), None)


_BESIDE = re.compile(r"[\s.:,)(\]\-–—]*(?:(?:an?|the)\s)?", re.IGNORECASE)
_ANOTHER = re.compile(
    rf"{_CLOSING}[.!]?\s*(?:,\s*(?:and|or)\b|,|/|;|&|\+|:|、|，|and\b|or\b|和|或者?|与|及|以及)\s*(?:either\b|both\b|option\b|choice\b|an?\s|the\b)?{_OPENING}$",
    re.IGNORECASE,
)


def _decided(reply: _Reply, naming: _Naming, declared: bool = False) -> Reading:
    """The naming's choice, unless another choice is named in one breath with it ("B or C")."""
    own = _own_text(reply, naming) if naming.kind == "letter" else None
    end = own.end if own else naming.end
    near = reply.between(end, end + 40)
    other = next((n for n in near if (own or n.kind == naming.kind) and n.sure and n.choice != naming.choice), None)
    if other and not other.denied and _ANOTHER.match(reply.text, end, other.start):
        return Reading(-1, "several")
    evidence: dict[tuple[str, bool], Evidence] = {("letter", True): "declared_letter", ("text", True): "declared_text"}
    return Reading(naming.choice, evidence.get((naming.kind, declared), naming.kind))


# ---------------------------------------------------------------- rule 2: by line

_LEADING = re.compile(rf"{_OPENING}(?:(?:option|choice|letter|an?|the|选项)\b)?{_OPENING}$", re.IGNORECASE)
_LABELLED = re.compile(r"[(\[]?([A-Z])(?:[)\]]|[.:、)])(?:\s|$|(?=[^\x00-\x7f]))", re.MULTILINE)
_AFTER_A_LABEL = re.compile(rf"(?:{_CLOSING}[.:、,;!—–](?:\s|$|[^\x00-\x7f])|[)\]]\S?|{_CLOSING}\s+[-–—(]|\n)")
_AFTER_A_LEADING_TEXT = re.compile(rf"{_CLOSING}\s?(?:[,.;:!—–，。；！、\n]|\s-\s|的[,，])")


def _by_line(reply: _Reply) -> Reading | None:
    lines = reply.text.splitlines() or [""]
    labels = [found and string.ascii_uppercase.find(found[1]) for found in map(_LABELLED.match, lines)]
    listed = len({label for label in labels if label is not None}) > 1  # the options, repeated
    first = _of_line(reply, 0, len(lines[0]), leading=not listed)
    last = _of_line(reply, len(reply.text) - len(lines[-1]), len(reply.text), leading=False)
    if listed and last is not None and labels[-2] is not None and last.choice == labels[-2] + 1:  # the list goes on, and is cut there
        last = None
    if first and last and first.choice != last.choice:
        return Reading(-1, "several")
    return first or last


def _of_line(reply: _Reply, start: int, end: int, leading: bool) -> Reading | None:
    """The choice that a line consists of or, if `leading`, begins with."""
    for naming in reply.between(start, min(start + 40, end)):
        if not _LEADING.match(reply.text, start, naming.start):
            break
        begun = leading and not naming.denied and (_own_text(reply, naming) or _leads(reply.text, naming))
        if begun or re.fullmatch(r"[\W_]*", reply.text[naming.end : end]):
            return _decided(reply, naming)
    return None


def _leads(text: str, naming: _Naming) -> bool:
    if naming.kind == "letter":
        return bool(_AFTER_A_LABEL.match(text, naming.end))
    return text[naming.start : naming.end].lower() in ("yes", "no") or bool(_AFTER_A_LEADING_TEXT.match(text, naming.end))


# ---------------------------------------------------------------- rule 3: mentioned

_LAST_WORDS = 4  # VLMEvalKit's: elsewhere a single letter may be part of a sentence ("point C", "vitamin B")


def _mentioned(reply: _Reply) -> Reading | None:
    sentences = _sentences(reply.text)
    asked = {start for start, end in sentences if reply.text[start:end].rstrip(" \n\"')").endswith(("?", "？"))}
    starts = [start for start, _ in sentences]
    stated = [n for n in reply.namings if n.sure and not n.denied and starts[bisect_right(starts, n.start) - 1] not in asked]
    words = [word.start() for word in re.finditer(r"[\w']+", reply.text)]
    at_an_end = [n.choice for n in stated if n.kind == "letter" and (n.start <= words[0] or n.start >= words[-_LAST_WORDS:][0])]
    bare = {n.choice for n in stated if n.kind == "letter"}
    texts = {n.choice for n in stated if n.kind == "text"}
    named = {n.choice for n in stated if n.strong}
    if not named and len(bare) == 1 and at_an_end and texts <= bare:
        named = bare
    named = named or texts or (bare if len(bare) > 1 else named)
    if len(named) > 1:
        return Reading(-1, "several")
    concluding = {n.choice for n in stated if n.start < sentences[0][1] or n.start >= sentences[-1][0]}
    return Reading(min(named), "mention") if named and named <= concluding else None


def _sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence."""
    ends = [0, *(found.end() for found in _SENTENCE_END.finditer(text)), len(text)]
    return [(start, end) for start, end in pairwise(ends) if text[start:end].strip()]
