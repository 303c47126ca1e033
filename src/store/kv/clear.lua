-- Removes sessions whose time is over, and whatever points to those that the server has dropped itself.
--
-- KEYS and ARGV 1-2 as in common.lua
-- ARGV  3  now, eight bytes                 4  how many at most
-- Gives how many.
local due = redis.call('ZRANGEBYSCORE', TIMES, '-inf', number(ARGV[3], 1), 'LIMIT', 0, ARGV[4])
for _, member in ipairs(due) do
    remove(member)
end
return #due
