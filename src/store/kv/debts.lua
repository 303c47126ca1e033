-- Changes numbers that guards share: the debts of limits, delays after failures, and what is remembered.
--
-- KEYS  1  what was taken of rates: sorted set, scored by the microsecond at which it is paid back
--       2  failures: scored by the millisecond until which they are remembered, times 16, and the level
--       3  what is remembered: scored by the millisecond until which
-- ARGV  1  now, milliseconds    2  most keys of each set
--       3  key, eight bytes     4  step    5, 6  what it takes
--       7, 8, ..  as 3-6, for further steps
-- Gives two numbers for each step up to the first that is refused: 1 if it was refused, else 0; and the milliseconds to wait, or
-- until which the number means something.
--
--   take   interval in microseconds, burst     wait    longest delay in milliseconds
--   add    interval, and `count burst microseconds within which`
--                                              grow    highest level
--   keep   milliseconds                        forgive, recall
local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local ACCOUNT = {take = 1, add = 1, wait = 2, grow = 2, forgive = 2, keep = 3, recall = 3}
local micros = now * 1000
local NOTHING = {micros, now * 16 + 15, now}
local MEMORY, FREE = 8000, 3

local function until_of(account, number)
    if account == 1 then
        return math.floor(number / 1000)
    elseif account == 2 then
        return math.floor(number / 16)
    end
    return number
end

local function waited(number, longest)
    local level = number % 16
    if level < FREE then
        return 0
    end
    local delay = math.min(1000 * 2 ^ (level - FREE), longest)
    return math.max(math.floor(number / 16) - MEMORY * 2 ^ level + delay - now, 0)
end

local function grown(number, highest)
    local left = math.max(math.floor(number / 16) - now, 0)
    local level = 0
    while level < highest and MEMORY * 2 ^ level < left * 2 do
        level = level + 1
    end
    return (now + MEMORY * 2 ^ level) * 16 + level
end

-- The number afterwards; or none, and how many milliseconds are to be waited.
local function apply(step, number, first, second)
    if step == 'take' then
        local interval, burst = tonumber(first), tonumber(second)
        local owed = math.max(number, micros)
        local early = owed - micros - interval * (burst - 1)
        if early > 0 then
            return nil, math.ceil(early / 1000)
        end
        return owed + interval
    elseif step == 'add' then
        local interval = tonumber(first)
        local count, burst, within = string.match(second, '^(%d+) (%d+) (%d+)$')
        local owed = math.max(number, micros - tonumber(within)) + interval * tonumber(count)
        return math.max(math.min(owed, micros + interval * tonumber(burst)), number)
    elseif step == 'wait' then
        local wait = waited(number, tonumber(first))
        if wait > 0 then
            return nil, wait
        end
        return number
    elseif step == 'grow' then
        return grown(number, tonumber(first))
    elseif step == 'forgive' then
        return 0
    elseif step == 'keep' then
        return math.max(number, tonumber(first))
    end
    return number
end

-- Who owes least gives way, and who takes his place owes as much. What is remembered is not inherited.
local function make_room(account)
    local inherited = 0
    while redis.call('ZCARD', KEYS[account]) >= most do
        local least = redis.call('ZRANGE', KEYS[account], 0, 0, 'WITHSCORES')
        redis.call('ZREM', KEYS[account], least[1])
        inherited = tonumber(least[2])
    end
    return account == 3 and 0 or inherited
end

local cleared, answer = {}, {}
for at = 3, #ARGV, 4 do
    local key, step = ARGV[at], ARGV[at + 1]
    local account = ACCOUNT[step]
    local set = KEYS[account]
    if not cleared[account] then
        redis.call('ZREMRANGEBYSCORE', set, '-inf', string.format('%.0f', NOTHING[account]))
        cleared[account] = true
    end
    local score = redis.call('ZSCORE', set, key)
    local number = tonumber(score or 0)
    local next, wait = apply(step, number, ARGV[at + 2], ARGV[at + 3])
    if not next then
        answer[#answer + 1] = 1
        answer[#answer + 1] = wait
        break
    end
    if next <= NOTHING[account] then
        if score then
            redis.call('ZREM', set, key)
        end
    elseif next ~= number then
        if not score then
            next = math.max(next, make_room(account))
        end
        redis.call('ZADD', set, string.format('%.0f', next), key)
    end
    answer[#answer + 1] = 0
    answer[#answer + 1] = until_of(account, next)
end
return answer
