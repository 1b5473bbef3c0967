"""Small tasks on words that `demo-chat` carries out: reverse, count, sort, spell, repeat, list."""

from __future__ import annotations

import re

from .answers import Question, RuleAnswer, words_of

__all__ = ["answer_task"]

_QUOTED = re.compile(r"[\"“”](.+?)[\"“”]|(?<!\w)'(.+?)'(?!\w)", re.DOTALL)
_NUMBER_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
                 "ten": 10, "some": 3, "a few": 3}  # fmt: skip
_LISTS = {
    "colours": "red blue green yellow violet orange white black grey pink",
    "fruits": "apple pear cherry plum fig grape lemon melon peach quince",
    "animals": "otter heron fox hedgehog owl seal badger hare swift newt",
    "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune",
    "languages": "Python C Rust Go Haskell Erlang Lua OCaml Ruby Scheme",
}
_LIST_NAMES = {"colors": "colours", "colour": "colours", "color": "colours", "fruit": "fruits", "animal": "animals",
               "planet": "planets", "programming languages": "languages"}  # fmt: skip
_LIST = re.compile(
    r"\b(?:name|list|give me|tell me)\b.*?\b(\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten|some|a few)\s+"
    r"(programming languages|languages|colou?rs?|fruits?|animals?|planets?)\b",
    re.IGNORECASE | re.DOTALL,
)
_COUNT_UP = re.compile(r"\bcount (?:from (\d{1,5}) )?(?:up )?to (\d{1,5})\b", re.IGNORECASE)
_MAX_COUNT = 10_000
_LETTERS_IN = re.compile(r"\bhow many (?:times does )?(?:letters?|(?:the letter )?[\"']?(\w)[\"']?(?:'?s)?) (?:are )?"
                         r"(?:is )?(?:there )?(?:in|appear in)\b", re.IGNORECASE)  # fmt: skip


def _subject(text: str, *verbs: str) -> str | None:
    """Return the subject of a task: the quoted text, else the text after a colon, else the text after the verb."""
    quoted = _QUOTED.search(text)
    if quoted:
        return quoted[1] or quoted[2]
    head, colon, rest = text.partition(":")
    if colon and rest.strip():
        return rest.strip()
    verb = re.compile(rf"\b(?:{'|'.join(verbs)})\b(?: (?:the|this|these|following|words?|text|sentence|string|of|in))*",
                      re.IGNORECASE)  # fmt: skip
    match = verb.search(head)
    rest = head[match.end() :].strip(" .?!,") if match else ""
    return rest or None


def _counts(question: Question) -> RuleAnswer | None:
    text = question.text
    letters = _LETTERS_IN.search(text)
    if letters:
        subject = _subject(text, "in")
        if subject and letters[1]:
            found = subject.lower().count(letters[1].lower())
            return RuleAnswer(f"The letter {letters[1]} is in {subject!r} {found} times.", str(found))
        if subject:
            size = sum(character.isalpha() for character in subject)
            return RuleAnswer(f"{subject!r} has {size} letters.", str(size))
    if re.search(r"\b(how many words|count (?:the )?words|number of words)\b", text, re.IGNORECASE):
        subject = _subject(text, "words are in", "words in", "count the words in", "words")
        if subject:
            size = len(words_of(subject))
            return RuleAnswer(f"I count {size} {'word' if size == 1 else 'words'}.", str(size))
    up = _COUNT_UP.search(text)
    if up:
        first, last = int(up[1] or 1), min(int(up[2]), _MAX_COUNT)
        return RuleAnswer(", ".join(str(number) for number in range(first, last + 1)) + ".", str(last))
    return None


def _changes(question: Question) -> RuleAnswer | None:
    text = question.text
    lower = text.lower()
    if re.search(r"\breverse\b|\bbackwards?\b", lower):
        subject = _subject(text, "reverse", "spell", "write", "say")
        if subject:
            subject = re.sub(r" (?:backwards?|in reverse)$", "", subject)
            if re.search(r"\breverse (?:the )?(?:order of )?(?:the )?words\b", lower):
                return RuleAnswer(" ".join(reversed(subject.split())))
            return RuleAnswer(subject[::-1])
    for case, change in (("upper", str.upper), ("capital", str.upper), ("lower", str.lower)):
        if re.search(rf"\b{case}(?:[- ]?case|s| letters)\b", lower):
            subject = _subject(text, "convert", "uppercase", "upper-case", "lowercase", "make", "write", "put")
            if subject:
                return RuleAnswer(change(re.sub(rf" (?:in|into|to) {case}.*$", "", subject, flags=re.IGNORECASE)))
    if re.search(r"\bsort\b|\balphabetical", lower):
        subject = _subject(text, "sort", "put", "order")
        if subject:
            words = [word for word in words_of(subject) if word.lower() not in ("and", "alphabetically")]
            return RuleAnswer(", ".join(sorted(words, key=str.lower)) + ".")
    if re.search(r"\bspell\b", lower):
        subject = _subject(text, "spell")
        if subject:
            return RuleAnswer("-".join(letter.upper() for letter in subject if letter.isalnum()) + ".")
    return None


def _repeats(question: Question) -> RuleAnswer | None:
    match = re.match(
        r"\s*(?:please )?(?:say|repeat(?: after me)?|echo)\b[: ,]*(.+)", question.text, re.IGNORECASE | re.DOTALL
    )
    if match is None:
        return None
    quoted = _QUOTED.fullmatch(match[1].strip(" .!"))
    return RuleAnswer((quoted[1] or quoted[2]) if quoted else match[1].strip())


def _lists(question: Question) -> RuleAnswer | None:
    match = _LIST.search(question.text)
    if match is None:
        return None
    name = match[2].lower()
    options = _LISTS[_LIST_NAMES.get(name, name)].split()
    count = _NUMBER_WORDS.get(match[1].lower()) or int(match[1])
    start = question.variant % len(options)
    chosen = [options[(start + step) % len(options)] for step in range(min(count, len(options)))]
    text = chosen[0] if len(chosen) == 1 else ", ".join(chosen[:-1]) + " and " + chosen[-1]
    return RuleAnswer(text[0].upper() + text[1:] + ".", chosen[0])


def answer_task(question: Question) -> RuleAnswer | None:
    """Carry out a task on words if the user requests one."""
    for rule in (_counts, _lists, _changes, _repeats):
        said = rule(question)
        if said is not None:
            return said
    return None
