//! mortise-abi
