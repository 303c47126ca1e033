-- What every script about sessions begins with.
--
-- KEYS  1  digests: sorted set of all sessions, scores 0. Member: digest
--       2  times: sorted set, scored by removable_at. Member: digest, reference, and the subject's name if there is one
--       3  references: sorted set, scores 0. Member: reference, digest
--       4  subjects: sorted set of live sessions, scores 0. Member: name of the subject, digest
--       5  ended: as 4, of sessions that ended
-- ARGV  1  what the key of a session begins with; its digest follows
--       2  the channel that tells which sessions ended
--
-- A session is one string: a head, drawn in head.rs, and the sealed record, which nobody here can read. With equal scores a
-- sorted set is in the order of its members' bytes, so one range of it holds all that begin with the same name.
local DIGESTS, TIMES, REFERENCES, SUBJECTS, ENDED = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local STEM, CHANNEL = ARGV[1], ARGV[2]
local HEAD_BYTES = 83
local LAST_DIGEST = string.rep('\255', 32)

-- Eight bytes as a number, big end first. Times and versions are far below 2^53, up to where Lua counts exactly.
local function number(bytes, at)
    local sum = 0
    for place = at, at + 7 do
        sum = sum * 256 + bytes:byte(place)
    end
    return sum
end

-- By bytes: `<` of two strings goes by the language that the server was started in.
local function before(one, other)
    for at = 1, math.min(#one, #other) do
        local left, right = one:byte(at), other:byte(at)
        if left ~= right then
            return left < right
        end
    end
    return #one < #other
end

-- The head of a session; none if it is not there, or too short to be one.
local function head_of(digest)
    local head = redis.call('GETRANGE', STEM .. digest, 0, HEAD_BYTES - 1)
    if #head == HEAD_BYTES then
        return head
    end
end

local function is_live(head)
    return head:byte(2) == 0
end

local function version(head)
    return head:sub(27, 34)
end

local function subject(head)
    return head:byte(67) == 1 and head:sub(68, 83) or nil
end

-- The member of a session in `times`: all that is needed to find its other members when the session itself is gone.
local function timed(digest, head)
    return digest .. head:sub(51, 66) .. (subject(head) or '')
end

local function index(digest, head)
    redis.call('ZADD', DIGESTS, 0, digest)
    redis.call('ZADD', TIMES, number(head, 11), timed(digest, head))
    redis.call('ZADD', REFERENCES, 0, head:sub(51, 66) .. digest)
    local name = subject(head)
    if name then
        redis.call('ZADD', is_live(head) and SUBJECTS or ENDED, 0, name .. digest)
    end
end

-- Removes a session and all that points to it.
local function remove(member)
    local digest, reference, name = member:sub(1, 32), member:sub(33, 48), member:sub(49)
    redis.call('DEL', STEM .. digest)
    redis.call('ZREM', DIGESTS, digest)
    redis.call('ZREM', REFERENCES, reference .. digest)
    if #name > 0 then
        redis.call('ZREM', SUBJECTS, name .. digest)
        redis.call('ZREM', ENDED, name .. digest)
    end
    redis.call('ZREM', TIMES, member)
end

-- Ends a session: its head says so from now on, and the sealed record stays as it was. `px`: in how many milliseconds the
-- server may drop it; none: as before.
local function finish(digest, head, why, at, removable_at, px)
    local name = subject(head)
    redis.call('ZREM', SUBJECTS, (name or '') .. digest)
    local written = redis.pcall('SETRANGE', STEM .. digest, 1, why .. at .. removable_at)
    if type(written) == 'table' and written.err then
        -- Out of memory. A session must end all the same, without a tombstone then: it is as if it had never been.
        remove(timed(digest, head))
    else
        if px then
            redis.call('PEXPIRE', STEM .. digest, px)
        end
        if name then
            redis.call('ZADD', ENDED, 0, name .. digest)
        end
        redis.call('ZADD', TIMES, number(removable_at, 1), timed(digest, head))
    end
    redis.call('PUBLISH', CHANNEL, digest)
end

-- The names of a subject that are put one after the other in one argument, each of 16 bytes.
local function names_in(argument)
    local names = {}
    for at = 1, #argument, 16 do
        names[#names + 1] = argument:sub(at, at + 15)
    end
    return names
end

-- How many live sessions a subject has under all of its names.
local function count(names)
    local sum = 0
    for _, name in ipairs(names) do
        sum = sum + redis.call('ZLEXCOUNT', SUBJECTS, '[' .. name, '[' .. name .. LAST_DIGEST)
    end
    return sum
end

-- The live sessions of a subject under all of its names.
local function sessions(names)
    local digests = {}
    for _, name in ipairs(names) do
        for _, member in ipairs(redis.call('ZRANGEBYLEX', SUBJECTS, '[' .. name, '[' .. name .. LAST_DIGEST)) do
            digests[#digests + 1] = { digest = member:sub(17), member = member }
        end
    end
    return digests
end

-- Which sessions must end for one more of a subject; none at all if it must not be created. Those that are leaving anyway do
-- not count, and those whose time is over are removed on the way.
local function over_limit(names, max, policy, now, leaving)
    if max == 0 or policy == 'report' or count(names) < max then
        return {}
    end
    local staying = {}
    for _, found in ipairs(sessions(names)) do
        local head = head_of(found.digest)
        if not head then
            redis.call('ZREM', SUBJECTS, found.member)
        elseif leaving[found.digest] then
            -- It makes room itself.
        elseif number(head, 11) <= now then
            remove(timed(found.digest, head))
        else
            staying[#staying + 1] = { digest = found.digest, head = head, seen = number(head, 19) }
        end
    end
    local too_many = #staying + 1 - max
    if too_many <= 0 then
        return {}
    end
    if policy == 'refuse' then
        return nil
    end
    table.sort(staying, function(one, other)
        if one.seen ~= other.seen then
            return one.seen < other.seen
        end
        return before(one.digest, other.digest)
    end)
    local evicted = {}
    for at = 1, too_many do
        evicted[at] = staying[at]
    end
    return evicted
end

-- Stores a new session. It is the first thing that a script writes, so a server that takes no writes refuses all of it.
local function insert(digest, value, px)
    redis.call('SET', STEM .. digest, value, 'PX', px)
    index(digest, value)
end

-- Ends sessions for a newer one; their tombstones stay as long as they would have. Adds them to the answer as they were.
local function evict(evicted, why, now, answer)
    for _, session in ipairs(evicted) do
        answer[#answer + 1] = session.digest
        answer[#answer + 1] = redis.call('GET', STEM .. session.digest)
        finish(session.digest, session.head, why, now, session.head:sub(11, 18), nil)
    end
end

