"""Arithmetic for `demo-chat`: finds an expression in a question and works it out exactly, within bounds."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

from .said import Said, Turn, pick

__all__ = ["TooLarge", "answer_arithmetic", "evaluate", "find_expression", "shown"]

_MAX_BITS = 4000
_MAX_DEPTH = 50
_SPOKEN = (
    (r"\bmultiplied by\b|\btimes\b|[×·]|(?<=\d) ?x ?(?=\d)", "*"),
    (r"\bdivided by\b|\bover\b|÷", "/"),
    (r"\bto the power of\b|\*\*", "^"),
    (r"\bplus\b|\band then add\b", "+"),
    (r"\bminus\b|[−–]", "-"),
    (r"\bmod(?:ulo)?\b", "%"),
    (r"\bsquared\b", "^2"),
    (r"\bcubed\b", "^3"),
)
_SIGNS = [sign for _, sign in _SPOKEN]
_SPOKEN_PATTERN = re.compile("|".join(f"({spoken})" for spoken, _ in _SPOKEN), re.IGNORECASE)
_WORTHY = re.compile(r"\d\s*[+\-*/^%][\s(+\-.]*\d|\)\s*[+\-*/^%]")
_NO_SUM = re.compile(r"\d{4}-\d\d-\d\d|[\d-]+\d{4,}")  # a date, a telephone number
_AROUND_SIGN = re.compile(r"\s*([+\-*/^%])\s*")
_EXPRESSION = re.compile(r"[-(\d.][\d\s().+\-*/^%]*[\d)]")
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|([-+*/^%()]))")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}\b)")


_Number: TypeAlias = "int | Fraction"


class TooLarge(ValueError):
    """The result would have more digits than anyone wants to read."""


def evaluate(expression: str) -> int | Fraction:
    """Work out ``+ - * / % ^`` and brackets. Raises `ValueError` (`TooLarge` among them) or `ZeroDivisionError`."""
    return _Parser(expression).result()


class _Parser:
    """Recursive descent, one method a level of precedence."""

    def __init__(self, expression: str) -> None:
        self._tokens: list[str] = []
        place, end = 0, len(expression.rstrip())
        while place < end:
            match = _TOKEN.match(expression, place)
            if match is None:
                raise ValueError(f"no arithmetic at {expression[place:]!r}")
            self._tokens.append(match[1] or match[2])
            place = match.end()
        self._place = 0
        self._depth = 0

    def result(self) -> _Number:
        value = self._sum()
        if self._place != len(self._tokens):
            raise ValueError("something is left over")
        return value

    def _take(self, signs: str) -> str:
        if self._place < len(self._tokens) and self._tokens[self._place] in signs:
            self._place += 1
            return self._tokens[self._place - 1]
        return ""

    def _sum(self) -> _Number:
        value = self._product()
        while sign := self._take("+-"):
            other = self._product()
            value = _bounded(value + other if sign == "+" else value - other)
        return value

    def _product(self) -> _Number:
        value = self._signed()
        while sign := self._take("*/%"):
            other = self._signed()
            value = _bounded(
                value * other if sign == "*" else Fraction(value) / other if sign == "/" else value % other
            )
        return value

    def _signed(self) -> _Number:
        sign = 1
        while token := self._take("+-"):
            sign = -sign if token == "-" else sign
        return sign * self._power()

    def _power(self) -> _Number:
        base = self._atom()
        if not self._take("^"):
            return base
        exponent = Fraction(self._nested(self._signed))
        if exponent.denominator != 1 or abs(exponent) > _MAX_BITS:
            raise TooLarge("only whole exponents of a reasonable size")
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) > _MAX_BITS:
            raise TooLarge("the power is too large")
        return Fraction(base) ** exponent.numerator

    def _atom(self) -> _Number:
        if self._take("("):
            value = self._nested(self._sum)
            if not self._take(")"):
                raise ValueError("a bracket is not closed")
            return value
        if self._place >= len(self._tokens) or self._tokens[self._place] in "+-*/^%()":
            raise ValueError("a number is missing")
        self._place += 1
        token = self._tokens[self._place - 1]
        return _bounded(int(token) if token.isdigit() else Fraction(token))

    def _nested(self, inner: Callable[[], _Number]) -> _Number:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        value = inner()
        self._depth -= 1
        return value


def _bounded(value: _Number) -> _Number:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise TooLarge("the number is too large")
    return value


def find_expression(text: str) -> str | None:
    """The longest piece of the text that looks like something to work out: two numbers and a sign between them."""
    text = _GROUPED.sub("", text)
    text = _SPOKEN_PATTERN.sub(lambda match: f" {_SIGNS[(match.lastindex or 1) - 1]} ", text)
    found = [match.group().strip() for match in _EXPRESSION.finditer(text)]
    found = [piece for piece in found if _WORTHY.search(piece) and not _NO_SUM.fullmatch(piece)]
    return max(found, key=len, default=None)


def shown(value: _Number) -> str:
    """A number as people write it: whole, or with at most ten significant decimals."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.10g}"


def answer_arithmetic(turn: Turn) -> Said | None:
    """Answer "What is 17 * 23?"."""
    expression = find_expression(turn.text)
    if expression is None:
        return None
    try:
        result = shown(evaluate(expression))
    except ZeroDivisionError:
        return Said("Division by zero has no answer.", "Undefined")
    except (TooLarge, OverflowError):
        return Said("That number is too large for me to write down.", "Huge")
    except ValueError:
        return None
    plain = " ".join(_AROUND_SIGN.sub(r" \1 ", expression).split())
    return Said(
        pick((f"{plain} = {result}.", f"That makes {result}.", f"The answer is {result}."), turn.variant), result
    )
