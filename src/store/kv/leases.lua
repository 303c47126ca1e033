-- Which nodes serve from caches, and what they have not returned: see `leases`.
--
-- KEYS  1  nodes: scored by the millisecond, by the clock of the server, until which they have a lease
--       2  recalls: a node, eight bytes, and what it is to return; scored by the millisecond in which it was made
-- ARGV  1  what is done
--       renew   2  node    3  for how long, milliseconds    4, ..  what it returns
--               gives 1 if it had a lease, else 0; for how long it has one now; and what it still is to return
--       recall  2  node    3  recall    4  channel;    gives how many others have a lease
--       open    2  recall;    gives how many of those have not returned it
--       leave   2  node
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nodes, recalls = KEYS[1], KEYS[2]

local function text(number)
    return string.format('%.0f', number)
end

-- What these nodes still are to return, and since when.
local function open_of(wanted)
    local open, oldest = {}, now
    local all = redis.call('ZRANGE', recalls, 0, -1, 'WITHSCORES')
    for at = 1, #all, 2 do
        if wanted[string.sub(all[at], 1, 8)] then
            open[#open + 1] = all[at]
            oldest = math.min(oldest, tonumber(all[at + 1]))
        end
    end
    return open, oldest
end

-- A server that is full lets a script go on that has written something, and this takes no room.
redis.call('ZREM', recalls, '')
if ARGV[1] == 'renew' then
    local node = ARGV[2]
    for at = 4, #ARGV do
        redis.call('ZREM', recalls, node .. ARGV[at])
    end
    local open, oldest = open_of({[node] = true})
    local before = tonumber(redis.call('ZSCORE', nodes, node) or 0)
    local ends = math.max(before, oldest + ARGV[3])
    redis.call('ZADD', nodes, text(ends), node)
    local answer = {before > now and 1 or 0, math.max(ends - now, 0)}
    for _, recall in ipairs(open) do
        answer[#answer + 1] = string.sub(recall, 9)
    end
    return answer
elseif ARGV[1] == 'recall' then
    local gone, others = {}, 0
    for _, node in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', text(now))) do
        redis.call('ZREM', nodes, node)
        gone[node] = true
    end
    if next(gone) then
        for _, recall in ipairs((open_of(gone))) do
            redis.call('ZREM', recalls, recall)
        end
    end
    for _, node in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
        if node ~= ARGV[2] then
            redis.call('ZADD', recalls, text(now), node .. ARGV[3])
            others = others + 1
        end
    end
    if others > 0 then
        redis.call('PUBLISH', ARGV[4], ARGV[3])
    end
    return others
elseif ARGV[1] == 'leave' then
    redis.call('ZREM', nodes, ARGV[2])
    for _, recall in ipairs((open_of({[ARGV[2]] = true}))) do
        redis.call('ZREM', recalls, recall)
    end
    return 0
end
local open = 0
for _, node in ipairs(redis.call('ZRANGEBYSCORE', nodes, '(' .. text(now), '+inf')) do
    if redis.call('ZSCORE', recalls, node .. ARGV[2]) then
        open = open + 1
    end
end
return open
