//! How an event is written: JSON lines and a form for people.
