"""A budget in Redis: `Quota` of `core.policy.leasing` as one Lua script, so that a lease is one round trip.

Keys: ``openaiasync:{NAME}`` (a hash: limits and virtual times), ``…:workers`` (what each worker asks for) and
``…:seen`` (when each leased last). All expire ten minutes after the last lease. The braces keep them in one slot of a
cluster. The clock is that of Redis. The password of the URL is shown nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..core.policy.leasing import FORMAT, Grant, LeaseRequest
from ..errors import ConfigurationError
from .base import SharedLimitsError, name_in

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["SCRIPT", "RedisBudget"]

TIMEOUT = 2.0  # seconds for a connection or an answer

# Mirrors `Quota.lease` and `_Rate`; tests compare the two. Numbers that are not known are absent.
SCRIPT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local request = cjson.decode(ARGV[1])
local FORMAT, DEBT, AHEAD, IDLE, RENEW, EXPIRES, PATIENCE, SOONEST, CYCLE, MARGIN, CONFIGURED, HEADER =
  %(format)d, 0.08, 0.05, 0.02, 0.75, 1.0, 0.5, 0.1, 260, 0.03, 0.997, 0.985
local INF = math.huge
local function given(value) if value == nil or value == cjson.null then return nil end return tonumber(value) end
local stored = redis.call('HGETALL', KEYS[1])
local state = {}
for index = 1, #stored, 2 do state[stored[index]] = stored[index + 1] end
if state.format and tonumber(state.format) ~= FORMAT then return cjson.encode({error = 'format'}) end
local function kept(name, default) return tonumber(state[name]) or default end
local function load(kind)
  local one = {kind = kind, configured = kept(kind .. 'configured'), header = kept(kind .. 'header')}
  for name, default in pairs({wall = 0, sent = 0, cut = -INF, due = -INF, hold = -INF, demand = 0, recent = 0,
    recent_at = 0}) do one[name] = kept(kind .. name, default) end
  one.base = kept(kind .. 'base')
  return one
end
local requests, tokens = load('r'), load('t')
local function rate(one)
  local found = INF
  if one.configured then found = one.configured / 60 * CONFIGURED end
  if one.header then found = math.min(found, one.header * HEADER) end
  if not one.base then return found end
  local done, gap = one.sent / CYCLE, math.max(math.min(one.wall / one.base, 4) - 1, MARGIN)
  if done <= 1 then return math.min(found, one.base * (1 + gap * (1 + (2 * done - 1) ^ 3))) end
  return math.min(found, one.base * (1 + 2 * gap) * math.exp(math.min(20, 4 * (done - 1))))
end
local function returned(one, amount)
  local found = rate(one)
  if found < INF then one.due = one.due - amount / found end
end
local function refused(one, age, pause)
  one.hold = math.max(one.hold, now + pause)
  if now - age <= one.cut then return end
  local found = rate(one)
  if found == INF then
    found = math.max(1, one.recent / 0.5)
    one.base = 0.5 * found
  else
    one.base = found * math.min(1 - MARGIN, math.max(0.7, 1 - 3 / (one.sent + 1)))
  end
  one.wall, one.sent, one.cut = found, 0, now
end
local function book(one, cost, rows)
  one.sent = one.sent + rows
  one.recent = one.recent * math.exp((one.recent_at - now) / 0.5) + cost
  one.recent_at = now
  local found = rate(one)
  if found < INF then one.due = math.max(one.due, now - DEBT) + cost / found end
end
local function split(text)
  local requested, tokens, credit, seen = string.match(text, '(%%S+) (%%S+) (%%S+) (%%S+)')
  return {tonumber(requested), tonumber(tokens), tonumber(credit), tonumber(seen)}
end
local function forget(name)
  local text = redis.call('HGET', KEYS[2], name)
  redis.call('HDEL', KEYS[2], name)
  redis.call('ZREM', KEYS[3], name)
  if not text then return end
  local worker = split(text)
  local alone = redis.call('HLEN', KEYS[2]) == 0
  requests.demand = alone and 0 or math.max(0, requests.demand - worker[1])
  tokens.demand = alone and 0 or math.max(0, tokens.demand - worker[2])
end
local function exact(value) return string.format('%%.17g', value) end
local function save(one)
  local pairs_ = {}
  for name, value in pairs(one) do
    if name ~= 'kind' and value > -INF and value < INF then
      pairs_[#pairs_ + 1] = one.kind .. name
      pairs_[#pairs_ + 1] = exact(value)
    end
  end
  return pairs_
end
local function finish(grant)
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'format', FORMAT, unpack(save(requests)))
  redis.call('HSET', KEYS[1], unpack(save(tokens)))
  for index = 1, 3 do redis.call('PEXPIRE', KEYS[index], 600000) end
  grant.rpm, grant.tpm = requests.configured, tokens.configured
  for name, value in pairs(grant) do if type(value) == 'number' then grant[name] = exact(value) end end
  return cjson.encode(grant)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. exact(now - EXPIRES))) do forget(name) end
local rpm, tpm = given(request.rpm), given(request.tpm)
if not state.format or request.event == 'change' or (request.event == 'join' and redis.call('HLEN', KEYS[2]) == 0) then
  requests.configured, tokens.configured = rpm, tpm
end
if request.event == 'join' and (requests.configured ~= rpm or tokens.configured ~= tpm) then
  return finish({error = 'limits'})
end
returned(requests, request.left_requests)
returned(tokens, request.left_tokens)
requests.header = given(request.header_requests) or requests.header
tokens.header = given(request.header_tokens) or tokens.header
for _, one in ipairs(request.refusals) do refused(one[1] == 'tokens' and tokens or requests, one[2], one[3]) end
if request.event == 'leave' then
  forget(request.worker)
  return finish({})
end
local text = redis.call('HGET', KEYS[2], request.worker)
local worker = text and split(text) or {0, 0, 0, now}
requests.demand = requests.demand + request.requests - worker[1]
tokens.demand = tokens.demand + request.tokens - worker[2]
local span = math.min(math.max(request.ms / 1000, 0.1), 0.25)
local hold = math.max(0, requests.hold - now, tokens.hold - now)
local grant = {span = span, hold = hold, again = PATIENCE}
local rows = math.floor(request.requests)
local share, room, idle, after = INF, INF, INF, hold
local each = request.requests > 0 and request.tokens / request.requests or 0
local parts = {{requests, request.requests, 1, 'share_requests'}, {tokens, request.tokens, each, 'share_tokens'}}
for _, part in ipairs(parts) do
  local one, cost, found = part[1], part[3], rate(part[1])
  if found < INF then
    local portion = one.demand > 0 and found * (part[2] / one.demand) or 0
    grant[part[4]] = portion
    local due = math.max(one.due, now - DEBT)
    after = math.max(after, due - now)
    if cost > 0 then
      share = math.min(share, portion / cost)
      room = math.min(room, math.max((now + span + AHEAD - due) * found / cost, due <= now + span and 1 or 0))
      idle = math.min(idle, math.max((now + IDLE - due) * found / cost, due <= now + IDLE and 1 or 0))
    end
  end
end
local credit = 0
if share < INF then
  credit = math.min(worker[3] + share * (now - worker[4]), math.max(1, 2 * share * span))
  local fits = math.min(room, math.max(credit + share * span, idle))
  rows = hold <= span and math.max(0, math.floor(math.min(rows, fits) + 1e-9)) or 0
  credit = credit - rows
end
redis.call('HSET', KEYS[2], request.worker,
  table.concat({exact(request.requests), exact(request.tokens), exact(credit), exact(now)}, ' '))
redis.call('ZADD', KEYS[3], exact(now), request.worker)
if rows > 0 then
  book(requests, rows, rows)
  book(tokens, rows * each, rows)
  grant.again = RENEW * span
elseif request.requests > 0 and share > 0 then
  grant.again = math.min(PATIENCE, math.max(SOONEST, hold, after - span, (1 - credit - share * span) / share))
end
grant.after = after
if grant.share_requests then grant.requests = rows end
if grant.share_tokens then grant.tokens = rows * each end
return finish(grant)
""" % {"format": FORMAT}  # noqa: UP031

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Grant, strict=False).decode


class RedisBudget:
    """The budget of a ``redis://``, ``rediss://`` or ``unix://`` URL with a ``name``; its other parameters are those of
    the package ``redis``, such as ``ssl_ca_certs``."""

    def __init__(self, url: str) -> None:
        try:
            import redis.asyncio
            import redis.exceptions
        except ImportError:
            raise ConfigurationError(
                "limits in Redis need the package redis: pip install 'openaiasync[redis]'"
            ) from None
        place, name = name_in(url)
        self._errors: Any = redis.exceptions
        try:
            self._redis: Redis = redis.asyncio.Redis.from_url(
                place, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=None
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"the URL of the shared limits cannot be used ({type(error).__name__})") from None
        known = self._redis.connection_pool.connection_kwargs
        self._place = str(known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}")
        self._run: Any = self._redis.register_script(SCRIPT)
        self._keys = [f"openaiasync:{{{name}}}{end}" for end in ("", ":workers", ":seen")]

    async def lease(self, request: LeaseRequest) -> Grant:
        errors = self._errors
        try:
            return _decode(await self._run(keys=self._keys, args=[_encode(request)]))
        except (errors.NoPermissionError, errors.AuthenticationError, errors.AuthorizationError) as error:
            raise ConfigurationError(
                f"Redis at {self._place} does not permit the shared limits ({type(error).__name__}): the user needs "
                f"evalsha, eval and script|load on keys openaiasync:*"
            ) from None
        except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
            raise SharedLimitsError(
                f"the shared limits in Redis at {self._place} cannot be reached ({type(error).__name__})"
            ) from None
        except errors.RedisError as error:
            text = str(error)
            if "NOPERM" in text or "WRONGTYPE" in text or "NOAUTH" in text:
                raise ConfigurationError(
                    f"the shared limits in Redis at {self._place} cannot be used: {text}"
                ) from None
            raise SharedLimitsError(f"Redis at {self._place} failed for the shared limits: {text}") from None
        except msgspec.DecodeError:
            raise ConfigurationError(f"Redis at {self._place} holds other data under the name of the limits") from None

    def drop(self) -> None:
        """Close the connections at once."""
        pool: Any = self._redis.connection_pool
        for one in [*pool._available_connections, *pool._in_use_connections]:
            if one._writer is not None:
                one._writer.transport.abort()
                one._writer = one._reader = None  # otherwise its finalizer warns
        pool.reset()

    async def aclose(self) -> None:
        await self._redis.aclose()
