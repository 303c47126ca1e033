//! The app's cookies that the client never sees.
