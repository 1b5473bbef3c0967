"""The log of the command line: an SQLite file with every question and its answer, readable by its owner only.

Several commands may write at the same time (WAL mode). Secrets are removed from everything that is written, as from
errors: the keys and header fields of the command, and texts that look like a credential. Texts of fragments, pictures
and sounds are kept once, by their hash. Nothing here may end a command: a log that cannot be written is one warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..core.model.credentials import HIDDEN, without_credentials
from ..core.model.plain import is_dict, is_list
from ..core.model.secrets import is_secret_name
from ..lazy import resolve_annotations
from .console import CommandError, note
from .folders import SettingsFile, state_folder
from .fragments import Fragment, text_of_prompt

if TYPE_CHECKING:
    import sqlite3

    from ..core.model.secrets import Secrets

__all__ = ["CallLog", "Conversation", "LogEntry", "is_logging", "log_call", "log_path", "set_logging"]

VERSION = 1  # of the tables, in `PRAGMA user_version`
_PATIENCE = 5.0  # seconds that another command may hold the file
_POLL = 0.02  # seconds between two attempts
_LONGEST = 128 << 10  # characters of a text that is kept; looking for credentials takes 6 s for a million
_SETTINGS = SettingsFile("settings.json")
_UNCHANGED = frozenset({"id", "tool_call_id", "role", "name", "type", "format"})  # of messages: no secrets
_LIKE, _ESCAPED = re.compile(r"[%_\\]"), r"\\\g<0>"  # what has a meaning in a pattern of LIKE
_TABLES = (
    "CREATE TABLE conversations (id TEXT PRIMARY KEY, command TEXT NOT NULL, session TEXT, started REAL NOT NULL)",
    "CREATE TABLE texts (hash TEXT PRIMARY KEY, text TEXT)",
    """CREATE TABLE calls (
        id INTEGER PRIMARY KEY AUTOINCREMENT, conversation TEXT NOT NULL REFERENCES conversations, at REAL NOT NULL,
        command TEXT NOT NULL, base_url TEXT, model TEXT, system TEXT, prompt TEXT NOT NULL, answer TEXT NOT NULL,
        reasoning TEXT, options TEXT, usage TEXT, seconds REAL, response TEXT, fragments TEXT, files TEXT,
        follows INTEGER NOT NULL, messages TEXT)""",
    "CREATE INDEX calls_of_conversations ON calls (conversation)",
    "CREATE TABLE indexed (up_to INTEGER NOT NULL)",
    "INSERT INTO indexed VALUES (0)",
)
_COLUMNS = (
    *("id", "conversation", "at", "command", "base_url", "model", "system", "prompt", "answer", "reasoning"),
    *("options", "usage", "seconds", "response", "fragments", "files", "follows", "messages"),
)


@dataclass(kw_only=True)
class LogEntry:
    """One call: what was asked, and the answer. `prompt` is without the fragments.

    `messages` are those that the call added to its conversation, after the first `follows` earlier ones. `response` is
    the id of an answer of the Responses API, `files` names what was sent or written.
    """

    command: str
    prompt: str
    answer: str
    base_url: str = ""
    model: str | None = None
    system: str | None = None
    reasoning: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    usage: Mapping[str, Any] | None = None
    seconds: float | None = None
    response: str | None = None
    fragments: Sequence[Fragment] = ()
    files: Sequence[str] = ()
    follows: int = 0
    messages: Sequence[Any] = ()


class Conversation(NamedTuple):
    """A conversation of the log; `at` is the time of its last call, `session` the file of its session."""

    id: str
    session: str | None
    at: float


class CallLog:
    """The open log. All methods raise `sqlite3.Error`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, *, create: bool = False) -> Generator[CallLog, None, None]:
        """Open the log during the block. Raises `CommandError` if it cannot be used, or does not exist."""
        try:
            import sqlite3
        except ImportError as error:
            raise CommandError(f"this Python has no SQLite: {error}") from None
        try:
            if create:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite would follow the umask
            elif not path.exists():
                raise CommandError("nothing is logged yet")
            database = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            why = getattr(error, "strerror", None) or error
            raise CommandError(f"cannot open the log {path}: {why}") from error
        with contextlib.closing(database):
            try:
                log = cls(database)
                log._prepare()
                yield log
            except sqlite3.Error as error:
                raise CommandError(f"the log {path} cannot be used: {error}") from error

    def _prepare(self) -> None:
        self._write_ahead()
        self._database.execute("PRAGMA synchronous = NORMAL")
        if self._version() == VERSION:
            return
        with self._writing():
            found = self._version()
            if found > VERSION:
                raise CommandError(f"the log is of a newer version ({found}) than this program can use ({VERSION})")
            if found == 0:  # unless another command has made them meanwhile
                for table in _TABLES:
                    self._database.execute(table)
                self._database.execute(f"PRAGMA user_version = {VERSION}")

    def _write_ahead(self) -> None:
        """Switch to WAL mode, in which readers do not wait for writers. File systems without shared memory stay as is.

        SQLite does not wait for others here, as it does elsewhere.
        """
        import sqlite3

        end = time.monotonic() + _PATIENCE
        while self._database.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(_POLL)

    def _version(self) -> int:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        return int(version)

    @contextlib.contextmanager
    def _writing(self) -> Generator[None, None, None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    # ------------------------------------------------------------ writing

    def add(self, entry: LogEntry, conversation: str | None, session: str | None, scrub: Callable[[str], str]) -> str:
        """Add a call to a conversation and return its id: the given one, that of the session, or a new one."""
        scrubbed = _Redactor(scrub)
        texts: dict[str, str | None] = {one.digest: scrubbed.kept(one.text) for one in entry.fragments}
        messages = [_packed(message, entry, scrubbed, texts) for message in entry.messages]
        values = {
            "at": time.time(),
            "command": entry.command,
            "base_url": scrubbed(entry.base_url),
            "model": None if entry.model is None else scrub(entry.model),
            "system": None if entry.system is None else scrubbed(entry.system),
            "prompt": scrubbed(entry.prompt),
            "answer": scrubbed(entry.answer),
            "reasoning": scrubbed(entry.reasoning) if entry.reasoning else None,
            "options": json.dumps(scrubbed.all(dict(entry.options)), ensure_ascii=False, default=str),
            "usage": None if entry.usage is None else json.dumps(entry.usage, default=str),
            "seconds": entry.seconds,
            "response": entry.response,
            "fragments": json.dumps([{"source": scrubbed(one.source), "hash": one.digest} for one in entry.fragments]),
            "files": json.dumps([scrubbed(one) for one in entry.files]),
            "follows": entry.follows,
            "messages": json.dumps(messages, ensure_ascii=False, default=str),
        }
        values = {name: _encodable(value) if isinstance(value, str) else value for name, value in values.items()}
        with self._writing():
            conversation = conversation or self._conversation_of(session) or _new_id()
            known = "INSERT OR IGNORE INTO conversations VALUES (?, ?, ?, ?)"
            self._database.execute(known, (conversation, entry.command, session, values["at"]))
            for digest, text in texts.items():
                self._database.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (digest, text))
            names = ", ".join(("conversation", *values))
            marks = ", ".join("?" * (len(values) + 1))
            self._database.execute(f"INSERT INTO calls ({names}) VALUES ({marks})", (conversation, *values.values()))
        return conversation

    def _conversation_of(self, session: str | None) -> str | None:
        if session is None:
            return None
        query = "SELECT id FROM conversations WHERE session = ? ORDER BY started DESC LIMIT 1"
        row = self._database.execute(query, (session,)).fetchone()
        return None if row is None else str(row[0])

    # ------------------------------------------------------------ reading

    def last(self, command: str) -> Conversation | None:
        """Return the conversation of a command's last call."""
        query = (
            "SELECT conversation, session, at FROM calls JOIN conversations ON conversations.id = conversation "
            "WHERE calls.command = ? ORDER BY calls.id DESC LIMIT 1"
        )
        row = self._database.execute(query, (command,)).fetchone()
        return None if row is None else Conversation(*row)

    def conversation(self, beginning: str) -> Conversation | None:
        """Return the last used conversation whose id begins so."""
        for found in self.conversations(beginning)[:1]:
            query = (
                "SELECT conversation, session, max(at) FROM calls "
                "JOIN conversations ON conversations.id = conversation WHERE conversation = ?"
            )
            return Conversation(*self._database.execute(query, (found,)).fetchone())
        return None

    def calls(self, conversation: str) -> list[dict[str, Any]]:
        """Return the calls of a conversation, the first one first."""
        return self._rows("WHERE conversation = ? ORDER BY calls.id", (conversation,))

    def recent(self, count: int, model: str | None = None, conversation: str | None = None) -> list[dict[str, Any]]:
        """Return the last calls, perhaps only of a model or a conversation, the last one first; 0 for all."""
        clause = "WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR conversation = ?2) ORDER BY id DESC LIMIT ?3"
        return self._rows(clause, (model, conversation, count or -1))

    def conversations(self, beginning: str = "") -> list[str]:
        """Return the ids of conversations that begin so, the last used one first."""
        query = (
            "SELECT conversation FROM calls WHERE substr(conversation, 1, ?) = ? GROUP BY conversation "
            "ORDER BY max(id) DESC"
        )
        return [str(row[0]) for row in self._database.execute(query, (len(beginning), beginning))]

    def count(self) -> int:
        """Return the number of calls."""
        return int(self._database.execute("SELECT count(*) FROM calls").fetchone()[0])

    def search(self, words: Sequence[str], count: int) -> list[dict[str, Any]]:
        """Return the last calls that have all these words in prompt, answer or system prompt, the last one first."""
        if self._index():
            phrase = " ".join('"' + word.replace('"', '""') + '"' for word in words)
            clause = "JOIN words ON words.rowid = calls.id WHERE words MATCH ? ORDER BY calls.id DESC LIMIT ?"
            return self._rows(clause, (phrase, count or -1))
        found = "(prompt || ' ' || answer || ' ' || coalesce(system, '')) LIKE ? ESCAPE '\\'"
        clause = f"WHERE {' AND '.join([found] * len(words))} ORDER BY calls.id DESC LIMIT ?"
        patterns = [f"%{_LIKE.sub(_ESCAPED, word)}%" for word in words]
        return self._rows(clause, (*patterns, count or -1))

    def _index(self) -> bool:
        """Bring the full-text index up to date; return whether this build of SQLite has one (FTS5).

        It is written when it is searched, not with each call, so that a build without it can write calls, too.
        """
        import sqlite3

        if not has_fts5(self._database):
            return False
        try:
            with self._writing():
                self._database.execute(
                    "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(prompt, answer, system, content='')"
                )
                self._database.execute(
                    "INSERT INTO words (rowid, prompt, answer, system) SELECT id, prompt, answer, system FROM calls "
                    "WHERE id > (SELECT up_to FROM indexed)"
                )
                self._database.execute("UPDATE indexed SET up_to = (SELECT coalesce(max(id), 0) FROM calls)")
        except sqlite3.OperationalError:  # a file that may only be read
            return False
        return True

    def _rows(self, clause: str, values: Sequence[object]) -> list[dict[str, Any]]:
        shown = ", ".join(f"calls.{name}" for name in _COLUMNS)
        rows = self._database.execute(f"SELECT {shown} FROM calls {clause}", values)
        return [_decoded(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def messages(self, conversation: str) -> tuple[list[Any], list[str]]:
        """Return the messages of a conversation without the system prompt, and the hashes of texts that are missing."""
        messages: list[Any] = []
        missing: list[str] = []

        def text_of(digest: str) -> str:
            row = self._database.execute("SELECT text FROM texts WHERE hash = ?", (digest,)).fetchone()
            if row is None or row[0] is None:
                missing.append(digest)
                return ""
            return str(row[0])

        for call in self.calls(conversation):
            messages[call["follows"] :] = [_unpacked(message, text_of) for message in call["messages"]]
        return messages, missing


def has_fts5(database: sqlite3.Connection) -> bool:
    """Return whether this build of SQLite has full-text search."""
    return bool(database.execute("SELECT sqlite_compileoption_used('ENABLE_FTS5')").fetchone()[0])


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("options", "usage", "fragments", "files", "messages"):
        with contextlib.suppress(TypeError, ValueError):
            row[name] = json.loads(row[name])
    return row


def _new_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def _encodable(text: str) -> str:
    """Replace lone surrogates, which SQLite cannot store."""
    return text.encode("utf-8", "replace").decode()


# ---------------------------------------------------------------- what is written


class _Redactor:
    """Removes secrets from texts, each distinct text once."""

    def __init__(self, scrub: Callable[[str], str]) -> None:
        self._scrub = scrub
        self._done: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """Return the text without secrets, cut after 128 Ki characters."""
        done = self._done.get(text)
        if done is None:
            cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… [{len(text) - _LONGEST:,} more characters]"
            done = self._done[text] = without_credentials(self._scrub(cut))
        return done

    def kept(self, text: str) -> str | None:
        """Return the text without secrets, or `None` if it is too long to be kept."""
        return self(text) if len(text) <= _LONGEST else None

    def all(self, value: Any) -> Any:
        """Return a value of JSON with all its texts scrubbed, and without the values of fields with a secret name."""
        if isinstance(value, str):
            return self(value)
        if is_dict(value):
            return {key: self._field(key, one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.all(one) for one in cast("Sequence[Any]", value)]
        return value

    def _field(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and is_secret_name(name):
            return HIDDEN
        if name == "headers" and is_dict(value):  # of a remote MCP server
            return dict.fromkeys(value, HIDDEN)
        return self.all(value)


def _packed(message: Any, entry: LogEntry, scrubbed: _Redactor, texts: dict[str, str | None]) -> Any:
    """Return a message without secrets, with the hashes of its fragments, pictures and sounds, which go to `texts`."""
    whole = text_of_prompt(entry.fragments, entry.prompt) if entry.fragments else None

    def pack(value: Any, name: str = "") -> Any:
        if isinstance(value, str):
            if value == whole:
                parts = [{"$hash": one.digest} for one in entry.fragments]
                return {"$joined": [*parts, *([scrubbed(entry.prompt)] if entry.prompt else [])]}
            if value.startswith("data:") or name == "data":  # base64, which looks like credentials
                digest = hashlib.sha256(value.encode()).hexdigest()
                texts[digest] = value
                return {"$hash": digest}
            return value if name in _UNCHANGED else scrubbed(value)
        if isinstance(value, Mapping):
            return {key: pack(one, key) for key, one in cast("Mapping[str, Any]", value).items()}
        if isinstance(value, list | tuple):
            return [pack(one) for one in cast("Sequence[Any]", value)]
        return value

    return pack(message)


def _unpacked(value: Any, text_of: Callable[[str], str]) -> Any:
    """Return a message as it was, except for its secrets."""
    if is_list(value):
        return [_unpacked(one, text_of) for one in value]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if fields.keys() == {"$hash"}:
        return text_of(fields["$hash"])
    if fields.keys() == {"$joined"}:
        return "\n\n".join(_unpacked(one, text_of) for one in fields["$joined"])
    return {key: _unpacked(one, text_of) for key, one in fields.items()}


# ---------------------------------------------------------------- the log of the command line


def log_path() -> Path:
    """Return the file of the log. Raises `CommandError` if there is no folder for it."""
    return state_folder() / "logs.db"


def is_logging() -> bool:
    """Return whether calls are logged. Raises `CommandError` for settings that cannot be read."""
    return _SETTINGS.read().get("log") is not False


def set_logging(on: bool) -> None:
    """Turn the log on or off for all commands."""
    _SETTINGS.change(lambda settings: settings.update({"log": on}))


_warned: list[str] = []  # the process has printed its one warning


def log_call(
    entry: LogEntry, known: Secrets, *, conversation: str | None = None, session: Path | None = None
) -> str | None:
    """Add a call to the log, without the `known` secrets, and return the id of its conversation.

    Raises nothing: if the log is off or cannot be written, the result is `None`, and the first failure is a warning.
    """
    try:
        if not is_logging():
            return None
        with CallLog.open(log_path(), create=True) as log:
            return log.add(entry, conversation, None if session is None else str(session), known.scrub_text)
    except Exception as error:  # no failure of the log may end the command, whatever it is
        if not _warned:
            _warned.append(str(error))
            note(f"This was not logged: {error} (openaiasync logs off turns the log off.)")
        return None


resolve_annotations(__name__)
