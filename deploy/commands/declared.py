"""How commands declare what they take: dataclasses whose fields are options, of which typer makes a command line.

A command is a function of one `Options`. Typer reads a function's signature, so one is made of the fields. Groups of
options that several commands share are base classes.
"""

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from subset_trainer.errors import UserError

T = TypeVar("T", bound="Options")
WIDEST = 16
"""Characters of choices that stand for a value in help; more are listed in its text."""
SPELLINGS = {"--strategy": ("--strategies",), "--baselines": ()}
"""Earlier spelling of an option → what it is today; nothing for what is the default."""
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
    hidden: bool = False

    def names(self, field: "dataclasses.Field[Any]") -> tuple[str, ...]:
        """Return what it is called on a command line; nothing for an argument."""
        if self.argument:
            return ()
        return (f"--{'no-' if field.default is True else ''}{field.name.replace('_', '-')}",)

    def shown(self, field: "dataclasses.Field[Any]") -> str:
        """Return its name for a message."""
        return (self.metavar or field.name.upper()) if self.argument else self.names(field)[0]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a command was given."""


@dataclass(frozen=True, kw_only=True)
class Answering(Options):
    """What every command takes that answers."""

    json: Annotated[bool, Option("print the answer as JSON on stdout, and everything else on stderr")] = False


class AnsweredError(UserError):
    """A failure of a command that has an answer for `--json` all the same."""

    def __init__(self, message: str, answer: Any) -> None:
        super().__init__(message)
        self.answer = answer


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
    """Yield each field with the type of its value and its declaration: arguments, own options, shared ones."""
    hints = get_type_hints(options, include_extras=True)
    found = []
    for field in dataclasses.fields(options):
        kind, *extra = get_args(hints[field.name])
        found.append((field, kind, next(one for one in extra if isinstance(one, Option))))
    # A command's own options stand before those that it shares with others.
    # The order among arguments, whose place counts, is that of the fields.
    yield from sorted(
        found, key=lambda one: 0 if one[2].argument else 1 if one[0].name in options.__annotations__ else 2
    )


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
    shown = default_of(field)
    choices = "|".join(option.choices)
    text = option.help
    if option.choices and len(choices) > WIDEST and not option.metavar:
        text, choices = f"{text}: {', '.join(option.choices)}", ""
    declared: dict[str, Any] = {
        "help": f"{text} ({shown})" if shown and not is_flag(kind) else text,
        "hidden": option.hidden,
        "show_default": False,
        "metavar": "" if is_flag(kind) else option.metavar or choices or field.name.upper(),
    }
    if option.choices:
        declared["autocompletion"] = lambda: list(option.choices)
    taken: Any = bool if is_flag(kind) else list[str] if option.many else str
    default: Any = False if is_flag(kind) else None
    if not is_flag(kind):
        if is_required(field):
            default = inspect.Parameter.empty
        else:
            taken = taken | None
    declare = typer.Argument if option.argument else typer.Option
    annotation = Annotated[taken, declare(*option.names(field), **declared)]
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
        if value is None or value == []:
            continue  # the field's default
        if is_flag(kind):
            # The option of a flag that is on by default turns it off.
            values[field.name] = value != (field.default is True)
            continue
        try:
            values[field.name] = _parsed(option, kind, value)
        except ValueError as error:
            raise UserError(f"{option.shown(field)} {error}") from error
    return options(**values)


def _parsed(option: Option, kind: type, value: Any) -> Any:
    if option.parse is not None:
        return option.parse(value)
    if option.many:
        return tuple(value)
    if option.choices and value not in option.choices:
        near = get_close_matches(value, option.choices, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{value!r}: expected one of {', '.join(option.choices)}{hint}")
    if int not in (kind, *get_args(kind)):
        return value
    try:
        return int(value)
    except ValueError as error:
        raise ValueError(f"{value!r}: expected a whole number") from error


class _Help:
    """Help without Python's types, such as `<bool>` beside a flag."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's options and arguments."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in found:
            if one.param_type_name == "argument":
                one.display_type_rich = lambda ctx: None
            elif one.is_flag and one.metavar is None:
                one.metavar = ""
        return found


class OneCommand(_Help, TyperCommand):
    """A command whose options may be followed by several values, and that prints its help when called bare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command's name."""
        _help_when_bare(self, ctx, args)
        known = {name for one in self.params for name in one.opts}
        many = {
            name
            for one in self.params
            if one.param_type_name == "option" and getattr(one, "multiple", False)
            for name in one.opts
        }
        return super().parse_args(ctx, list(_spread(_respelled(args, known), many)))


class Group(_Help, TyperGroup):
    """A group of commands that prints its help when called bare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the group's name."""
        _help_when_bare(self, ctx, args)
        return super().parse_args(ctx, args)


def _help_when_bare(command: Any, ctx: Any, args: Sequence[str]) -> None:
    if command.no_args_is_help and not args and not ctx.resilient_parsing:
        typer.echo(ctx.get_help())
        raise typer.Exit


def _respelled(words: Sequence[str], known: set[str]) -> list[str]:
    """Return the words with today's spellings of options, where the command knows those."""
    today = {old: new for old, new in SPELLINGS.items() if {f"--no-{old[2:]}", *new} & known}
    return [new for word in words for new in today.get(word, (word,))]


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
        short_help=re.split(r"(?<=[.;:]) ", command.text)[0].rstrip(".;:"),
        epilog="\n\n".join(("Examples:", *(f"{program} {line}" for line in command.examples))),
        no_args_is_help=not command.bare,
        context_settings={"help_option_names": ["-h", "--help"]},
    )(call)


def answer(run: Callable[[Any], Any], options: Options) -> None:
    """Run a command; with `--json` print what it returns, and nothing else, on stdout."""
    if not getattr(options, "json", False):
        run(options)
        return
    try:
        with redirect_stdout(sys.stderr):
            found = run(options)
    except AnsweredError as error:
        print(json.dumps(error.answer, indent=2, default=str))
        raise
    print(json.dumps(found, indent=2, default=str))


def sentence(error: typer.TyperException) -> str:
    """Return what is wrong with a command line, with what was probably meant and where help is."""
    context = getattr(error, "ctx", None)
    wrong = getattr(error, "option_name", None)
    text = error.format_message() if wrong is None else error.message
    text = " ".join(text.split()).rstrip(".").replace(". Did you mean", "; did you mean")
    if wrong is not None and context is not None:
        text += _meant(wrong, [name for one in context.command.params for name in one.opts])
    if "unexpected extra argument" in text and context is not None and context.command.name == "audit":
        text += "; --output FILE writes the JSON that --json FILE wrote"
    where = f" (see `{context.command_path} --help`)" if context is not None else ""
    return f"{text[:1].lower()}{text[1:]}{where}"


def _meant(wrong: str, known: Sequence[str]) -> str:
    """Return what an unknown option was probably meant to be."""
    name = wrong.removeprefix("--").replace("-", "_")
    near = [f"{wrong}s"] if f"{wrong}s" in known else get_close_matches(wrong, known, 1)
    if "--set" in known and name in _hyperparameters() and f"{wrong}s" not in known:
        return f"; it is a hyperparameter: give --set {name}=VALUE"
    return f"; did you mean {near[0]}?" if near else ""


def _hyperparameters() -> Sequence[str]:
    from subset_trainer.config.hyperparameters import Hyperparameters

    return tuple(Hyperparameters.model_fields)
