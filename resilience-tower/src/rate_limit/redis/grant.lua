-- Grants permits of one limit by Redis's own time; `store::Held` of resilience-core in Lua.
--
-- KEYS[1]: micro "at", nano "missing", nano "of", in decimal digits with one space between
-- ARGV: permits at least, permits wanted (below 0: given back), nano per permit, nano to fill the bucket
-- Answers: permits granted (0: not as many as at least), nano missing now, micro now
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local least, want = tonumber(ARGV[1]), tonumber(ARGV[2])
local interval, fill = tonumber(ARGV[3]), tonumber(ARGV[4])
local missing, steps_back = 0, false
local held = redis.call('GET', KEYS[1])
if held then
  local at, lacked, of = string.match(held, '^(%d+) (%d+) (%d+)$')
  if not at then
    return redis.error_reply('ERR the key holds something else than a limit')
  end
  at, missing, of = tonumber(at), tonumber(lacked), tonumber(of)
  steps_back = now < at
  if not steps_back then
    missing = math.max(0, missing - (now - at) * 1000)
  end
  if of ~= fill and of ~= 0 then
    missing = math.ceil(missing / of * fill)
  end
  missing = math.min(missing, fill)
end
local free = math.floor((fill - missing) / interval)
local granted = 0
if want < 0 then
  missing = math.max(0, missing + want * interval)
elseif free >= least then
  granted = math.max(least, math.min(want, math.floor(free / 4)))
end
missing = missing + granted * interval
if granted > 0 or want < 0 or steps_back then
  -- Gone when the bucket is full again, and never before.
  local lasts = math.floor(missing / 1000000) + 2
  redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', now, missing, fill), 'PX', lasts)
end
return {granted, missing, now}
