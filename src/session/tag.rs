//! Tags: the changing half of the cookie, and how one that is presented stands.
