-- Creates a session.
--
-- KEYS and ARGV 1-2 as in common.lua
-- ARGV  3  digest of the new session        4  its head and sealed record     5  milliseconds until the server may drop it
--       6  now, eight bytes                 7  most sessions of the subject; 0: as many as he likes
--       8  beyond: refuse, evict or report  9  all names of the subject       10 why a session ends that is evicted, one byte
-- Gives {exists}, {refused}, or {done, live sessions of the subject, digest, last value, digest, ..} of those that were evicted.
if redis.call('EXISTS', STEM .. ARGV[3]) == 1 then
    return { 'exists' }
end
local names = names_in(ARGV[9])
local evicted = over_limit(names, tonumber(ARGV[7]), ARGV[8], number(ARGV[6], 1), {})
if not evicted then
    return { 'refused' }
end
local answer = { 'done', 0 }
insert(ARGV[3], ARGV[4], ARGV[5])
evict(evicted, ARGV[10], ARGV[6], answer)
answer[2] = count(names)
return answer
