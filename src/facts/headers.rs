//! Facts read from request headers: navigation, passive, cross-site.
