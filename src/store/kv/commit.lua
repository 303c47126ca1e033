-- Replaces a live session by one made from the version that is stored.
--
-- KEYS and ARGV 1-2 as in common.lua
-- ARGV  3  digest                           4  its new head and sealed record  5  milliseconds until the server may drop it
--       6  the version that it was made from, eight bytes
--       7  marks that the stored one may have, each of 16 bytes, one after the other: what never changes under one id is the same
-- Gives {done}, {gone}, {conflict, what is there}, or {fixed, what is there} if the new one would change what never changes.
local digest, new = ARGV[3], ARGV[4]
local stored = head_of(digest)
if not stored or not is_live(stored) then
    return { 'gone' }
end
if version(stored) ~= ARGV[6] then
    return { 'conflict', redis.call('GET', STEM .. digest) }
end
local is_same = false
for at = 1, #ARGV[7], 16 do
    is_same = is_same or ARGV[7]:sub(at, at + 15) == stored:sub(35, 50)
end
if not is_same then
    return { 'fixed', redis.call('GET', STEM .. digest) }
end
redis.call('SET', STEM .. digest, new, 'PX', ARGV[5])
local was = timed(digest, stored)
if was ~= timed(digest, new) or not is_live(new) then
    -- The name of a subject is another under another key of the ring; and a caller may store an end this way.
    redis.call('ZREM', TIMES, was)
    local name = subject(stored)
    if name then
        redis.call('ZREM', SUBJECTS, name .. digest)
    end
    index(digest, new)
elseif stored:sub(11, 18) ~= new:sub(11, 18) then
    redis.call('ZADD', TIMES, number(new, 11), was)
end
if not is_live(new) then
    redis.call('PUBLISH', CHANNEL, digest)
end
return { 'done' }
