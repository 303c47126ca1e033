-- Looks sessions up in the order of their digests.
--
-- KEYS and ARGV 1-2 as in common.lua
-- ARGV  3  the digest that they come after; empty: from the first
--       4  how many are looked at in each set     5  1: ended ones too
--       6  which of the KEYS, a number            7  what its members begin with before the digest; may be empty
--       8, 9, ..  as 6 and 7, for further sets
-- Gives {digest up to which this is all there is, or empty: all of them, digest, value, digest, ..}. In place of a session that
-- is not wanted or is not there any more stands an empty value. They are in order within a set, not among sets.
local after, most, with_ended = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local answer = { '' }
for at = 6, #ARGV, 2 do
    local set, prefix = KEYS[tonumber(ARGV[at])], ARGV[at + 1]
    local from = #after > 0 and '(' .. prefix .. after or '[' .. prefix
    local members = redis.call('ZRANGEBYLEX', set, from, '[' .. prefix .. LAST_DIGEST, 'LIMIT', 0, most)
    for _, member in ipairs(members) do
        local digest = member:sub(#prefix + 1)
        local value = redis.call('GET', STEM .. digest)
        if not value or #value < HEAD_BYTES or not (with_ended or is_live(value)) then
            value = ''
        end
        answer[#answer + 1] = digest
        answer[#answer + 1] = value
    end
    if #members == most then
        local last = members[most]:sub(#prefix + 1)
        if answer[1] == '' or before(last, answer[1]) then
            answer[1] = last
        end
    end
end
return answer
