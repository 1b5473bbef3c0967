-- One lease: `Quota.lease` of core/policy/shared_quota.py, inside Redis. A test compares the two, for any sequence of requests.
--
-- KEYS[1]: the two limits. KEYS[2]: a hash with each worker's requests, tokens, credit and time of its last lease.
-- KEYS[3]: the workers, sorted by this time. What is stored is MessagePack, which keeps numbers exactly. ARGV[1]: the
-- `LeaseRequest` as JSON. Returns the `Grant` as JSON, with numbers as text, since cjson rounds them. Needs Redis 5:
-- before, a script could not write after it had read the time.

local FORMAT, DEBT, AHEAD, IDLE, RENEW, EXPIRES, PATIENCE, SOONEST = 2, 0.08, 0.05, 0.02, 0.75, 1, 0.5, 0.1
local CYCLE, SHORT, MARGIN, SPREAD, RECENT, LEAST = 260, 60, 0.03, 0.3, 0.5, 10
local START, GROWTH, PROVEN, FAST = 100, 2, 1000, 65
local CONFIGURED_SHARE, HEADER_SHARE = 0.997, 0.985
local TTL = 600000 -- milliseconds after the last lease
local INF = math.huge

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local request = cjson.decode(ARGV[1])
for name, value in pairs(request) do
  if value == cjson.null then request[name] = nil end
end

local state = redis.call('GET', KEYS[1])
if state then
  local is_readable, found = pcall(cmsgpack.unpack, state)
  if not is_readable or type(found) ~= 'table' then return cjson.encode({error = 'data'}) end
  if found.format ~= FORMAT then return cjson.encode({error = 'format'}) end
  state = found
end

local function exact(value) return string.format('%.17g', value) end

local function fresh()
  return {wall = 0, sent = 0, cut = -INF, due = now, hold = -INF, demand = 0, recent = 0, recent_at = -INF,
    began = now, cycle = CYCLE}
end
local requests, tokens = state and state.requests or fresh(), state and state.tokens or fresh()

local function is_unknown(one) return not (one.configured or one.header or one.base) end

local function rate(one)
  if one == requests and one.sent < PROVEN and is_unknown(requests) and is_unknown(tokens) then
    return math.max(START, GROWTH * one.recent / RECENT)
  end
  local found = INF
  if one.configured then found = one.configured / 60 * CONFIGURED_SHARE end
  if one.header then found = math.min(found, one.header * HEADER_SHARE) end
  if not one.base then return found end
  local done, gap = one.sent / (one.cycle * math.max(1, one.base / FAST)), math.max(math.min(one.wall / one.base, 4) - 1, MARGIN)
  if done <= 1 then return math.min(found, one.base * (1 + gap * (1 + (2 * done - 1) ^ 3))) end
  local grown = one.base * (1 + 2 * gap)
  local risen = math.min(grown * math.exp(math.min(20, 4 * (done - 1))), 2 * one.recent / RECENT)
  return math.min(found, math.max(grown, risen))
end

local function configure(one, per_minute)
  if one.configured ~= per_minute then one.configured, one.header, one.base = per_minute, nil, nil end
end

local function report(one, cost, left, header)
  one.sent = one.sent + request.sent_requests
  one.recent = one.recent * math.exp((one.recent_at - now) / RECENT) + cost
  one.recent_at = now
  if header == 0 then one.header = nil elseif header then one.header = header end
  local found = rate(one)
  if found < INF then one.due = one.due - left / found end
end

local function refused(one, age, pause)
  one.hold = math.max(one.hold, now + pause)
  one.sent = math.max(0, one.sent - 1)
  if now - age <= one.cut + SPREAD then return end
  local found = is_unknown(one) and INF or rate(one)
  local real = math.max(LEAST, one.recent / RECENT / math.max(0.1, 1 - math.exp((one.began - now) / RECENT)))
  one.cycle = CYCLE
  if found == INF then
    found, one.cycle = real, SHORT
    one.base = 0.7 * real
  elseif real < 0.7 * found and one.recent > 3 then
    found, one.cycle = real, SHORT
    one.base = 0.95 * real
  elseif not one.base then
    one.base = found * (1 - MARGIN)
  else
    one.base = found * math.min(1 - MARGIN, math.max(0.7, 1 - 3 / (one.sent + 1)))
  end
  one.wall, one.sent, one.cut = found, 0, now
end

local function rescale(one, before)
  local found = rate(one)
  if one.due > now and found ~= before then
    one.due = (before == INF or found == INF) and now or now + (one.due - now) * before / found
  end
end

local function book(one, cost)
  local found = rate(one)
  if found < INF then one.due = math.max(one.due, now - DEBT) + cost / found end
end

local function forget(name)
  local text = redis.call('HGET', KEYS[2], name)
  redis.call('HDEL', KEYS[2], name)
  redis.call('ZREM', KEYS[3], name)
  if not text then return end
  local worker, last = cmsgpack.unpack(text), redis.call('HLEN', KEYS[2]) == 0
  requests.demand = last and 0 or math.max(0, requests.demand - worker[1])
  tokens.demand = last and 0 or math.max(0, tokens.demand - worker[2])
end

local function finish(grant)
  redis.call('SET', KEYS[1], cmsgpack.pack({format = FORMAT, now = now, requests = requests, tokens = tokens}))
  for index = 1, 3 do redis.call('PEXPIRE', KEYS[index], TTL) end
  grant.rpm, grant.tpm = requests.configured, tokens.configured
  for name, value in pairs(grant) do
    if type(value) == 'number' then grant[name] = exact(value) end
  end
  return cjson.encode(grant)
end

-- A clock that was set back: another server has taken over, or its time was corrected.
local last = state and state.now or now
if now < last then
  for _, one in ipairs({requests, tokens}) do
    for _, name in ipairs({'due', 'hold', 'cut', 'recent_at', 'began'}) do one[name] = one[name] + (now - last) end
    one.demand = 0
  end
  redis.call('DEL', KEYS[2], KEYS[3])
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. exact(now - EXPIRES))) do forget(name) end

local before_r, before_t = rate(requests), rate(tokens)
local is_alone = redis.call('HLEN', KEYS[2]) == 0
if not state or request.event == 'change' or (request.event == 'join' and is_alone) then
  configure(requests, request.rpm)
  configure(tokens, request.tpm)
end
if request.event == 'join' and (requests.configured ~= request.rpm or tokens.configured ~= request.tpm) then
  return finish({error = 'limits'})
end
report(requests, request.sent_requests, request.left_requests, request.header_requests)
report(tokens, request.sent_tokens, request.left_tokens, request.header_tokens)
for _, one in ipairs(request.refusals) do refused(one[1] == 'tokens' and tokens or requests, one[2], one[3]) end
rescale(requests, before_r)
rescale(tokens, before_t)
if request.event == 'leave' then forget(request.worker) end
if request.event == 'join' or request.event == 'leave' then
  local count, grant = redis.call('HLEN', KEYS[2]) + 1, {}
  if rate(requests) < INF then grant.share_requests = rate(requests) / count end
  if rate(tokens) < INF then grant.share_tokens = rate(tokens) / count end
  return finish(grant)
end

local text = redis.call('HGET', KEYS[2], request.worker)
local worker = text and cmsgpack.unpack(text) or {0, 0, 0, now}
requests.demand = requests.demand + request.requests - worker[1]
tokens.demand = tokens.demand + request.tokens - worker[2]
local span = math.min(math.max(request.ms / 1000, 0.1), 0.25)
local hold = math.max(0, requests.hold - now, tokens.hold - now)
local grant = {span = span, hold = hold, again = PATIENCE}
local rows = math.floor(request.requests)
if rows > 0 and request.left_requests <= 0 then rows = math.max(rows, math.floor(2 * request.sent_requests)) end
local share, room, idle, after, slowest = INF, INF, INF, hold, 0
local each = request.requests > 0 and request.tokens / request.requests or 0
local limits = {{requests, request.requests, 1, 'share_requests'}, {tokens, request.tokens, each, 'share_tokens'}}
for _, limit in ipairs(limits) do
  local one, wanted, cost, per_second = limit[1], limit[2], limit[3], rate(limit[1])
  if per_second < INF then
    local portion = one.demand > 0 and per_second * (wanted / one.demand) or 0
    grant[limit[4]] = portion
    local due = math.max(one.due, now - DEBT)
    after = math.max(after, due - now)
    if cost > 0 then
      share = math.min(share, portion / cost)
      room = math.min(room, math.max((now + span + AHEAD - due) * per_second / cost, due <= now + span and 1 or 0))
      idle = math.min(idle, math.max((now + IDLE - due) * per_second / cost, due <= now + IDLE and 1 or 0))
      slowest = math.max(slowest, cost / per_second)
    end
  end
end
local credit = 0
if share < INF then
  credit = math.min(worker[3] + share * (now - worker[4]), math.max(1, 2 * share * span))
  local fits = math.min(room, math.max(credit + share * span, idle), hold <= span and rows or 0)
  rows = math.max(0, math.floor(fits + 1e-9))
  credit = math.max(credit - rows, -math.max(1, 2 * share * span))
end
redis.call('HSET', KEYS[2], request.worker, cmsgpack.pack({request.requests, request.tokens, credit, now}))
redis.call('ZADD', KEYS[3], exact(now), request.worker)
if rows > 0 then
  book(requests, rows)
  book(tokens, rows * each)
  grant.again = RENEW * span
  grant.span = math.max(span, rows * slowest)
elseif request.requests > 0 and share > 0 then
  grant.again = math.min(PATIENCE, math.max(SOONEST, hold, after - span, (1 - credit - share * span) / share))
end
grant.after = after
if grant.share_requests then grant.requests = rows end
if grant.share_tokens then grant.tokens = rows * each end
return finish(grant)
