"""Arithmetic for `demo-chat`: finds an expression in a question and evaluates it exactly, within bounds."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from .answers import Question, RuleAnswer, pick

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
_ALLOWED = re.compile(r"(?!.*\*\s*\*)(?!.*/\s*/)[\d\s().+\-*/^%]{1,2000}")
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda left, right: left / right,
    ast.Mod: operator.mod,
}
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}\b)")


class TooLarge(ValueError):
    """Raised for a result with too many digits."""


def evaluate(expression: str) -> Fraction:
    """Return the exact value of ``+ - * / % ^`` and brackets. Raises `ValueError`, `TooLarge`, `ZeroDivisionError`."""
    if not _ALLOWED.fullmatch(expression):
        raise ValueError("not an arithmetic expression")
    if expression.count("(") > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    # Python does not allow leading zeros.
    source = re.sub(r"(?<![\d.])0+(?=\d)", "", expression).replace("^", "**")
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("not an arithmetic expression") from None
    return _value(tree.body, 0)


def _value(node: ast.expr, depth: int) -> Fraction:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    match node:
        case ast.Constant(int() | float() as value):
            return _bounded(Fraction(str(value)))
        case ast.UnaryOp(op, operand):
            return -_value(operand, depth + 1) if isinstance(op, ast.USub) else _value(operand, depth + 1)
        case ast.BinOp(left, ast.Pow(), right):
            return _power(_value(left, depth + 1), _value(right, depth + 1))
        case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
            return _bounded(_OPERATORS[type(op)](_value(left, depth + 1), _value(right, depth + 1)))
        case _:
            raise ValueError("not an arithmetic expression")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or bits * abs(exponent) > _MAX_BITS:
        raise TooLarge("only whole exponents of a reasonable size")
    return base**exponent.numerator


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise TooLarge("the number is too large")
    return value


def find_expression(text: str) -> str | None:
    """Return the longest part of a text that looks like an expression: numbers with operators between them."""
    text = _GROUPED.sub("", text)
    text = _SPOKEN_PATTERN.sub(lambda match: f" {_SIGNS[(match.lastindex or 1) - 1]} ", text)
    found = [match.group().strip() for match in _EXPRESSION.finditer(text)]
    found = [piece for piece in found if _WORTHY.search(piece) and not _NO_SUM.fullmatch(piece)]
    return max(found, key=len, default=None)


def shown(value: Fraction) -> str:
    """Return a number as text, with at most ten significant digits unless it is whole."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.10g}"


def answer_arithmetic(question: Question) -> RuleAnswer | None:
    """Answer "What is 17 * 23?"."""
    expression = find_expression(question.text)
    if expression is None:
        return None
    try:
        result = shown(evaluate(expression))
    except ZeroDivisionError:
        return RuleAnswer("Division by zero has no answer.", "Undefined")
    except (TooLarge, OverflowError):
        return RuleAnswer("That number is too large for me to write down.", "Huge")
    except ValueError:
        return None
    plain = " ".join(_AROUND_SIGN.sub(r" \1 ", expression).split())
    return RuleAnswer(
        pick((f"{plain} = {result}.", f"That makes {result}.", f"The answer is {result}."), question.variant), result
    )
