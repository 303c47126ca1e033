-- Ends one session.
--
-- KEYS and ARGV 1-2 as in common.lua
-- ARGV  3  digest                           4  why, one byte
--       5  now, eight bytes                 6  until when the tombstone is kept, eight bytes
--       7  milliseconds until the server may drop it
-- Gives {digest, last value}; nothing if it had ended or is not there.
local head = head_of(ARGV[3])
if not head or not is_live(head) then
    return {}
end
local last = redis.call('GET', STEM .. ARGV[3])
finish(ARGV[3], head, ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return { ARGV[3], last }
