"""The command `stepwire-server`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, TypeVar

try:
    import click
except ModuleNotFoundError:
    raise SystemExit('stepwire-server needs more than the base install: pip install "stepwire[server]"') from None

import stepwire_server.demo
from stepwire.errors import JournalDamaged, JournalUnavailable, StorageFull
from stepwire_server.allocator import keep_giving_back, use_one_arena
from stepwire_server.api.server import ListenError, Options, Server, check_address
from stepwire_server.app import App
from stepwire_server.config import (
    DEFAULT_APP,
    ConfigError,
    ServeConfig,
    check_settings,
    default_journal,
    journal_path,
    load_app,
    misspelt,
    read_file,
)
from stepwire_server.engine.executor import Settings
from stepwire_server.journal import Journal, JournalRefused, MemoryJournal, Retention, SqliteJournal
from stepwire_server.journal_commands import journal
from stepwire_server.limits import CallLimits

__all__ = ["main"]

_log = logging.getLogger("stepwire_server")

_COLLECT_AFTER = 10_000
"""Objects that are made, and not freed, between two looks of the garbage collector. Python's own: 700."""

_LAST_WORDS = 0.5
"""Seconds that operations which were abandoned have to end, when everything else has."""

_THREADS = "stepwire-operation"
"""What the names of all threads begin with that operations run in."""

F = TypeVar("F", bound=Callable[..., Any])


def _option(flag: str, **settings: Any) -> Callable[[F], F]:
    """A flag that is an environment variable too."""
    name = flag.removeprefix("--").replace("-", "_")
    return click.option(flag, name, envvar=f"STEPWIRE_{name.upper()}", show_envvar=True, show_default=True, **settings)


def _read_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is not None:
        known = frozenset(p.name for p in context.command.params if p.name and p is not parameter)
        try:
            values = read_file(path, known)
        except ConfigError as error:
            raise click.ClickException(str(error)) from error
        for given in context.command.params:
            # Later click would name the flag and the variable, and not the file.
            if given.name in values:
                try:
                    given.type_cast_value(context, values[given.name])
                except click.BadParameter as error:
                    raise click.ClickException(f"{path}: {given.name}: {error.message}") from error
        context.default_map = values


def _serve_options(command: F) -> F:
    defaults = ServeConfig()
    for decorate in reversed(
        [
            click.argument("app", default=DEFAULT_APP, metavar="[MODULE:APP]"),
            click.option(
                "--config",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                envvar="STEPWIRE_CONFIG",
                show_envvar=True,
                is_eager=True,
                expose_value=False,
                callback=_read_config,
                help="A TOML file with these settings, without the dashes: listen = '0.0.0.0:50051'.",
            ),
            _option("--listen", default=defaults.listen, help="HOST:PORT. Port 0 takes a free one."),
            click.option(
                "--journal",
                default="",
                envvar="STEPWIRE_JOURNAL",
                show_envvar=True,
                help=f"The journal's file, or 'memory'. Without it: {default_journal('APP')}, by the app's name.",
            ),
            _option(
                "--durability",
                default=defaults.durability,
                type=click.Choice(["machine", "process"]),
                help="What an event that was shown survives: a crash of the machine, or of this process only.",
            ),
            _option(
                "--loop",
                default=defaults.loop,
                type=click.Choice(["asyncio", "uvloop"]),
                help="The event loop: Python's own, or uvloop, which comes with stepwire[uvloop].",
            ),
            _option("--documents", default="", metavar="DIR", help="Short for --set documents=DIR."),
            _option(
                "--set",
                multiple=True,
                metavar="NAME=VALUE",
                help="A setting of the app; check-config lists those it has. May be given often.",
            ),
            *_limit_options(),
            _option(
                "--max-parallel-steps",
                default=defaults.max_parallel_steps,
                type=click.IntRange(1, 10_000),
                help="Steps of one execution that run at once.",
            ),
            _option(
                "--cancel-grace",
                default=defaults.cancel_grace,
                type=click.FloatRange(0, 3600),
                help="Seconds a cancelled step has to end.",
            ),
            _option(
                "--drain-grace",
                default=defaults.drain_grace,
                type=click.FloatRange(0, 3600),
                help="Seconds running steps have to end when the server stops.",
            ),
            _option(
                "--keep-days",
                default=defaults.keep_days,
                type=click.IntRange(0),
                help="Days that an execution is kept after its end, looked at every 5 minutes. 0: no limit.",
            ),
            _option(
                "--keep-executions",
                default=defaults.keep_executions,
                type=click.IntRange(0),
                help="Ended executions that are kept at most, the newest, looked at every 5 minutes. 0: no limit.",
            ),
            _option(
                "--blocked-loop-after",
                default=defaults.blocked_loop_after,
                type=click.FloatRange(0.1, 3600),
                help="Seconds after which code that lets nothing else run is named in the log.",
            ),
            _option(
                "--log-level",
                default=defaults.log_level,
                type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
                help="What goes to standard error.",
            ),
        ]
    ):
        command = decorate(command)
    return command


def _misspelt() -> list[str]:
    """Returns what to say of the environment's variables."""
    options = click.get_current_context().command.params
    return misspelt(os.environ, {str(option.envvar) for option in options if option.envvar})


def _limit_options() -> list[Callable[[F], F]]:
    return [
        _option(
            "--" + limit.name.replace("_", "-"),
            default=limit.default,
            type=click.IntRange(1) if isinstance(limit.default, int) else click.FloatRange(0, 3600, min_open=True),
            help=limit.metadata["help"],
        )
        for limit in fields(CallLimits)
    ]


def _config(values: dict[str, Any]) -> ServeConfig:
    settings: dict[str, str] = {}
    for pair in values.pop("set"):
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--set")
        settings[name] = value
    documents = values.pop("documents")
    if documents:
        settings["documents"] = documents
    limits = CallLimits(**{limit.name: values.pop(limit.name) for limit in fields(CallLimits)})
    return ServeConfig(settings=settings, limits=limits, **values)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Serve plans of many steps over gRPC, and stream every step's progress.

    \b
    stepwire-server serve                     serve the assistant on 127.0.0.1:50051
    stepwire-server serve orders:app          serve the App `app` of orders.py in this folder
    """


main.add_command(journal)


@main.command()
@_serve_options
def serve(**values: Any) -> None:
    """Serve an app: MODULE:APP, by default the assistant for public administration.

    The first line on standard output is "listening on HOST:PORT". SIGTERM or Ctrl-C drains: streams are told, running
    steps may end, what has not ended goes on at the next start. A second one ends at once.

    \b
    stepwire-server serve --listen 0.0.0.0:50051 --journal /var/lib/stepwire/journal.db
    stepwire-server serve orders:app --journal memory
    stepwire-server serve --documents ./handbook
    """
    try:
        config = _config(values)
        logging.basicConfig(
            level=config.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        for line in _misspelt():
            _log.warning(line)
        use_one_arena()
        with asyncio.Runner(loop_factory=_new_loop(config.loop)) as runner:
            # For what operations do with asyncio.to_thread: of its own, so that its threads are known by their name.
            threads = ThreadPoolExecutor(thread_name_prefix=f"{_THREADS} asyncio")
            runner.get_loop().set_default_executor(threads)
            runner.run(_serve(load_app(config.app), config))
            runner.run(_end_tasks())
            threads.shutdown(wait=False, cancel_futures=True)
            _leave()  # Before the runner's end, which waits for these threads, for ever.
    except JournalRefused as error:
        raise click.ClickException(f"{error} (--journal FILE names another)") from error
    except (ConfigError, ListenError, JournalDamaged, JournalUnavailable, StorageFull) as error:
        raise click.ClickException(str(error)) from error


@main.command("check-config")
@_serve_options
def check_config(**values: Any) -> None:
    """Say what `serve` would do with the same flags, environment and file, and do nothing."""
    try:
        config = _config(values)
        app = load_app(config.app)
        check_settings(app, config.settings)
        check_address(config.listen)
        _new_loop(config.loop)
        path = journal_path(config.journal, app.name)
    except (ConfigError, ListenError) as error:
        raise click.ClickException(str(error)) from error
    for line in _misspelt():
        click.echo(f"Warning: {line}", err=True)
    shown = {key: getattr(config, key) for key in config.__slots__}
    shown |= asdict(shown.pop("limits")) | {"journal": path or "memory"}
    for key, value in shown.items():
        click.echo(f"{key.replace('_', '-')} = {value}")
    catalog = app.catalog()
    click.echo(f"operations: {', '.join(sorted(catalog.operations)) or 'none'}")
    for name, text in sorted(app.settings.items()):
        click.echo(f"app setting {name}: {text}")
    click.echo(f"plans: {', '.join(sorted(catalog.plans)) or 'none'}")
    click.echo(f"planner: {'yes' if catalog.planner else 'no'}")


@main.command()
def demo() -> None:
    """Start a server on a free port, run three queries against it with live progress, and end."""
    raise SystemExit(stepwire_server.demo.run())


@main.command()
def version() -> None:
    """Print Stepwire's version."""
    click.echo(installed_version("stepwire"))


def _new_loop(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Returns what makes the event loop; None for Python's own. Raises ConfigError."""
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        raise ConfigError("--loop uvloop needs uvloop: install stepwire[server,uvloop]") from None
    return uvloop.new_event_loop


async def _serve(app: App, config: ServeConfig) -> None:
    path = journal_path(config.journal, app.name)
    try:
        try:
            await app.start(config.settings, folder=path and path.with_name(path.name + "-app"))
        except (ValueError, OSError) as error:
            raise ConfigError(f"app {app.name!r} can't start: {error}") from error
        await _serve_started(app, config, path)
    finally:
        await app.stop()


async def _serve_started(app: App, config: ServeConfig, path: Path | None) -> None:
    stop = asyncio.Event()
    told = False

    def on_signal(number: int, frame: object) -> None:
        nonlocal told
        if told:
            os._exit(1)
        told = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # The loop's handler wakes it, whichever thread gets the signal. It does not run while an operation holds the
        # loop up; Python's, put in its place, does, and counts.
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
        signal.signal(number, on_signal)
    options = Options(
        listen=config.listen,
        settings=Settings(max_parallel_steps=config.max_parallel_steps, cancel_grace=config.cancel_grace),
        limits=config.limits,
        drain_grace=config.drain_grace,
        retention=Retention(keep_days=config.keep_days, keep_executions=config.keep_executions),
        blocked_loop_after=config.blocked_loop_after,
        version=installed_version("stepwire"),
    )
    catalog = app.catalog()
    server = Server(catalog, _journal(path, config), options)
    try:
        await server.start()
    except OSError as error:
        raise ConfigError(f"the server can't start: {error}") from error
    _collect_less()
    giving_back = asyncio.create_task(keep_giving_back(sleep=asyncio.sleep), name="giving memory back")
    try:
        print(f"listening on {server.address}", flush=True)
        _log.info(
            "serving %s: operations %d, plans %d, queries %s; journal %s",
            catalog.app,
            len(catalog.operations),
            len(catalog.plans),
            "yes" if catalog.planner else "no",
            path or "in memory",
        )
        await stop.wait()
        _log.info(
            "draining: %d executions have up to %g s to let their steps end; a second signal ends at once",
            server.engine.running,
            config.drain_grace,
        )
    finally:
        giving_back.cancel()
        await server.stop()
        _log.info("stopped; what has not ended goes on at the next start")


def _collect_less() -> None:
    """Has the garbage collector leave alone what is there now, and look at the rest less often. Nearly everything is
    freed as it is let go of; with a thousand executions that ran, looking for more took a third of the time.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


async def _end_tasks() -> None:
    """Ends the process where an operation goes on although it was cancelled: asyncio would wait for it, for ever."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (await asyncio.wait(left, timeout=_LAST_WORDS))[1]:
        _log.warning("an operation still runs, although it was cancelled; the process ends without it")
        logging.shutdown()
        os._exit(0)


def _leave() -> None:
    """Ends the process where an operation hangs in a thread: a thread can't be ended, and Python would wait for it."""
    for thread in threading.enumerate():
        if thread.name.startswith(_THREADS):
            thread.join(_LAST_WORDS)
            if thread.is_alive():
                _log.warning("an operation still runs in a thread; the process ends without it")
                logging.shutdown()
                os._exit(0)


def _journal(path: Path | None, config: ServeConfig) -> Journal:
    if path is None:
        return MemoryJournal()
    # After an I/O error nobody knows what is on the disk: a restart reads it again.
    return SqliteJournal(path, durability=config.durability, on_fatal=lambda: os._exit(74))


if __name__ == "__main__":
    main()
