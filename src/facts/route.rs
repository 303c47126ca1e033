//! One canonical path per request, and the patterns that match it.
