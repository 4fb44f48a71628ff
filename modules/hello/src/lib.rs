//! mortise-hello
