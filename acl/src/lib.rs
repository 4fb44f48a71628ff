//! mortise-acl
