//! mortise-benches
