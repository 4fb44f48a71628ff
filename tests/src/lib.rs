//! mortise-tests
