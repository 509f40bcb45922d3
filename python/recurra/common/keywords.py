"""Errors for unknown and missing arguments that name the function called and say what to write; public names."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_UNKNOWN = re.compile(r"got an unexpected keyword argument '(\w+)'")
_TWICE = re.compile(r"got multiple values for argument '(\w+)'")
_QUOTED = re.compile(r"'(\w+)'")


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with such errors."""
    return _explained(function, lambda _args: function.__name__)


def explained_method(function: Callable[P, R]) -> Callable[P, R]:
    """The same for a method, which messages call by the object's class: "GRU.record", or "CTC" for `__call__`."""

    def name(args: tuple[Any, ...]) -> str:
        own = type(args[0]).__name__ if args else function.__qualname__.partition(".")[0]
        return own if function.__name__ == "__call__" else f"{own}.{function.__name__}"

    return _explained(function, name)


def _explained(function: Callable[P, R], name: Callable[[tuple[Any, ...]], str]) -> Callable[P, R]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            better = _explanation(error, [name(args)], args, kwargs, [function])
            if better is None:
                raise
        raise better from None

    return call


def explain_all(package: dict[str, Any], names: Iterable[str]) -> None:
    """The same for the public functions and classes of a package, `package` being its `globals()`. Completion shows
    their names alone, and the error about another name says what stands for it here."""
    public = sorted(names)
    package.setdefault("__dir__", lambda: public)

    def missing(name: str) -> Any:
        from recurra.common import habits

        raise habits.of_module(package["__name__"], name)

    package.setdefault("__getattr__", missing)
    for name in public:
        found: Any = package.get(name)
        if inspect.isfunction(found) and not hasattr(found, "__wrapped__"):
            package[name] = made = explained(found)
            home = vars(sys.modules[found.__module__])
            if home.get(name) is found:  # pickle looks it up there
                home[name] = made
        elif inspect.isclass(found) and not issubclass(found, BaseException):
            _explain_class(found)


def _explain_class(cls: type) -> None:
    init: Any = cls.__init__  # type: ignore[misc]
    if hasattr(init, "__wrapped__") or not inspect.isfunction(init):
        return

    @functools.wraps(init)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            init(self, *args, **kwargs)
            return
        except TypeError as error:
            own = type(self)
            inits = [one.__dict__["__init__"] for one in own.__mro__ if "__init__" in one.__dict__]
            better = _explanation(error, [one.__name__ for one in own.__mro__], args, kwargs, inits)
            if better is None:
                raise
        raise better from None

    cls.__init__ = call  # type: ignore[misc]


def _names(functions: Iterable[Any]) -> list[str]:
    """The names of the keyword arguments; **options stands for those of the next function."""
    names: list[str] = []
    for function in functions:
        arguments = inspect.signature(function).parameters.values()
        names += [a.name for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY) and a.name != "self"]
        if all(a.kind is not a.VAR_KEYWORD for a in arguments):
            break
    return list(dict.fromkeys(names))


def _explanation(
    error: TypeError, names: list[str], args: tuple[Any, ...], given: dict[str, Any], functions: list[Any]
) -> TypeError | None:
    """The better error for a call of `names[0]`, with its bases in `names[1:]`; None if `error` is not about an
    argument of this call that is unknown, missing or given twice."""
    known = _names(functions)
    found = _UNKNOWN.search(str(error))
    wrong = found[1] if found is not None else None
    own = error.__traceback__ is not None and error.__traceback__.tb_next is None
    missing = own and "() missing " in str(error)
    if missing:
        wrong = next((name for name in given if name not in known), None)  # rather than the argument that is missing
    if missing and wrong is None:
        return _missing(names[0], _QUOTED.findall(str(error)), args, inspect.signature(functions[0]))
    from recurra.common import synonyms  # late, to keep `import recurra` cheap

    twice = _TWICE.search(str(error)) if own else None
    if twice is not None:
        hint = synonyms.of_first(names)
        return TypeError(f"{names[0]}: got {twice[1]} twice, by its place and by its name, expected it once; {hint}")
    if wrong is None or wrong not in given or wrong in known:
        return None
    import difflib

    meant = synonyms.hint(names, wrong, known)
    if meant is None:
        close = difflib.get_close_matches(wrong, known, 1, 0.75)  # close enough for a misspelling only
        meant = f"write {close[0]}=" if close else "leave it out"
    return TypeError(f"{names[0]}: got an unknown argument {wrong}, expected some of {', '.join(known)}; {meant}")


def _missing(name: str, missing: list[str], args: tuple[Any, ...], signature: inspect.Signature) -> TypeError:
    """The error about arguments that have to be given."""
    from recurra.common import synonyms

    required = [one for one in signature.parameters.values() if one.default is one.empty and one.name != "self"]
    required = [one for one in required if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    by_place = [one.name for one in required if one.kind is one.POSITIONAL_OR_KEYWORD]
    by_name = [f"{one.name}={synonyms.EXAMPLES.get(one.name, '...')}" for one in required if one.name not in by_place]
    sizes = "; "
    if len(by_place) == 2 and missing == by_place[1:] and by_place[0] in synonyms.COMING_IN and len(args) == 1:
        by_place[1] = f"{args[0]!r:.20}"  # a Keras layer is told the size of what it gives alone
        sizes = f", where {by_place[0]} is the number of features that come in; "
    elif not set(missing) & set(by_place):
        by_place = ["..."]
    said = " and ".join(missing)
    return TypeError(
        f"{name}: got no {said}, expected {', '.join(one.name for one in required)}{sizes}"
        f"write {name}({', '.join(by_place + by_name)})"
    )
