"""Removes credentials from a text, recognised by the names that introduce them and by the formats of tokens.

The formats are facts published by detectors of leaked secrets (detect-secrets, gitleaks) and by the issuers. In doubt
a value is removed, since a missing detail does less harm than a leaked key. Every pattern takes linear time: its
repetitions are bounded, or no text after one can begin with the repeated characters.
"""

from __future__ import annotations

import re

__all__ = ["without_credentials"]

HIDDEN = "***"

# Names that introduce a secret, with any prefix (DB_PASSWORD, X-Amz-Signature, client_secret).
_KEYS = (
    "api|access|account|admin|app|application|auth|client|consumer|database|db|deploy|encryption|function|hmac|host|"
    "license|master|private|secret|service|session|shared|signing|ssh|storage|subscription|user"
)
_NAMES = (
    r"(?:pass(?:w(?:or)?d|phrase|code|wort)s?|(?<![a-z])pass(?=[\"'\]\s]{0,3}[:=])|pwd|secrets?|"
    rf"token(?!s\b|iz|[-_]?(?:count|limit))|(?:{_KEYS})[-_. ]?keys?|credentials?|signature|(?<![a-z])sig(?==)|"
    r"sess(?:ion)?[-_]?id|(?<![a-z])sid(?==)|(?<![a-z])_auth(?==)|(?<![a-z])(?:otp|cvv|jwt|dsn)(?=[\"'\]\s]{0,3}[:=])|"
    r"connection[-_ ]?string|passkey|assertion|bearer(?=[\"'\]\s]{0,3}[:=]))"
)
_BYTES = r"(?:b(?=[\"']))?"  # of a bytes literal in Python
_REST = r"[\w.-]{0,32}"  # of a name
_QUOTE = r"\\{0,3}[\"'`]"
# Values: in quotes, in escaped quotes of a quoted text, or up to a blank. Hidden values are left alone.
_QUOTED = r"([\"'`])(?:\\.|(?!\2)[^\n\\]){1,4096}+"
_QUOTED_TWICE = r"(\\{1,3}[\"'])(?:(?!\2)[^\n]){1,4096}+"
_BARE = r"(?!\*\*\*)[^\s\"'`\\<>)}\]]++"
# Prefixes of issuers' tokens, each with the minimum number of characters that follow.
_TOKENS = "|".join(
    (
        r"gh[opsur]_\w{16,}",
        r"github_pat_\w{16,}",
        r"gl[a-z]{2,6}-[\w-]{16,}",
        r"xox[a-z]-[\w-]{8,}",
        r"xapp-[\w-]{8,}",
        r"xwfp-[\w-]{8,}",
        r"(?:A3T[A-Z0-9]|AKIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}",
        r"ABSK[\w+/=]{16,}",
        r"amzn\.mws\.[\w-]{16,}",
        r"AIza[\w-]{16,}",
        r"ya29\.[\w.-]{8,}",
        r"GOCSPX-[\w-]{8,}",
        r"sk[-_][\w-]{12,}",
        r"[pr]k_(?:live|test)_\w{8,}",
        r"whsec_[\w+/=]{8,}",
        r"npm_\w{16,}",
        r"pypi-[\w-]{12,}",
        r"rubygems_\w{16,}",
        r"dckr_(?:pat|oat)_[\w-]{12,}",
        r"SG\.[\w-]{8,}\.[\w-]{8,}",
        r"(?:hf|api_org)_\w{12,}",
        r"r8_\w{12,}",
        r"gsk_\w{12,}",
        r"(?:xai|pplx|nvapi|tvly|fw|csk)-?_?[A-Za-z0-9][\w-]{15,}",
        r"lsv2_\w{12,}",
        r"shp(?:at|ca|pa|ss)_\w{12,}",
        r"sq0[a-z]{3}-[\w-]{12,}",
        r"EAAA[\w-]{16,}",
        r"hv[sbr]\.[\w-]{12,}",
        r"do[opr]_v1_\w{12,}",
        r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{12,}",
        r"AGE-SECRET-KEY-1\w{12,}",
        r"PMAK-[\w-]{12,}",
        r"lin_(?:api|oauth)_\w{12,}",
        r"tskey-[\w-]{12,}",
        r"AT(?:ATT|CTT|BB)[\w=-]{12,}",
        r"fig[dour]h?_[\w-]{12,}",
        r"gl(?:sa|c)_[\w=+/-]{12,}",
        r"NR(?:AK|JS|II|RA)-?[\w-]{12,}",
        r"sntry[su]_[\w=+/-]{12,}",
        r"pul-[0-9a-f]{16,}",
        r"dt0[a-z]\d\d\.[\w.]{12,}",
        r"FlyV1\s[\w,+/=-]{12,}",
        r"EZ[AT]K\w{16,}",
        r"LTAI\w{12,}",
        r"(?:AC|SK)[0-9a-f]{32}",
        r"key-[0-9a-z]{24,}",
        r"[0-9a-f]{32}-us\d{1,2}",
        r"\d{8,10}:[\w-]{30,}",
        r"[MNO][\w-]{22,27}\.[\w-]{6,7}\.[\w-]{25,}",
        r"(?:ntn|secret)_\w{24,}",
        r"CFPAT-[\w-]{12,}",
        r"ops_eyJ[\w-]{12,}",
        r"A3-[A-Z0-9]{6}-[A-Z0-9-]{12,}",
        r"sl\.[\w-]{40,}",
        r"eyJ[\w-]{6,}\.[\w-]{2,}(?:\.[\w-]*)?",
        r"[0-9a-fA-F]{32,}",
    )
)
_SCHEMES = (
    "basic|bearer|token|digest|negotiate|ntlm|apikey|api-key|hawk|ssws|aws4-hmac-sha256|sharedaccesssignature|key"
)
_PAIRS = r"(?:=\"[^\"]{0,256}\"|[^\s\"',;}\]])++(?:,\s?[\w-]{1,40}=(?:\"[^\"]{0,256}\"|[^\s,]++))*+"


def _after(names: str, *, bare: bool) -> list[tuple[re.Pattern[str], str]]:
    """Return rules for values after these names: quoted, and also `bare`. Quotes are kept, so that JSON stays JSON."""
    made = [(re.compile(f"(?i)({names}){value}"), rf"\1\2{HIDDEN}") for value in (_QUOTED, _QUOTED_TWICE)]
    return [*made, (re.compile(f"(?i)({names}){_BARE}"), rf"\1{HIDDEN}")] if bare else made


_FIRST: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE|SECRET) KEY(?: BLOCK)?-----"
            r".*?(?:-----END [A-Z0-9 ]{0,60}-----|\Z)",
            re.DOTALL,
        ),
        HIDDEN,
    ),
    # A URL's user and password, which may contain a slash or an @ that should have been encoded.
    (re.compile(r"(?<=://)[^\s/@:\"'<>]{0,128}:(?!\d{1,5}[/\s])[^\s\"'<>]{1,256}@"), f"{HIDDEN}@"),
    (re.compile(r"(?<=://)[^\s/@\"'<>]{1,256}@"), f"{HIDDEN}@"),
    (re.compile(r"(?<=thin:)[^\s/@]{1,64}/[^\s@]{1,128}@"), f"{HIDDEN}@"),  # Oracle's JDBC
    (re.compile(r"(?<![\w/.@-])(?!mailto:)[\w.+-]{1,64}:[^\s@/:\"'<>]{1,128}@(?=\w)"), f"{HIDDEN}@"),
    (re.compile(r"(?<![\w-])(-u|--(?:proxy-)?user)([ =]{1,3})[^\s:]{0,64}:\S++"), rf"\1\2{HIDDEN}"),
    (
        re.compile(
            rf"(?i)(authorization{_QUOTE}?\s{{0,3}}[:=,]\s{{0,3}}{_BYTES}(?:{_QUOTE})?(?:(?:{_SCHEMES})\s{{1,3}}))(?!\*\*\*){_PAIRS}"
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            rf"(?i)(authorization{_QUOTE}?\s{{0,3}}[:=,]\s{{0,3}}{_BYTES}(?:{_QUOTE})?)(?!(?:{_SCHEMES})\s|\*\*\*){_PAIRS}(?:\s[^\s\"',;]++)?"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer\s{1,3})(?!token|auth|\*\*\*)[\w.~+/=-]{6,}"), rf"\1{HIDDEN}"),
    (
        re.compile(r"(?i)\b((?:basic|digest|token|apikey|ssws)\s{1,3})(?=[\w.~+/-]{0,64}[\d=])[\w.~+/=-]{6,}"),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            rf"(?i)\b((?:set-)?cookie2?{_QUOTE}?\s{{0,3}}[:=,]\s{{0,3}}{_BYTES}(?:{_QUOTE})?)[^\s;\"']++(?:;\s?[^\s;\"']++)*+"
        ),
        rf"\1{HIDDEN}",
    ),
    # The URLs of chat webhooks are credentials.
    (re.compile(r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[\w/+-]++"), rf"\1{HIDDEN}"),
    (re.compile(r"(discord(?:app)?\.com/api/webhooks/)[\w/-]++"), rf"\1{HIDDEN}"),
    (re.compile(r"(webhook\.office\.com/)[\w/@-]++"), rf"\1{HIDDEN}"),
    (re.compile(r"(api\.telegram\.org/bot)[\w:-]++"), rf"\1{HIDDEN}"),
)
# Rules for values after a name. Each takes as long as the search for a name, without which none of them can match.
_NAMED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"(?i)({_NAMES}{_REST}>)[^<]++"), rf"\1{HIDDEN}"),  # an element of XML
    *_after(
        rf"{_NAMES}{_REST}(?:{_QUOTE}|\s(?:provided|given|used))?\]?\s{{0,3}}(?:=>|:=|==?|:|%3[AD])\s{{0,3}}{_BYTES}",
        bare=True,
    ),
    *_after(rf"{_NAMES}{_REST}{_QUOTE},\s{{0,3}}{_BYTES}", bare=False),
    *_after(rf"(?<=-){_NAMES}\s{{1,3}}(?!-)", bare=True),  # an option of a command
    (re.compile(rf"(?i)(passw(?:or)?d\s{{1,3}})(?=[^\s\d]{{0,64}}\d){_BARE}"), rf"\1{HIDDEN}"),
    *_after(rf"{_NAMES}\s{{1,3}}(?:(?:is|was)\s{{1,3}})?", bare=False),
)
_NAME = re.compile(f"(?i){_NAMES}")
_LAST: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)(\blogin\s\S{1,64}\s(?:password|passwd)\s)\S++"), rf"\1{HIDDEN}"),  # .netrc
    (re.compile(r"(?i)(\bidentified\s(?:by|with\s\S{1,40}\sby)\s)\S++"), rf"\1{HIDDEN}"),  # SQL
    (re.compile(rf"(?<![A-Za-z0-9])(?:{_TOKENS})"), HIDDEN),
    # Forty characters of base64 with upper and lower case and digits: an AWS secret key, and many others; not a path.
    (
        re.compile(
            r"(?<![\w+/=.-])(?!(?:[\w+=-]{0,64}/){4})(?=[^\s\d]{0,64}\d)(?=[^\sA-Z]{0,64}[A-Z])(?=[^\sa-z]{0,64}[a-z])[A-Za-z0-9+][\w+/=-]{39,}"
        ),
        HIDDEN,
    ),
)


_QUERY = re.compile(r"([?&])([^=&#\s?]{1,64})=([^&#\s\"'<>]++)")
_QUERY_NAME = re.compile(rf"(?i){_NAMES.replace('(?==)', '')}|^(?:key|code|auth|sig)$")


def _query(found: re.Match[str]) -> str:
    """Hide the value of a query parameter with a secret name."""
    mark, name, value = found.groups()
    return f"{mark}{name}={HIDDEN if _QUERY_NAME.search(name) else value}"


def without_credentials(text: str) -> str:
    """Return the text with ``***`` in place of passwords, tokens, keys, cookies, signatures and private keys."""
    text = _QUERY.sub(_query, text)
    for rules in (_FIRST, _NAMED, _LAST):
        if rules is not _NAMED or _NAME.search(text) is not None:
            for pattern, instead in rules:
                text = pattern.sub(instead, text)
    return text
