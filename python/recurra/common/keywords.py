"""Errors for unknown keyword arguments that name the function called and the argument probably meant."""

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


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with such errors for unknown keyword arguments."""
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
            better = _explanation(error, [name(args)], kwargs, _names([function]))
            if better is None:
                raise
        raise better from None

    return call


def explain_all(package: dict[str, Any], names: Iterable[str]) -> None:
    """The same for the public functions and classes of a package, `package` being its `globals()`."""
    for name in names:
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
            better = _explanation(error, [one.__name__ for one in own.__mro__], kwargs, _names(inits))
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


def _explanation(error: TypeError, names: list[str], given: dict[str, Any], known: list[str]) -> TypeError | None:
    """The better error for a call of `names[0]`, with its bases in `names[1:]`; None if `error` is not about an unknown
    keyword argument of this call."""
    found = _UNKNOWN.search(str(error))
    wrong = found[1] if found is not None else None
    if found is None and "() missing " in str(error) and error.__traceback__ and error.__traceback__.tb_next is None:
        wrong = next((name for name in given if name not in known), None)  # rather than the argument that is missing
    if wrong is None or wrong not in given or wrong in known:
        return None
    import difflib  # late, to keep `import recurra` cheap

    from recurra.common import synonyms

    hint = synonyms.hint(names, wrong, known)
    if hint is None:
        close = difflib.get_close_matches(wrong, known, 1, 0.75)  # close enough for a misspelling only
        hint = f"write {close[0]}=" if close else "leave it out"
    return TypeError(f"{names[0]}: got an unknown argument {wrong}, expected some of {', '.join(known)}; {hint}")
