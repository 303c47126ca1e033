//! Reading `Cookie` and `Set-Cookie`, writing ours.
