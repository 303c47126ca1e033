-- Ends the live sessions of a subject.
--
-- KEYS and ARGV 1-2 as in common.lua
-- ARGV  3  all names of the subject         4  digest of one that goes on; or empty
--       5  why, one byte                    6  now, eight bytes
--       7  until when tombstones are kept, eight bytes
--       8  milliseconds until the server may drop them
-- Gives {digest, last value, digest, ..}.
local answer = {}
for _, found in ipairs(sessions(names_in(ARGV[3]))) do
    local head = head_of(found.digest)
    if not head then
        redis.call('ZREM', SUBJECTS, found.member)
    elseif found.digest ~= ARGV[4] then
        answer[#answer + 1] = found.digest
        answer[#answer + 1] = redis.call('GET', STEM .. found.digest)
        finish(found.digest, head, ARGV[5], ARGV[6], ARGV[7], ARGV[8])
    end
end
return answer
