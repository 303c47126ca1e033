-- Counts matches of rules, each in its own window.
--
-- KEYS  1  keys that rules count which are obeyed: sorted set, scored by when their windows are over
--       2  as 1, of rules that are only observed
-- ARGV  1  what the key of a window begins with; eight bytes follow
--       2  now, milliseconds                3  most keys that are obeyed       4  most keys that are only observed
--       5  key, eight bytes                 6  how many times are kept: that many are one too many
--       7  the window, milliseconds         8  1: it is obeyed, 2: it is only observed
--       9, 10, ..  as 5-8, for further matches
-- Gives 1 or 0 for each: whether that was one too many.
local STEM, now = ARGV[1], tonumber(ARGV[2])
-- Of so many keys whose windows are over first, the one with the fewest times gives way.
local LOOK_AT = 16

for set = 1, 2 do
    redis.call('ZREMRANGEBYSCORE', KEYS[set], '-inf', now)
end

-- Of a spray of keys each has matched once, and who is about to be caught has matched more often.
local function make_room(set, most)
    while redis.call('ZCARD', set) >= most do
        local least, fewest
        for _, key in ipairs(redis.call('ZRANGE', set, 0, LOOK_AT - 1)) do
            local times = redis.call('LLEN', STEM .. key)
            if not fewest or times < fewest then
                least, fewest = key, times
            end
        end
        redis.call('DEL', STEM .. least)
        redis.call('ZREM', set, least)
    end
end

local answer = {}
for at = 5, #ARGV, 4 do
    local key, most, within = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local set = KEYS[tonumber(ARGV[at + 3])]
    local times = STEM .. key
    if not redis.call('ZSCORE', set, key) then
        make_room(set, tonumber(ARGV[2 + tonumber(ARGV[at + 3])]))
    end
    local kept = redis.call('LLEN', times)
    while kept > 0 do
        local first = tonumber(redis.call('LINDEX', times, 0))
        -- A time that lies ahead, of a node whose clock is, is in every window.
        if kept < most and now - first < within then
            break
        end
        redis.call('LPOP', times)
        kept = kept - 1
    end
    redis.call('RPUSH', times, ARGV[2])
    redis.call('PEXPIRE', times, within)
    redis.call('ZADD', set, now + within, key)
    answer[#answer + 1] = kept + 1 >= most and 1 or 0
end
return answer
