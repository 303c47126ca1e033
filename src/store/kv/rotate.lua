-- Gives a session a new id: the new one is stored, the old one ends, and a second one if there is one.
--
-- KEYS and ARGV 1-2 as in common.lua, ARGV 3-10 as in create.lua
-- ARGV  11 digest of the old session        12 the version of it that the new one was made from, eight bytes
--       13 digest of the second; or empty   14 until when tombstones are kept, eight bytes
--       15 milliseconds until the server may drop them
--       16 why the old one ends, one byte   17 why the second ends, one byte
-- Gives {gone}, {conflict, what is there}, {refused}, or {done, ..} as in create.lua.
local old = head_of(ARGV[11])
if not old or not is_live(old) then
    return { 'gone' }
end
if version(old) ~= ARGV[12] then
    return { 'conflict', redis.call('GET', STEM .. ARGV[11]) }
end
if redis.call('EXISTS', STEM .. ARGV[3]) == 1 then
    return { 'gone' }
end
local leaving = { [ARGV[11]] = true }
local second
if #ARGV[13] > 0 and ARGV[13] ~= ARGV[11] then
    second = head_of(ARGV[13])
    if second and not is_live(second) then
        second = nil
    end
    leaving[ARGV[13]] = true
end
local names = names_in(ARGV[9])
local evicted = over_limit(names, tonumber(ARGV[7]), ARGV[8], number(ARGV[6], 1), leaving)
if not evicted then
    return { 'refused' }
end
local answer = { 'done', 0 }
insert(ARGV[3], ARGV[4], ARGV[5])
finish(ARGV[11], old, ARGV[16], ARGV[6], ARGV[14], ARGV[15])
if second then
    finish(ARGV[13], second, ARGV[17], ARGV[6], ARGV[14], ARGV[15])
end
evict(evicted, ARGV[10], ARGV[6], answer)
answer[2] = count(names)
return answer
