//! mortise-core
