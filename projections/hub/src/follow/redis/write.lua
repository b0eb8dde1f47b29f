-- Writes for a gateway, or nothing: only if the cursor is still `expected`, and nobody has written with a newer fencing
-- number. All keys of a gateway have the same hash tag.
-- KEYS: cursor, set of device names, stream of changes, then the key of each device.
-- ARGV: fence, expected mark, mark, clear (0 or 1), TTL in seconds or 0, length of the stream or 0,
--   count of cursor fields and values, these, count of events; per event: id, count, fields and values;
--   then per device: name, count, fields and values.
local cursor, names, changes = KEYS[1], KEYS[2], KEYS[3]
local stored = redis.call('HMGET', cursor, 'fence', 'mark')
if stored[1] and tonumber(stored[1]) > tonumber(ARGV[1]) then return {'fenced', stored[1]} end
if (stored[2] or '') ~= ARGV[2] then return {'moved', ''} end
local ttl, length, at = tonumber(ARGV[5]), tonumber(ARGV[6]), 7

local function take()
    local count = tonumber(ARGV[at])
    local first = at + 1
    at = first + count
    return first, at - 1
end

-- In parts, as Lua cannot pass any number of arguments at once.
local function set(key, first, last)
    for from = first, last, 1000 do
        redis.call('HSET', key, unpack(ARGV, from, math.min(from + 999, last)))
    end
end

if ARGV[4] == '1' then
    local prefix = string.sub(names, 1, -string.len('devices') - 1)
    for _, name in ipairs(redis.call('SMEMBERS', names)) do
        redis.call('UNLINK', prefix .. 'device:' .. name)
    end
    redis.call('UNLINK', cursor, names, changes)
end
local cursor_first, cursor_last = take()

local events = tonumber(ARGV[at])
at = at + 1
for _ = 1, events do
    local id = ARGV[at]
    at = at + 1
    local first, last = take()
    if length > 0 then
        local added = redis.pcall('XADD', changes, 'MAXLEN', '~', length, id, unpack(ARGV, first, last))
        -- The entry is there already if this script has failed half-way before.
        if type(added) == 'table' and added.err and not string.find(added.err, 'equal or smaller') then return added end
    end
end

for key = 4, #KEYS do
    local name = ARGV[at]
    at = at + 1
    redis.call('UNLINK', KEYS[key])
    set(KEYS[key], take())
    if ttl > 0 then redis.call('EXPIRE', KEYS[key], ttl) end
    redis.call('SADD', names, name)
end
-- Last: what is above may be done twice.
set(cursor, cursor_first, cursor_last)
redis.call('HSET', cursor, 'fence', ARGV[1], 'mark', ARGV[3])
return {'written', ''}
