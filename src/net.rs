//! Networks: prefixes, sets of them, and who is trusted to speak for a client.
