"""How commands declare what they take: dataclasses whose fields are options, of which typer makes a command line.

A command is a function of one `Options`. Typer reads a function's signature, so one is made of the fields. Groups of
options that several commands share are base classes.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from subset_trainer.errors import UserError

T = TypeVar("T", bound="Options")
Act = Callable[[], None]
"""A command with its options, ready to run."""


@dataclass(frozen=True)
class Option:
    """One option or argument, in the annotation of a field."""

    help: str
    metavar: str | None = None
    """Name of the value; by default the field's in capitals."""
    parse: Callable[[Any], Any] | None = None
    """Turns the text, or with `many` the list of texts, into the value; raises ValueError with what was expected."""
    choices: tuple[str, ...] = ()
    many: bool = False
    """Whether several values may follow, and the option may be repeated."""
    argument: bool = False
    """Whether it is an argument by its place, and no option."""
    more: tuple[str, ...] = ()
    """Further spellings."""
    hidden: bool = False

    def names(self, field: str) -> tuple[str, ...]:
        """Return its spellings on a command line; none for an argument."""
        return () if self.argument else (f"--{field.replace('_', '-')}", *self.more)

    def shown(self, field: str) -> str:
        """Return its name for a message."""
        return (self.metavar or field.upper()) if self.argument else self.names(field)[0]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a command was given."""


@dataclass(frozen=True, kw_only=True)
class Answering(Options):
    """What every command takes that answers."""

    json: Annotated[bool, Option("print the answer as JSON on stdout, and everything else on stderr")] = False


@dataclass(frozen=True)
class Command:
    """A command of the program.

    Args:
        name: its name; with a space, the second word of a group's command.
        run: what it does. It returns the answer for `--json`.
        options: what it takes.
        text: what it is for, one paragraph; the first sentence stands in the list of commands.
        examples: command lines without the program's name.
        bare: whether it does something without any argument; if not, it prints its help.
    """

    name: str
    run: Callable[[Any], Any]
    options: type[Options]
    text: str
    examples: tuple[str, ...]
    bare: bool = False


def fields(options: type[Options]) -> Iterator[tuple[dataclasses.Field[Any], type, Option]]:
    """Yield each field with the type of its value and its declaration; arguments first, then by the order of classes."""
    hints = get_type_hints(options, include_extras=True)
    found = []
    for field in dataclasses.fields(options):
        kind, *extra = get_args(hints[field.name])
        found.append((field, kind, next(one for one in extra if isinstance(one, Option))))
    # A command's own options stand before those that it shares with others.
    own = [one for one in found if one[0].name in options.__annotations__]
    rest = [one for one in found if one[0].name not in options.__annotations__]
    yield from sorted([*own, *rest], key=lambda one: not one[2].argument)


def is_required(field: "dataclasses.Field[Any]") -> bool:
    """Return whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def default_of(field: "dataclasses.Field[Any]") -> str | None:
    """Return a field's default as a text; None if there is none, or it is empty or False."""
    value = field.default
    if value in (None, False, dataclasses.MISSING, ()):
        return None
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def is_flag(kind: type) -> bool:
    """Return whether an option takes no value."""
    return kind is bool


def _parameter(field: "dataclasses.Field[Any]", kind: type, option: Option) -> inspect.Parameter:
    """Return the parameter that typer reads. Values are texts, which `_values` parses: typer's errors name no value."""
    shared: dict[str, Any] = {"help": option.help, "hidden": option.hidden}
    if not is_flag(kind):
        shared["metavar"] = option.metavar or ("|".join(option.choices) if option.choices else field.name.upper())
    names = option.names(field.name)
    if is_flag(kind) and field.default is True:
        names = (f"{names[0]}/--no-{names[0].removeprefix('--')}", *names[1:])
    default: Any = ... if is_required(field) and not (option.argument and option.many) else None
    taken: Any = bool if is_flag(kind) else Literal[option.choices] if option.choices else str
    if is_flag(kind):
        default = field.default
    elif option.many:
        taken = list[taken]
    shown = default_of(field) if not is_flag(kind) else None
    declare = typer.Argument if option.argument else typer.Option
    declared = declare(*names, show_default=shown or False, **shared)
    annotation = Annotated[taken if default is ... or is_flag(kind) else taken | None, declared]
    if default is ...:
        default = inspect.Parameter.empty
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _values(options: type[T], given: Mapping[str, Any]) -> T:
    """Parse the texts of a command line.

    Raises:
        UserError: names the option, the value and what was expected.
    """
    values = {}
    for field, kind, option in fields(options):
        value = given[field.name]
        if value is None or (option.many and not value):
            continue  # the field's default
        if option.parse is not None:
            try:
                value = option.parse(list(value) if option.many else value)
            except ValueError as error:
                raise UserError(f"{option.shown(field.name)} {error}") from error
        elif option.many:
            value = tuple(value)
        elif not is_flag(kind) and isinstance(value, str) and _number(kind) is not None:
            value = _as_number(option.shown(field.name), value, kind)
        values[field.name] = value
    return options(**values)


def _number(kind: Any) -> type | None:
    kinds = {kind, *(get_args(kind) if get_origin(kind) is not Annotated else ())}
    return int if int in kinds else float if float in kinds else None


def _as_number(name: str, text: str, kind: Any) -> int | float:
    number = _number(kind)
    try:
        return int(text) if number is int else float(text)
    except ValueError as error:
        what = "a whole number" if number is int else "a number"
        raise UserError(f"{name} {text!r}: expected {what}") from error


class OneCommand(TyperCommand):
    """A command whose options may be followed by several values, and that prints its help when called bare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command's name."""
        _help_when_bare(self, ctx, args)
        many = {name for one in self.params if one.param_type_name == "option" and getattr(one, "multiple", False)
                for name in one.opts}
        return super().parse_args(ctx, list(_spread(args, many)))


class Group(TyperGroup):
    """A group of commands that prints its help when called bare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the group's name."""
        _help_when_bare(self, ctx, args)
        return super().parse_args(ctx, args)


def _help_when_bare(command: Any, ctx: Any, args: Sequence[str]) -> None:
    if command.no_args_is_help and not args and not ctx.resilient_parsing:
        typer.echo(ctx.get_help())
        raise typer.Exit


def _spread(words: Sequence[str], many: set[str]) -> Iterator[str]:
    """Yield `--set a --set b` for `--set a b`, which typer does not know."""
    option, waiting = "", False
    for at, word in enumerate(words):
        if word == "--":
            yield from words[at:]
            return
        if word.startswith("-") and len(word) > 1 and not word[1].isdecimal():
            option, waiting = (word if word in many else ""), True
        elif option and not waiting:
            yield option
        else:
            waiting = False
        yield word


def add(app: typer.Typer, command: Command, program: str) -> None:
    """Add a command to an app. Called, it returns an `Act`."""
    parameters = [_parameter(*one) for one in fields(command.options)]

    def call(**given: Any) -> Act:
        options = _values(command.options, given)
        return lambda: answer(command.run, options)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    app.command(
        command.name.rpartition(" ")[2],
        cls=OneCommand,
        help=command.text,
        epilog="\n\n".join(("Examples:", *(f"{program} {line}" for line in command.examples))),
        no_args_is_help=not command.bare,
    )(call)


def answer(run: Callable[[Any], Any], options: Options) -> None:
    """Run a command; with `--json` print what it returns, and nothing else, on stdout."""
    if not getattr(options, "json", False):
        run(options)
        return
    import json
    import sys
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):
        found = run(options)
    print(json.dumps(found, indent=2, default=str))
