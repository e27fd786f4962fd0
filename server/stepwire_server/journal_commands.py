"""The commands `stepwire-server journal ...`: an operator's tools for a journal's file."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from stepwire.errors import JournalDamaged
from stepwire.v1 import ExecutionState
from stepwire_server.engine.summary import SummaryReader
from stepwire_server.journal.aside import Aside
from stepwire_server.journal.base import JournalRefused
from stepwire_server.journal.checking import Finding, check
from stepwire_server.journal.connection import connect
from stepwire_server.journal.exporting import export
from stepwire_server.journal.importing import ExportDamaged, import_executions, verify
from stepwire_server.journal.inspection import Statistics, opened_to_read, statistics
from stepwire_server.journal.mark import missing, refuse_lacking
from stepwire_server.journal.place import Lock, refuse_lone_log, take_place
from stepwire_server.journal.purging import cutoff, due, purge_bite
from stepwire_server.journal.reader import is_damage
from stepwire_server.journal.retention import Purged, Retention
from stepwire_server.journal.schema import prepare

__all__ = ["journal"]

_BITE_SECONDS, _BITE_ROWS = 0.5, 20_000
"""Bounds of one transaction of an offline purge: nobody waits for it."""

_MOST_SHOWN = 50
"""Findings that a report shows."""

# Without symbolic links: what lies beside the file lies beside the file itself.
_PATH = click.argument("path", type=click.Path(dir_okay=False, resolve_path=True, path_type=Path))


@click.group()
def journal() -> None:
    """Look into a journal's file, check it, purge it, move executions between journals.

    \b
    stepwire-server journal stats ~/journal.db
    stepwire-server journal check ~/journal.db
    stepwire-server journal purge ~/journal.db --older-than 7 --dry-run
    stepwire-server journal export ~/journal.db > executions.jsonl
    """


@journal.command("stats")
@_PATH
def stats(path: Path) -> None:
    """Print what a journal's file holds, in numbers. A server may have it open.

    How long executions took, and how often they failed, is what `stepwire stats` shows, from a server.

    \b
    stepwire-server journal stats /var/lib/stepwire/journal.db
    """
    with _refusals(), opened_to_read(path) as connection:
        found = statistics(connection, path)
    for name, value in _statistics_lines(found):
        click.echo(f"{name:<22}{value:>24}")


@journal.command("check")
@_PATH
def check_command(path: Path) -> None:
    """Verify all that a journal holds. A server may have it open.

    Reads everything: each chunk's checksum; that each execution's events are dense, end where its record says, and end
    in one terminal event if it has ended; the statistics. Prints what is wrong. The exit code is 0 where nothing is,
    and 1 otherwise.

    \b
    stepwire-server journal check /var/lib/stepwire/journal.db && echo sound
    """
    with _refusals(), opened_to_read(path) as connection:
        start = time.monotonic()
        with _bar("checking", _events(connection)) as progress:
            lacking = missing(connection, path)
            report = check(connection, progress=progress)
        if lacking:
            report.findings.insert(0, Finding(execution_id="", problem=f"its end is missing: {lacking}"))
        seconds = time.monotonic() - start
    for finding in report.findings[:_MOST_SHOWN]:
        where = f"execution {finding.execution_id}" if finding.execution_id else "the file"
        click.echo(f"{where}: {finding.problem}")
    if len(report.findings) > _MOST_SHOWN:
        click.echo(f"... and {len(report.findings) - _MOST_SHOWN:,} more")
    count = len(report.findings)
    verdict = f"{count:,} finding{'s' if count > 1 else ''}" if count else "nothing is wrong"
    click.echo(
        f"{report.executions:,} executions, {report.events:,} events in {report.chunks:,} chunks, "
        f"{seconds:.1f} s: {verdict}"
    )
    if report.findings:
        sys.exit(1)


@journal.command("purge")
@_PATH
@click.option(
    "--older-than",
    type=click.FloatRange(0, min_open=True),
    metavar="DAYS",
    help="Purge what ended more than so many days ago.",
)
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Purge all but the N that ended last.")
@click.option("--dry-run", is_flag=True, help="Only say what would be purged. A server may have the journal open.")
@click.option("--shrink", is_flag=True, help="Give free space back to the disk. Needs as much room again meanwhile.")
def purge(path: Path, older_than: float | None, keep: int | None, dry_run: bool, shrink: bool) -> None:
    """Purge executions that have ended, of a journal that no server has open.

    A server purges by itself, by --keep-days and --keep-executions. What has not ended is never purged. A purged
    execution leaves a tombstone for 30 days: its readers are told, and its request id does not run again.

    \b
    stepwire-server journal purge journal.db --older-than 7 --dry-run
    stepwire-server journal purge journal.db --older-than 7 --shrink
    stepwire-server journal purge journal.db --keep 1000
    """
    if older_than is None and keep is None and not shrink:
        raise click.UsageError("say what to purge: --older-than DAYS or --keep N")
    retention = Retention(keep_days=older_than or 0, keep_executions=keep or 0)
    if dry_run:
        with _refusals(), opened_to_read(path) as connection:
            found = due(connection, cutoff(connection, retention, now_ns=time.time_ns()))
        click.echo(f"would purge {found.executions:,} executions with {found.events:,} events")
        return
    aside = Aside()
    with _refusals(), _opened_alone(path) as connection:
        done = _purge(connection, retention, aside)
        click.echo(f"purged {done.executions:,} executions with {done.events:,} events")
        if shrink:
            before = path.stat().st_size
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            click.echo(f"the file had {_size(before)}, and has {_size(path.stat().st_size)}")
    if aside.numbers:
        click.echo(f"damaged pages keep {aside} from being purged", err=True)
        sys.exit(1)


@journal.command("export")
@_PATH
@click.argument("execution_ids", nargs=-1, metavar="[EXECUTION_ID]...")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="A new file. Default: stdout.")
def export_command(path: Path, execution_ids: Sequence[str], output: Path | None) -> None:
    """Write executions as JSON lines: all, or those that are named. A server may have the journal open.

    Each line has a checksum; `import` refuses a file that was cut or changed. The events are in `chunk.data`, in
    base64: an encoded EventBatch.

    \b
    stepwire-server journal export journal.db -o executions.jsonl
    stepwire-server journal export journal.db Hq3Kx9 Zr81pT > two.jsonl
    stepwire-server journal export journal.db | gzip > executions.jsonl.gz
    """
    with (
        _refusals(),
        opened_to_read(path) as connection,
        _bar("exporting", 0 if execution_ids else _events(connection)) as progress,
    ):
        if output is None:
            done = export(connection, sys.stdout.write, execution_ids=execution_ids, progress=progress)
            sys.stdout.flush()
        else:
            with output.open("x", encoding="ascii") as file:
                done = export(connection, file.write, execution_ids=execution_ids, progress=progress)
    for execution_id, problem in done.broken.items():
        click.echo(f"not exported: {execution_id}: {problem}", err=True)
    if done.lacking:
        click.echo(f"not exported: {done.lacking}", err=True)
    click.echo(f"exported {done.executions:,} executions with {done.events:,} events", err=True)
    if done.broken or done.lacking:
        sys.exit(1)


@journal.command("import")
@_PATH
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--with-unfinished",
    is_flag=True,
    help="Take those too that had not ended. The next server runs them on: be sure that no other does.",
)
def import_command(path: Path, source: Path, with_unfinished: bool) -> None:
    """Put exported executions into a journal that no server has open. It is made where there is none.

    The file is verified first; where a part is missing or changed, nothing is imported. An execution that the journal
    has already stays as it is, so that an import may be repeated; a new one goes into the statistics, too. One that is
    older than what the server keeps will be purged when it starts.

    \b
    stepwire-server journal import journal.db executions.jsonl
    """
    try:
        size = source.stat().st_size
        with _bar("verifying", size) as progress:
            verify(source, progress=progress)
        with _refusals(), _opened_alone(path, make=True) as connection, _bar("importing", size) as progress:
            done = import_executions(
                connection, source, summing=SummaryReader, with_unfinished=with_unfinished, progress=progress
            )
    except ExportDamaged as error:
        raise click.ClickException(f"{source}: {error}. Nothing was imported.") from error
    click.echo(f"imported {done.executions:,} executions with {done.events:,} events; {done.present:,} were there")
    if done.unfinished:
        click.echo(f"left out {len(done.unfinished):,} that had not ended; --with-unfinished takes them too")
    for execution_id, problem in done.refused.items():
        click.echo(f"not imported: {execution_id}: {problem}", err=True)
    if done.refused:
        sys.exit(1)


def _events(connection: sqlite3.Connection) -> int:
    """Returns how many events there are, for a bar: 0 where that can't be read."""
    try:
        events: int = connection.execute("SELECT coalesce(sum(last_sequence), 0) FROM executions").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return 0
    return events


def _purge(connection: sqlite3.Connection, retention: Retention, aside: Aside) -> Purged:
    until = cutoff(connection, retention, now_ns=time.time_ns())
    executions = events = tombstones = 0
    more = True
    while more:
        connection.execute("BEGIN IMMEDIATE")
        try:
            bite = purge_bite(connection, until, seconds=_BITE_SECONDS, rows=_BITE_ROWS, aside=aside)
        except (JournalDamaged, sqlite3.DatabaseError) as error:
            connection.rollback()
            if (isinstance(error, sqlite3.Error) and not is_damage(error)) or not aside.lay():
                raise
            continue
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        executions += bite.purged.executions
        events += bite.purged.events
        tombstones += bite.purged.tombstones
        more = bite.more
    return Purged(executions=executions, events=events, tombstones=tombstones)


@contextmanager
def _opened_alone(path: Path, *, make: bool = False) -> Iterator[sqlite3.Connection]:
    """Opens a journal to write to it, while no server may; with `make`, a new one where there is none. Raises
    JournalLocked where a server has it open, and JournalRefused also where its end is missing.
    """
    if not path.is_file() and (path.exists() or not make):
        raise JournalRefused(f"there is no journal at {path}")
    lock = take_place(path) if make else Lock(path)
    try:
        refuse_lone_log(path)
        refuse_lacking(path)
        with closing(connect(path)) as connection:
            prepare(connection, path)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "fullfsync = ON", "secure_delete = FAST"):
                connection.execute(f"PRAGMA {pragma}")
            yield connection
    finally:
        lock.release()


@contextmanager
def _refusals() -> Iterator[None]:
    """Turns what can go wrong with a file into a message."""
    try:
        yield
    except JournalRefused as error:
        raise click.ClickException(str(error)) from error
    except JournalDamaged as error:
        raise click.ClickException(f"the journal is damaged: {error}") from error
    except BrokenPipeError:
        raise  # Whoever read what we wrote has enough; click ends without a word.
    except (sqlite3.Error, OSError) as error:
        raise click.ClickException(f"the journal can't be used: {error}") from error


@contextmanager
def _bar(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on a terminal, and nothing elsewhere."""
    if not length or not sys.stderr.isatty():
        yield lambda count: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def _statistics_lines(found: Statistics) -> Iterator[tuple[str, str]]:
    yield "executions", f"{sum(found.executions.values()):,}"
    for state, count in found.executions.items():
        name = ExecutionState.Name(state) if state in ExecutionState.values() else str(state)
        yield f"  {name.removeprefix('EXECUTION_STATE_').lower()}", f"{count:,}"
    yield "events", f"{found.events:,}"
    yield "chunks", f"{found.chunks:,}"
    yield "to be compacted", f"{found.scattered:,}"
    yield "tombstones", f"{found.tombstones:,}"
    yield "oldest", _time(found.oldest_ns)
    yield "newest", _time(found.newest_ns)
    yield "file", _size(found.file_bytes)
    yield "  of it free", _size(found.free_bytes)
    yield "write-ahead log", _size(found.wal_bytes)


def _time(nanoseconds: int) -> str:
    if not nanoseconds:
        return "none"
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"
