//! The guard: admit a request, settle its response.
