"""What looks like a credential is taken out of a text: after the names that introduce one, and by its own form."""

from __future__ import annotations

import pytest

from cputime import assert_linear
from openaiasync.core.model.credentials import without_credentials

SECRET = "hunter2secret"
FORMS = """
DB_PASSWORD=hunter2secret
{"password": "hunter2secret"}
{'password': 'hunter2secret'}
{\\"password\\": \\"hunter2secret\\"}
{"client_secret":"hunter2secret", "town": "Ulm"}
password: hunter2secret
Password:"hunter2secret"
password='hunter2secret' was wrong
password 'hunter2secret' was wrong
password hunter2secret was wrong
the password is "hunter2secret"
('password', 'hunter2secret')
<password>hunter2secret</password>
passwd=hunter2secret
pwd=hunter2secret
PGPASSWORD=hunter2secret psql
passphrase=hunter2secret
--password hunter2secret
--api-key=hunter2secret
-u admin:hunter2secret
Authorization: Token hunter2secret
Authorization: Basic hunter2secret=
Authorization: Bearer hunter2secret
Authorization: Custom hunter2secret
Authorization: hunter2secret
Authorization: Digest username="u", realm="r", response="hunter2secret"
Authorization: AWS4-HMAC-SHA256 Credential=hunter2secret/2026, SignedHeaders=host, Signature=hunter2secret
Proxy-Authorization: Basic hunter2secret=
-H 'Authorization: Token hunter2secret'
[(b'authorization', b'Bearer hunter2secret')]
[('authorization', 'hunter2secret')]
Cookie: theme=dark; session=hunter2secret
Set-Cookie: sid=hunter2secret; Path=/
headers={"Cookie": "a=hunter2secret"}
X-API-Key: hunter2secret
Ocp-Apim-Subscription-Key: hunter2secret
x-goog-api-key: hunter2secret
{'X-Auth-Token': 'hunter2secret'}
Incorrect API key provided: hunter2secret
https://b.s3.amazonaws.com/k?X-Amz-Signature=hunter2secret&X-Amz-Date=1
https://b.s3.amazonaws.com/k?X-Amz-Credential=hunter2secret%2F2026
X-Amz-Security-Token: hunter2secret
https://x.blob.core.windows.net/c?sv=1&sig=hunter2secret
https://maps.example/?key=hunter2secret&town=Ulm
https://h/cb?code=hunter2secret
access_token=hunter2secret&x=1
refresh_token: hunter2secret
os.environ['API_TOKEN'] = 'hunter2secret'
token := hunter2secret
secret => hunter2secret
token hunter2secret is expired
aws_secret_access_key = hunter2secret
SECRET_KEY_BASE=hunter2secret
private_key: hunter2secret
encryption_key=hunter2secret
//registry.npmjs.org/:_authToken=hunter2secret
machine h login me password hunter2secret
CREATE USER x IDENTIFIED BY 'hunter2secret'
PHPSESSID=hunter2secret
JSESSIONID: hunter2secret
redis://:hunter2secret@cache:6379/0
mongodb+srv://user:hunter2secret@cluster
postgres://user:p@hunter2secret@host/db
postgres://user:p/hunter2secret@host/db
https://hunter2secret@github.com/a/b.git
jdbc:oracle:thin:scott/hunter2secret@db:1521
scott:hunter2secret@db.example
Server=db;User Id=sa;Password=hunter2secret;
AccountName=x;AccountKey=hunter2secret==;EndpointSuffix=core
SharedAccessKey=hunter2secret
password%3Dhunter2secret
jwt=hunter2secret
""".strip().splitlines()
BODY = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
TOKENS = [
    f"ghp_{BODY}",
    f"gho_{BODY}",
    f"github_pat_{BODY}",
    f"glpat-{BODY[:20]}",
    f"xoxb-{BODY}",
    f"xapp-1-{BODY}",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    f"AIza{BODY[:35]}",
    f"ya29.{BODY}",
    f"sk-proj-{BODY}",
    f"sk-ant-api03-{BODY}",
    f"sk_live_{BODY}",
    f"rk_live_{BODY}",
    f"whsec_{BODY}",
    f"npm_{BODY}",
    f"pypi-AgEIcHlwaS5vcmc{BODY}",
    f"SG.{BODY[:22]}.{BODY}",
    f"hf_{BODY}",
    f"r8_{BODY}",
    f"gsk_{BODY}",
    f"xai-{BODY}",
    f"nvapi-{BODY}",
    f"shpat_{BODY[:32]}",
    f"sq0atp-{BODY[:22]}",
    f"hvs.{BODY}",
    f"dop_v1_{BODY}",
    f"dckr_pat_{BODY}",
    f"PMAK-{BODY}",
    f"tskey-auth-{BODY}",
    f"ATATT3{BODY}",
    f"glsa_{BODY}",
    f"lin_api_{BODY}",
    f"figd_{BODY}",
    f"sntrys_{BODY}",
    f"LTAI{BODY[:20]}",
    "AGE-SECRET-KEY-1QPZRY9X8GF2T",
    "SK0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef-us12",
    "123456789:AAabcdefghijklmnopqrstuvwxyz0123456",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlIG9mIGl0",
    "0123456789abcdef0123456789abcdef",
]
HARMLESS = [
    "duplicate key value violates unique constraint pk_orders_customer_id",
    "no such town",
    "KeyError: 'town'",
    "file /usr/lib/python3.11/site-packages/Some/Library/With/A/long/path.py not found",
    "Connection to db.example.com:5432 failed",
    "max_tokens must be below 4096, tokens=100",
    "token expired yesterday",
    "basic authentication required",
    "2026-01-31T12:00:00+00:00 is not a date",
    "expected `int`, got `str` at $.x",
    "https://example.com:8080/a?town=Ulm failed with 404",
    "unexpected keyword argument 'foo'",
    "column users.id does not exist",
    "write to mailto:me@example.org",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_after_a_name(form: str) -> None:
    """Assignments, JSON, header fields, cookies, queries, options, connection strings."""
    told = without_credentials(f"it failed: {form}")
    assert SECRET not in told
    assert told.startswith("it failed: ")
    assert "***" in told


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_by_its_form(token: str) -> None:
    """Without any name before it, in prose and in quotes."""
    assert without_credentials(f"with {token} here") == "with *** here"
    assert without_credentials(f"with '{token}'.") == "with '***'."


@pytest.mark.parametrize("kind", ["RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])
@pytest.mark.parametrize("end", ["-----END it----- after", ""])
def test_a_private_key(kind: str, end: str) -> None:
    """To its end, or to that of the text."""
    end = end.replace("it", kind)
    told = without_credentials(f"read -----BEGIN {kind}-----\nMIIEow {SECRET}\nabc {end}")
    assert told == f"read ***{' after' if end else ''}"


@pytest.mark.parametrize("url", ["hooks.slack.com/services/T0/B0/XyZ", "discord.com/api/webhooks/12/XyZ"])
def test_webhooks_of_chats(url: str) -> None:
    """Their address is all that is needed to write there."""
    told = without_credentials(f"POST https://{url} failed")
    assert "XyZ" not in told
    assert told.endswith(" failed")


def test_json_stays_json() -> None:
    """Quotes are kept, and so is what comes after a value."""
    assert without_credentials('{"password": "a\\"b", "town": "Ulm"}') == '{"password": "***", "town": "Ulm"}'
    assert without_credentials("https://h/?api_key=abcdef&town=Ulm") == "https://h/?api_key=***&town=Ulm"


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay(text: str) -> None:
    """What a model needs to do better next time."""
    assert without_credentials(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "://",
            "-",
            "--a-",
            "password",
            "password=",
            'password "',
            "a:",
            "eyJ",
            "?-",
            "&a=",
            "A1a",
            "authorization: ",
        ),
        *(
            "&a=",
            "x",
            "cookie: a=b;",
            '\\"',
            "sk-",
            "0a",
            "Bearer ",
            "sess",
            "a.b-c_",
            "secret_key.-",
            "12345678:",
            "-u a:",
        ),
        *("-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "(", "<password>", "'"),
    ],
)
def test_the_work_is_linear(piece: str) -> None:
    """Four times the text takes about four times as long, however it tempts a pattern to try again."""

    assert_linear(lambda size: without_credentials((piece * size)[:size]), 4_000)
