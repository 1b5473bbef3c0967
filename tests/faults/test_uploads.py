"""Uploads: files that are missing, empty, too large or broken, and servers that answer early or stop reading."""

from __future__ import annotations

from openaiasync import APIConnectionError, APIStatusError, APITimeoutError, BadRequestError, InternalServerError
from scripted import json_answer

from .harness import as_test
from .scenario import CLOSE, HANG, HEAD, READ, RESET, Fails, Gives, Scenario

FILE = json_answer({"id": "file-1", "object": "file"})
TOO_LARGE = json_answer({"error": {"message": "too large"}}, 413)
DOWN = json_answer({"error": {"message": "down"}}, 503, retry_after_ms="1")
ONE = {"max_retries": 1}
QUICK = {"http_timeout": 0.4}

SCENARIOS = [
    Scenario("small", (13,), (READ, FILE), Gives("file-1"), call="upload"),
    Scenario("0 bytes", (13,), (READ, FILE), Gives("file-1"), call="empty_upload"),
    Scenario("30 MB", (13,), (READ, FILE), Gives("file-1"), call="large_upload", limit=15.0),
    Scenario("a file that cannot be rewound", (13,), (READ, FILE), Gives("file-1"), call="once_upload"),
    Scenario("missing", (13,), (READ, FILE), Fails(FileNotFoundError, tries=0), call="missing_upload"),
    Scenario("a disk that dies", (13,), (READ, HANG), Fails(OSError, says="the disk died"), call="broken_upload"),
    Scenario("a disk that dies is not tried again", (9, 13), (READ, HANG), Fails(OSError), call="broken_upload",
             options={"max_retries": 3}, connections=1),
    Scenario("413 in mid-upload", (13,), (HEAD, 0.05, TOO_LARGE, HANG), Fails(APIStatusError, says="too large"),
             call="large_upload", limit=6.0),
    Scenario("413 in mid-upload, then reset", (13,), (HEAD, 0.05, TOO_LARGE, 0.2, RESET),
             Fails(APIStatusError, says="too large"), call="large_upload", limit=6.0),
    Scenario("413 and closed", (13,), (HEAD, TOO_LARGE, 0.2, CLOSE), Fails(APIStatusError), call="large_upload",
             limit=6.0),
    Scenario("an answer before the request was read", (13,), (HEAD, FILE, HANG), Gives("file-1"), call="large_upload",
             limit=6.0),
    Scenario("a server that stops reading", (1, 13), (HEAD, 2.0), Fails(APITimeoutError, clock="start"),
             call="large_upload", options=QUICK, limit=1.8),
    Scenario("a server that stops reading, official timeout", (1, 13), (HEAD, 2.0), Fails(APITimeoutError),
             call="large_upload", door="AsyncOpenAI", options={"timeout": 0.4}, limit=1.8),
    Scenario("a server that stops reading, deadline", (1, 13), (HEAD, 2.0), Fails(APITimeoutError, clock="deadline"),
             call="large_upload", options={"http_deadline": 0.4}, limit=1.8),
    Scenario("closed in mid-upload", (3, 13), (HEAD, CLOSE), Fails(APIConnectionError, side="network", retryable=True),
             call="large_upload", limit=6.0),
    Scenario("reset in mid-upload", (3, 13), (HEAD, RESET), Fails(APIConnectionError, side="network", retryable=True),
             call="large_upload", limit=6.0),
    Scenario("tried again from its start", (9, 13), ((READ, DOWN), (READ, FILE)), Gives("file-1", tries=2),
             call="upload", options=ONE),
    Scenario("reset, then tried again from its start", (9, 13), ((HEAD, RESET), (READ, FILE)), Gives("file-1", tries=2),
             call="large_upload", options=ONE, limit=15.0),
    Scenario("not tried again if it cannot be rewound", (9, 13), (READ, DOWN), Fails(InternalServerError, tries=1),
             call="once_upload", options=ONE),
    Scenario("400 after all", (13,), (READ, json_answer({"error": "no"}, 400)), Fails(BadRequestError, says="no"),
             call="upload"),
    Scenario("never answered", (1, 13), (READ, HANG), Fails(APITimeoutError, clock="start"), call="upload",
             options=QUICK, limit=1.2),
]  # fmt: skip

test_uploads = as_test(SCENARIOS, together=6)
